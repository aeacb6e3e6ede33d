/** The message that a turn begins with. A file of its own: a turn that cannot be loaded needs it to say so. */
import type { AssistantMessage, Model } from "@earendil-works/pi-ai";

/** An answer of which nothing has arrived. */
export function emptyMessage(model: Model<string>): AssistantMessage {
  const cost = { input: 0, output: 0, cacheRead: 0, cacheWrite: 0, total: 0 };
  return {
    role: "assistant",
    content: [],
    api: model.api,
    provider: model.provider,
    model: model.id,
    usage: { input: 0, output: 0, cacheRead: 0, cacheWrite: 0, totalTokens: 0, cost },
    stopReason: "stop",
    timestamp: Date.now(),
  };
}
