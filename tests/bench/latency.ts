/**
 * Measures the time from the service writing the first token to a consumer reading it, next to a bare socket in the same process:
 * `latency.ts <rounds>` prints one line of JSON.
 */
import { createServer, type ServerResponse } from "node:http";
import { connect } from "node:net";
import { createAssistantMessageEventStream } from "@earendil-works/pi-ai";
import { host } from "../../extension/environment.ts";
import { runTurn } from "../../extension/turn/turn.ts";
import { addon, model } from "../support/turn.ts";

const rounds = Number(process.argv[2]);
const FIRST = 'data: {"id":"c","choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n';
const LAST = 'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n';

let written = 0;
const server = createServer((request, response: ServerResponse) => {
  request.resume();
  response.writeHead(200, { "content-type": "text/event-stream" });
  response.flushHeaders();
  setTimeout(() => {
    written = performance.now();
    response.write(FIRST);
    setTimeout(() => response.end(LAST), 15);
  }, 15);
});
await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
const { port } = server.address() as { port: number };

function bareSocket(): Promise<number> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1", () =>
      socket.write("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"),
    );
    socket.on("error", reject);
    socket.on("data", (bytes) => {
      if (!bytes.includes('"Hi"')) return;
      resolve(performance.now() - written);
      socket.destroy();
    });
  });
}

const native = addon();
const entry = model(native, `http://127.0.0.1:${port}`);

async function ours(): Promise<number> {
  const events = createAssistantMessageEventStream();
  const context = { messages: [{ role: "user", content: "hi", timestamp: 1 }] } as never;
  runTurn(native, host("0.87.1"), events, entry, context, { apiKey: "sk-kimi-bench" });
  let latency = Number.NaN;
  for await (const event of events) if (event.type === "text_delta") latency = performance.now() - written;
  return latency;
}

const median = (values: number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
await ours();
const [socket, addonLatency]: [number[], number[]] = [[], []];
for (let round = 0; round < rounds; round += 1) {
  socket.push(await bareSocket());
  addonLatency.push(await ours());
}
console.log(JSON.stringify({ rounds, socketMs: median(socket), oursMs: median(addonLatency) }));
server.close();
server.closeAllConnections();
