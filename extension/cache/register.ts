/** Registers what Pi shows about the prompt cache. The code of command and question is loaded on first use. */
import type { ExtensionAPI } from "@earendil-works/pi-coding-agent";
import type { PiCredentials } from "../credential.ts";
import { PROVIDER_ID } from "../ids.ts";
import { lazyImport } from "../lazy.ts";
import type { AddonQueries } from "../queries.ts";
import type { ExpiryQuestion } from "./question.ts";

/** Registers `/kimi-cache`, and the question about a prompt whose cache has expired in a pause. */
export function registerCache(pi: ExtensionAPI, queries: AddonQueries, credentials: PiCredentials): void {
  pi.registerCommand("kimi-cache", {
    description: "Show what the prompt cache did for this session (--last n, --json for scripts)",
    handler: async (args, ctx) => {
      const { kimiCache } = await lazyImport(() => import("./command.ts"));
      await kimiCache(args, ctx, queries, pi);
    },
  });
  let question: ExpiryQuestion | undefined;
  pi.on("input", async (event, ctx) => {
    // Only who types at a screen can answer, and only a message that begins a turn can wait.
    const isTyped = ctx.mode === "tui" && event.source === "interactive" && event.streamingBehavior === undefined;
    if (!isTyped || ctx.model?.provider !== PROVIDER_ID || !ctx.isIdle()) return { action: "continue" };
    try {
      const { ExpiryQuestion } = await lazyImport(() => import("./question.ts"));
      question ??= new ExpiryQuestion(pi, queries, credentials);
      return await question.input(event, ctx);
    } catch {
      // A question is no reason not to send.
      return { action: "continue" };
    }
  });
}
