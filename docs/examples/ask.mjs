// The shortest program: one question, one answer. Needs KIMI_API_KEY, or a Kimi Code login on this machine.
import { Kimi } from "pi-provider-kimi-code";

const kimi = new Kimi();
console.log(await kimi.chat("Say hello in five words.").text());
