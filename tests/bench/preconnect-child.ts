/**
 * Measures the first words of an answer over TLS with a round trip of so many milliseconds, with and without a connection that was
 * opened before: `preconnect-child.ts <round trip> <rounds> <key file> <certificate file>` prints one line of JSON.
 */
import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import { connect, createServer as createTcpServer, type Socket } from "node:net";
import { createAssistantMessageEventStream } from "@earendil-works/pi-ai";
import { environment, host } from "../../extension/environment.ts";
import { runTurn } from "../../extension/turn/turn.ts";
import { addon, model } from "../support/turn.ts";
import { median } from "./report.ts";

const [roundTrip, rounds] = [Number(process.argv[2]), Number(process.argv[3])];
const [key = "", cert = ""] = process.argv.slice(4);
const FIRST = 'data: {"id":"c","choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n';
const LAST = 'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n';

const service = createServer({ key: readFileSync(key), cert: readFileSync(cert) }, (request, response) => {
  request.resume();
  if (request.method !== "POST") return response.end();
  response.writeHead(200, { "content-type": "text/event-stream" });
  response.end(FIRST + LAST);
});

/** Passes bytes on after half a round trip; the first ones also wait for the TCP handshake, which the loopback does not delay. */
function delayed(from: Socket, to: Socket, firstWait: number): void {
  let due = performance.now() + firstWait;
  from.on("data", (bytes) => {
    due = Math.max(due, performance.now() + roundTrip / 2);
    setTimeout(() => to.write(bytes), due - performance.now());
  });
  for (const end of ["close", "error"]) from.on(end, () => setTimeout(() => to.destroy(), roundTrip));
}

const listen = async (server: { listen(port: number, host: string, done: () => void): unknown }): Promise<void> =>
  new Promise((done) => server.listen(0, "127.0.0.1", done));
const portOf = (server: { address(): unknown }): number => (server.address() as { port: number }).port;
await listen(service);
const line = createTcpServer({ noDelay: true }, (client) => {
  const server = connect({ port: portOf(service), host: "127.0.0.1", noDelay: true });
  delayed(client, server, roundTrip * 1.5);
  delayed(server, client, 0);
});
await listen(line);

const native = addon();
const baseUrl = `https://127.0.0.1:${portOf(line)}/coding`;

/** Returns the time to the first words. Each round has a pool of connections of its own, because its settings differ. */
async function firstWords(round: string, opensBefore: boolean): Promise<number> {
  const env = { KIMI_CODE_BASE_URL: baseUrl, KIMI_CODE_MODEL_LIST: "off", SSL_CERT_FILE: cert, NO_PROXY: round };
  if (opensBefore) await native.preconnect(JSON.stringify({ environment: environment(env), host: host("0.87.1") }));
  const events = createAssistantMessageEventStream();
  const context = { messages: [{ role: "user", content: "hi", timestamp: 1 }] } as never;
  const start = performance.now();
  runTurn(native, host("0.87.1"), events, model(native, baseUrl), context, { apiKey: "sk-kimi-bench", env });
  let passed = Number.NaN;
  for await (const event of events) {
    if (event.type === "error") throw new Error(event.error.errorMessage);
    if (event.type === "text_delta") passed = performance.now() - start;
  }
  return passed;
}

await firstWords("warm-up.invalid", false);
const [cold, warm]: [number[], number[]] = [[], []];
for (let round = 0; round < rounds; round += 1) {
  cold.push(await firstWords(`cold-${round}.invalid`, false));
  warm.push(await firstWords(`warm-${round}.invalid`, true));
}
console.log(JSON.stringify({ coldMs: median(cold), warmMs: median(warm) }));
process.exit();
