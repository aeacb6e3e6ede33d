/** A program with one chat: prints its events as lines of JSON. */
import { Kimi } from "../../index.ts";

for await (const event of new Kimi().chat("hi")) process.stdout.write(`${JSON.stringify({ type: event.type })}\n`);
