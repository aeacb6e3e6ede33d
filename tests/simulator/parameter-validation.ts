// Thinking, sampling and tool choice: what a listed model accepts, in both dialects (docs/protocol.md#chat-body,
// docs/protocol.md#thinking, docs/protocol.md#messages-body).

import type { ResolvedModel } from "./catalog.ts";
import { invalidRequest } from "./errors.ts";
import { isObject, type Json, type JsonObject } from "./json.ts";

const FIXED: Record<string, number> = { temperature: 1, top_p: 0.95, n: 1, presence_penalty: 0, frequency_penalty: 0 };

export function checkSampling(body: JsonObject, model: ResolvedModel): void {
  for (const [name, only] of Object.entries(FIXED)) {
    const value = body[name];
    if (value === undefined || value === null) continue;
    if (typeof value !== "number") throw invalidRequest(`Invalid request: ${name} must be a number`);
    if (model.fixedSampling && value !== only) {
      throw invalidRequest(`invalid ${name}: only ${only} is allowed for this model`);
    }
  }
}

export function checkCount(body: JsonObject, name: string): void {
  const value = body[name];
  if (value === undefined || value === null) return;
  if (typeof value !== "number" || !Number.isInteger(value) || value < 1) {
    throw invalidRequest(`Invalid request: ${name} must be a positive integer`);
  }
}

/** `types` are the dialect's terms; the effort is passed in because its place differs. */
export function checkThinking(
  thinking: Json | undefined,
  effort: Json | undefined,
  types: readonly string[],
  model: ResolvedModel,
): void {
  if (thinking !== undefined) {
    if (!isObject(thinking) || typeof thinking["type"] !== "string" || !types.includes(thinking["type"])) {
      throw invalidRequest(`Invalid request: thinking.type must be one of ${types.join(", ")}`);
    }
    if (model.thinking === "only" && thinking["type"] === "disabled") {
      throw invalidRequest("invalid thinking: only type=enabled is allowed for this model");
    }
  }
  if (effort === undefined) return;
  // Models that advertise no efforts ignore one: Pi's built-in provider sends it to all of them.
  if (model.efforts.length > 0 && !model.efforts.some((known) => known === effort)) {
    throw invalidRequest(
      `Invalid request: invalid thinking effort ${JSON.stringify(effort)}, expected one of ${model.efforts.join(", ")}`,
    );
  }
}

/** `required` or a named tool while the model thinks; the second goes by `specified` in the service's text. */
export function checkToolChoice(choice: Json | undefined, thinks: boolean): void {
  if (choice === undefined || choice === null) return;
  const type = isObject(choice) ? choice["type"] : choice;
  if (type === "auto" || type === "none") return;
  const kind = type === "required" || type === "any" ? "required" : "specified";
  if (typeof type !== "string") throw invalidRequest("Invalid request: unsupported tool_choice");
  if (thinks) throw invalidRequest(`tool_choice '${kind}' is incompatible with thinking enabled`);
}
