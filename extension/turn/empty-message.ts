/** Creates the message that a turn begins with. A separate file, because a turn whose code cannot be loaded needs it too. */
import type { AssistantMessage, Model } from "@earendil-works/pi-ai";

/** Returns an assistant message without content. */
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
