/** A foreign host: it answers everything and records what it was sent. */
import { createServer } from "node:http";

export interface ForeignHost {
  origin: string;
  /** Request lines with headers and body. */
  received: string[];
  close(): Promise<void>;
}

export async function startForeignHost(): Promise<ForeignHost> {
  const received: string[] = [];
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const piece of request.setEncoding("latin1") as AsyncIterable<string>) body += piece;
    received.push(`${request.method} ${request.url}\n${request.rawHeaders.join("\n")}\n\n${body}`);
    response.writeHead(200, { "content-type": "application/json" }).end("{}");
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  return {
    origin: `http://127.0.0.1:${(server.address() as { port: number }).port}`,
    received,
    close: () => new Promise((closed) => server.close(() => closed())),
  };
}
