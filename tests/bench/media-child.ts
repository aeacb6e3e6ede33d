/** Runs one media measurement in a process of its own: `media-child.ts <case> <subject>` prints one line of JSON. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Model } from "@earendil-works/pi-ai";
import { host } from "../../extension/environment.ts";
import { Kimi } from "../../index.ts";
import { fakeMp4, fakePng } from "../support/sample-media.ts";
import { addon, model, runOne } from "../support/turn.ts";
import { measure, type Span } from "./measure.ts";

const [scene, subject] = process.argv.slice(2);
const { BENCH_URL: baseUrl = "", BENCH_KEY: apiKey = "", BENCH_HOME: home = "" } = process.env;

const image = (bytes: number, seed: string): object => ({
  type: "image",
  mimeType: "image/png",
  data: fakePng(bytes, seed).toString("base64"),
});
const user = (...content: object[]): object => ({ role: "user", content, timestamp: 1 });

async function turns(): Promise<(messages: object[]) => Promise<object>> {
  if (subject === "ours") {
    const native = addon();
    return async (messages) => {
      const { message } = await runOne(native, { baseUrl, apiKey, env: { HOME: home }, context: { messages } });
      if (message.stopReason === "error") throw new Error(message.errorMessage);
      return message;
    };
  }
  const { streamSimple } = await import("@earendil-works/pi-ai/api/anthropic-messages");
  const entry = { ...model(addon(), baseUrl), api: "anthropic-messages", input: ["text", "image"] };
  const options = { apiKey, headers: { "user-agent": "pi/0.87.1 (linux; node)", authorization: `Bearer ${apiKey}` } };
  return async (messages) => {
    const stream = streamSimple(entry as Model<"anthropic-messages">, { messages } as never, options);
    for await (const event of stream) if (event.type === "error") throw new Error(event.error.errorMessage);
    return stream.result();
  };
}

/** The lower bound of an upload: the bytes as a Buffer in a form, sent with Node's own client. */
async function plainUpload(bytes: Buffer<ArrayBuffer>): Promise<void> {
  const form = new FormData();
  form.set("file", new Blob([bytes], { type: "image/png" }), "upload.png");
  form.set("purpose", "image");
  const headers = { authorization: `Bearer ${apiKey}`, "user-agent": "pi/0.87.1 (linux; node)" };
  const response = await fetch(`${baseUrl}/v1/files`, { method: "POST", headers, body: form });
  if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
  await response.arrayBuffer();
}

/** A video of 60 MB on disk, as a prompt of Pi refers to it: checked, uploaded by the turn, and the next turn. */
async function video(): Promise<Span[]> {
  const native = addon();
  const environment = { HOME: home, KIMI_CODE_BASE_URL: baseUrl };
  const prompt = async (bytes: number, name: string): Promise<() => Promise<object>> => {
    const path = join(home, name);
    writeFileSync(path, fakeMp4(bytes, name));
    const request = JSON.stringify({ environment, host: host("0.87.1"), apiKey, path, deferred: true });
    return async () => {
      const { marker } = JSON.parse(await native.prepareMedia(request).result()) as { marker: string };
      const context = { messages: [user({ type: "text", text: `what flickers in ${marker}` })] };
      const { message } = await runOne(native, { baseUrl, apiKey, env: { HOME: home }, context });
      if (message.stopReason === "error") throw new Error(message.errorMessage);
      return message;
    };
  };
  await (
    await prompt(1_000_000, "warm.mp4")
  )();
  const asked = await prompt(60_000_000, "large.mp4");
  return [await measure(asked), await measure(asked)];
}

const spans: Span[] = [];
if (scene === "video") {
  spans.push(...(await video()));
} else if (scene === "upload") {
  const bytes = fakePng(20_000_000, `upload ${process.pid}`);
  if (subject === "floor") {
    await plainUpload(fakePng(1000, "warm") as Buffer<ArrayBuffer>);
    spans.push(await measure(() => plainUpload(bytes as Buffer<ArrayBuffer>)));
  } else if (subject === "ours-file") {
    const kimi = new Kimi({ baseUrl, apiKey, env: { HOME: home } });
    await kimi.files.upload(fakePng(1000, "warm"));
    spans.push(await measure(() => kimi.files.upload(bytes)));
  } else {
    const turn = await turns();
    await turn([user({ type: "text", text: "warm" })]);
    const part = { type: "image", mimeType: "image/png", data: bytes.toString("base64") };
    // One megabyte above the upload threshold, to warm up the upload path.
    await turn([user(image(1_100_000, "warm"))]);
    spans.push(await measure(() => turn([user(part)])));
  }
} else {
  const [count, bytes] = scene === "ten" ? [10, 1_500_000] : [30, 2_000_000];
  const turn = await turns();
  await turn([user({ type: "text", text: "warm" })]);
  const images = Array.from({ length: count }, (_, at) => image(bytes, `${scene} ${at}`));
  const history: object[] = [user({ type: "text", text: "look" }, ...images)];
  for (let round = 0; round < 10; round += 1) {
    let answer: object = {};
    spans.push(await measure(async () => (answer = await turn(history))));
    history.push(answer, user({ type: "text", text: `again ${round}` }));
  }
}
console.log(JSON.stringify(spans));
