/**
 * A TCP relay in front of the simulator that breaks the connection where it is told to.
 *
 * The simulator plays the service; the relay plays the network. Connections break at an exact byte of an answer, in the head, the
 * body or the last chunk, on any endpoint.
 */
import { connect, createServer, type Server, type Socket } from "node:net";
import { noise } from "../support/sample-media.ts";

/**
 * `reset` sends a TCP reset, `close` ends the connection as if complete, `stall` keeps it open, `garbage` continues with noise.
 */
export type Break = "reset" | "close" | "stall" | "garbage";

export interface Breakage {
  how: Break;
  /** Bytes of the answer that still pass, or the text after which it breaks. */
  at: number | string;
}

/** What happens to the answer of a request; `ordinal` counts the requests of this path from 1. */
export type Rule = (path: string, ordinal: number) => Breakage | undefined;

/** Neither HTTP nor a chunk nor UTF-8. */
const GARBAGE = noise(2048, "garbage");

/** A reset overtakes data that the peer has not read yet. */
const GRACE_MS = 30;

export class Relay {
  rule: Rule = () => undefined;
  /** Called with each request before it goes on to the service. */
  onRequest: (path: string, ordinal: number) => void = () => {};
  /** Bytes of answers that passed. */
  bytes = 0;
  readonly #target: number;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #counts = new Map<string, number>();

  private constructor(target: string) {
    this.#target = Number(new URL(target).port);
    this.#server = createServer((client) => this.#carry(client));
  }

  static async to(target: string, port = 0): Promise<Relay> {
    const relay = new Relay(target);
    await new Promise<void>((listening, failed) => {
      relay.#server.once("error", failed);
      relay.#server.listen(port, "127.0.0.1", listening);
    });
    return relay;
  }

  get origin(): string {
    return `http://127.0.0.1:${(this.#server.address() as { port: number }).port}`;
  }

  /** Number of requests that passed, per path. */
  count(path: string): number {
    return this.#counts.get(path) ?? 0;
  }

  /** Lets everything pass and restarts the counters. */
  forget(): void {
    this.rule = () => undefined;
    this.onRequest = () => {};
    this.bytes = 0;
    this.#counts.clear();
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((closed) => this.#server.close(closed));
  }

  #carry(client: Socket): void {
    const upstream = connect(this.#target, "127.0.0.1");
    let breakage: Breakage | undefined;
    let passed: Buffer[] = [];
    let broken = false;
    for (const [socket, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      this.#sockets.add(socket);
      socket.setNoDelay(true);
      socket.on("error", () => {});
      socket.on("close", () => {
        this.#sockets.delete(socket);
        if (!broken || socket === client) other.destroy();
      });
    }
    client.on("data", (bytes) => {
      // A client waits for an answer before its next request, so a request starts where a chunk starts.
      const path = /^[A-Z]+ (\S+) HTTP\/1\.1\r\n/.exec(bytes.toString("latin1", 0, 300))?.[1];
      if (path !== undefined) {
        const ordinal = this.count(path) + 1;
        this.#counts.set(path, ordinal);
        breakage = this.rule(path, ordinal);
        passed = [];
        this.onRequest(path, ordinal);
      }
      upstream.write(bytes);
    });
    upstream.on("data", (bytes) => {
      if (broken) return;
      const before = passed.reduce((sum, piece) => sum + piece.length, 0);
      passed.push(bytes);
      const end = breakage && position(breakage.at, Buffer.concat(passed));
      broken = breakage !== undefined && end !== undefined;
      const through = broken ? bytes.subarray(0, Math.max(0, (end ?? 0) - before)) : bytes;
      this.bytes += through.length;
      client.write(through);
      if (broken && breakage) breakOff(client, breakage.how);
    });
  }
}

/** Returns where in `answer` to break, once it is long enough. */
function position(at: number | string, answer: Buffer): number | undefined {
  if (typeof at === "number") return answer.length >= at ? at : undefined;
  const found = answer.indexOf(at);
  return found < 0 ? undefined : found + at.length;
}

function breakOff(client: Socket, how: Break): void {
  if (how === "close") client.end();
  if (how === "reset") setTimeout(() => client.resetAndDestroy(), GRACE_MS);
  if (how === "garbage") client.end(GARBAGE);
}

/** Below the range that systems assign automatically, and different for every process. */
let vacant = 10_000 + (process.pid % 200) * 100;

/** Returns a port on which nothing listens. */
export async function deadPort(): Promise<number> {
  for (;;) {
    const port = vacant++;
    const server = createServer();
    const free = await new Promise<boolean>((answer) => {
      server.once("error", () => answer(false));
      server.listen(port, "127.0.0.1", () => answer(true));
    });
    if (!free) continue;
    await new Promise((closed) => server.close(closed));
    return port;
  }
}
