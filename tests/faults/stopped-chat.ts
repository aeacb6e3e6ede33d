/** A Node program with one chat, which prints how it ended. CHAT_OPTIONS are the options of its client. */
import { Kimi } from "../../index.ts";
import { playChat } from "./play-chat.ts";

const options = JSON.parse(process.env["CHAT_OPTIONS"] ?? "{}") as { baseUrl: string };
process.stdout.write(JSON.stringify(await playChat(new Kimi(options), "hi")));
