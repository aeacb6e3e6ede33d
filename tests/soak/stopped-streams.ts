/** A Node program with many chats at once, which prints what became of each. Its parent stops it. */
import { Kimi } from "../../index.ts";

const { streams, ...options } = JSON.parse(process.env["STREAMS"] ?? "{}") as { streams: number; baseUrl: string };
const kimi = new Kimi(options);
const chats = Array.from({ length: streams }, () => kimi.chat("hi", { maxRetries: 0 }).text());
const ends = await Promise.allSettled(chats);
process.stdout.write(JSON.stringify(ends.map((end) => (end.status === "fulfilled" ? end.value : String(end.reason)))));
