// A program to bundle. The client has no dependencies; only the native addon stays a file of its own.
import { Kimi } from "pi-provider-kimi-code/client";

// KIMI_ADDON is one way to name the addon; by default it is looked for in node_modules and beside the bundle.
const kimi = new Kimi({ native: process.env.KIMI_ADDON });
console.log(await kimi.chat("Say hello in five words.").text());
