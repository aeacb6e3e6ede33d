/** A foreign host: it answers everything and records what it was sent. */
import { createServer } from "node:http";

export interface Thief {
  origin: string;
  /** Request lines with headers and body. */
  heard: string[];
  close(): Promise<void>;
}

export async function startThief(): Promise<Thief> {
  const heard: string[] = [];
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const piece of request.setEncoding("latin1") as AsyncIterable<string>) body += piece;
    heard.push(`${request.method} ${request.url}\n${request.rawHeaders.join("\n")}\n\n${body}`);
    response.writeHead(200, { "content-type": "application/json" }).end("{}");
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  return {
    origin: `http://127.0.0.1:${(server.address() as { port: number }).port}`,
    heard,
    close: () => new Promise((closed) => server.close(() => closed())),
  };
}
