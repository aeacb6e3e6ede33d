// Pi with Kimi Code built in, for programs that embed Pi. Needs @earendil-works/pi-coding-agent.
import { main } from "@earendil-works/pi-coding-agent";
import { KimiCode } from "pi-provider-kimi-code";

const kimi = KimiCode({ env: { KIMI_MODEL_THINKING_KEEP: "all" } });
await main(["-p", "--no-session", "-ne", "--model", "kimi-coding/kimi-for-coding", "Say hello."], {
  extensionFactories: [kimi],
});
