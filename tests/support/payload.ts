/** Bodies as they would be sent, captured in the payload hook; nothing is sent. */
import { createAssistantMessageEventStream, type Model } from "@earendil-works/pi-ai";
import { host } from "../../extension/environment.ts";
import type { Addon } from "../../extension/native/addon.ts";
import { runTurn } from "../../extension/turn/turn.ts";
import type { TurnOptions } from "../../extension/turn/request.ts";
import type { Members } from "../chat/parity/canonical.ts";

/** Our body for a context. */
export async function ourBody(
  addon: Addon,
  model: Model<string>,
  context: unknown,
  options: TurnOptions & { env?: Record<string, string> } = {},
): Promise<Members> {
  const stream = createAssistantMessageEventStream();
  let caught: unknown;
  runTurn(addon, host("0.87.1"), stream, model, context as never, {
    apiKey: "no-key",
    sessionId: "session",
    ...options,
    onPayload: (body: unknown) => {
      caught = body;
      throw new Error("caught");
    },
  });
  const message = await stream.result();
  if (caught === undefined) throw new Error(`no body: ${message.errorMessage ?? message.stopReason}`);
  return caught as Members;
}
