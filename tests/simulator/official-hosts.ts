// The official host names of both regions (docs/protocol.md#hosts-and-regions), mapped to the loopback: a proxy that knows no
// other hosts, and TLS with an authority of its own behind it. Each region is a simulator of its own, so a token that crosses is
// refused and seen.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { type AddressInfo, connect, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createServer as createTlsServer } from "node:tls";
import { issueCertificates } from "./certificates.ts";
import type { Simulator } from "./index.ts";

export type RegionId = "mainland-cn" | "global";

/** Where each region's logins and models live. */
export const OFFICIAL = {
  "mainland-cn": { oauth: "auth.kimi.com", api: "api.kimi.com" },
  global: { oauth: "auth.kimi.ai", api: "api.kimi.ai" },
} as const;

export interface OfficialHosts {
  /** The environment of a client. */
  readonly environment: { HTTPS_PROXY: string; NODE_EXTRA_CA_CERTS: string };
  /** Hosts requested from the proxy, in order, including refused ones. */
  readonly asked: string[];
  close(): Promise<void>;
}

export async function mapOfficialHosts(regions: Record<RegionId, Simulator>): Promise<OfficialHosts> {
  const targets = new Map<string, Simulator>();
  for (const region of ["mainland-cn", "global"] as const) {
    for (const host of Object.values(OFFICIAL[region])) targets.set(host, regions[region]);
  }
  const folder = mkdtempSync(join(tmpdir(), "kimi-hosts-"));
  const { authority, certificate, key } = issueCertificates([...targets.keys()]);
  const authorityFile = join(folder, "authority.pem");
  writeFileSync(authorityFile, authority);

  const sockets = new Set<Socket>();
  const kept = <S extends Socket>(socket: S): S => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    return socket.on("error", () => socket.destroy());
  };
  const doors = new Map<string, Server>();
  for (const [host, simulator] of targets) {
    const { hostname, port } = new URL(simulator.origin);
    const door = createTlsServer({ cert: certificate, key }, (client) => {
      const server = kept(connect(Number(port), hostname));
      kept(client).pipe(server).pipe(client);
    });
    doors.set(host, await listening(door));
  }
  const asked: string[] = [];
  const proxy = createHttpServer((_, response) => response.writeHead(405).end());
  proxy.on("connect", (request, client: Socket, head: Buffer) => {
    const [host = "", port] = (request.url ?? "").split(":");
    asked.push(host);
    const door = port === "443" ? doors.get(host) : undefined;
    kept(client);
    if (door === undefined) return void client.end("HTTP/1.1 403 Forbidden\r\n\r\n");
    const server = kept(
      connect((door.address() as AddressInfo).port, "127.0.0.1", () => {
        client.write("HTTP/1.1 200 Connection Established\r\n\r\n");
        server.write(head);
        client.pipe(server).pipe(client);
      }),
    );
  });
  const { port } = (await listening(proxy)).address() as AddressInfo;
  return {
    environment: { HTTPS_PROXY: `http://127.0.0.1:${port}`, NODE_EXTRA_CA_CERTS: authorityFile },
    asked,
    async close() {
      const servers = [proxy, ...doors.values()];
      const closed = servers.map((server) => new Promise((done) => server.close(done)));
      for (const socket of sockets) socket.destroy();
      await Promise.all(closed);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function listening<S extends Server>(server: S): Promise<S> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return server;
}
