// The simulator's answer without a scenario: a small agent that calls `bash` once and then quotes the result, thinks when the
// request asks for it (docs/protocol.md#thinking), respects the output limit (docs/protocol.md#output-cap) and answers in JSON where a
// format is given (docs/protocol.md#chat-body).

import type { ResolvedModel } from "./catalog.ts";
import { lastUserText, thinkingOn, type Prompt } from "./prompt.ts";
import { sampleObject } from "./sample-object.ts";
import { finish } from "./scenario.ts";
import { countTokens, firstTokens } from "./tokens.ts";
import type { Scenario, Step } from "./types.ts";

const PIECE = 12;

export function agentScenario(prompt: Prompt, model: ResolvedModel): Scenario {
  const thinks = thinkingOn(prompt, model.thinking === "only", model.thinking === "no");
  const last = prompt.turns.at(-1);
  const bash = [...prompt.tools, ...prompt.lateTools].find((tool) => tool.name.toLowerCase() === "bash");
  if (last?.role === "tool") return say("agent-result", thinks, prompt, "The output is here.", quote(last.text));
  if (last?.role === "user" && bash !== undefined) return callBash(bash.name, thinks, prompt);
  return say("agent-text", thinks, prompt, "A short answer will do.", `You said: ${shorten(lastUserText(prompt))}`);
}

function callBash(tool: string, thinks: boolean, prompt: Prompt): Scenario {
  const wanted = /\brun:\s*(.+)/.exec(lastUserText(prompt))?.[1]?.trim();
  const command = wanted ?? 'echo "hello from Kimi"';
  const steps: Step[] = [];
  if (thinks) steps.push({ thinking: "A command will answer this.", size: PIECE });
  steps.push({ toolCall: { name: tool, arguments: { command } }, size: PIECE });
  return { name: "agent-bash", steps };
}

function say(name: string, thinks: boolean, prompt: Prompt, thought: string, answer: string): Scenario {
  const cap = prompt.outputCap ?? Number.POSITIVE_INFINITY;
  const text = prompt.answerSchema === undefined ? answer : JSON.stringify(sampleObject(prompt.answerSchema, answer));
  const steps: Step[] = [];
  let left = cap;
  for (const [kind, value] of [
    ["thinking", thinks ? thought : ""],
    ["text", text],
  ] as const) {
    if (value === "" || left <= 0) continue;
    const part = firstTokens(value, left);
    left -= countTokens(part);
    if (part !== "") steps.push(kind === "text" ? { text: part, size: PIECE } : { thinking: part, size: PIECE });
    if (part.length < value.length) return { name, steps: [...steps, finish("length")] };
  }
  return { name, steps: left <= 0 && steps.every((step) => "thinking" in step) ? [...steps, finish("length")] : steps };
}

function quote(output: string): string {
  const text = output.trim();
  return text === "" ? "The command printed nothing." : `The command printed: ${shorten(text)}`;
}

function shorten(text: string): string {
  return text.length <= 400 ? text : `${text.slice(0, 400)}…`;
}
