// Which scenario answers a request.

import { agentScenario } from "./agent.ts";
import type { ResolvedModel } from "./catalog.ts";
import { invalidRequest } from "./errors.ts";
import type { Exchange } from "./exchange.ts";
import { lastUserText, type Prompt } from "./prompt.ts";
import { namedScenario } from "./transcripts.ts";
import type { Scenario } from "./types.ts";

/** Queue, then marker in the prompt, then the default, then the built-in agent. */
export function chooseScenario(exchange: Exchange, prompt: Prompt, model: ResolvedModel): Scenario {
  const { state, record } = exchange;
  const queued = state.takeScenario(record);
  if (queued !== undefined) return queued;
  const marker = /\[\[scenario:([^\]]+)\]\]/.exec(lastUserText(prompt))?.[1]?.trim();
  if (marker !== undefined) {
    const named = namedScenario(marker);
    if (named === undefined) throw invalidRequest(`simulator: there is no scenario named '${marker}'`);
    return named;
  }
  return state.defaultScenario ?? agentScenario(prompt, model);
}
