// The two generation endpoints, `POST /v1/chat/completions` and `POST /v1/messages` (docs/protocol.md#openai-dialect,
// docs/protocol.md#anthropic-dialect). They differ in validation and rendering and share everything else.

import { randomBytes } from "node:crypto";
import type { AnswerContext } from "./answer-context.ts";
import { renderAnthropic } from "./anthropic-stream.ts";
import { checkAnthropicRequest } from "./anthropic-validation.ts";
import { contextOverflow } from "./errors.ts";
import type { Exchange } from "./exchange.ts";
import { accountOf, checkReferences } from "./files.ts";
import { renderOpenAI } from "./openai-stream.ts";
import { checkOpenAIRequest } from "./openai-validation.ts";
import { plainAnswer } from "./plain-answer.ts";
import { promptFromAnthropic, promptFromOpenAI } from "./prompt.ts";
import type { Route } from "./routes.ts";
import { chooseScenario } from "./scenario-choice.ts";
import { completeSteps, outputTokens } from "./scenario.ts";
import type { Dialect, Scenario } from "./types.ts";
import { Player, sleep } from "./wire.ts";

export const routes: Route[] = [
  {
    method: "POST",
    path: "/coding/v1/chat/completions",
    endpoint: "chat",
    credential: true,
    identity: true,
    handle: (exchange) => generate(exchange, "openai"),
  },
  {
    method: "POST",
    path: "/coding/v1/messages",
    endpoint: "messages",
    credential: true,
    identity: true,
    handle: (exchange) => generate(exchange, "anthropic"),
  },
];

async function generate(exchange: Exchange, dialect: Dialect): Promise<void> {
  const { state, record } = exchange;
  const body = exchange.jsonBody();
  state.parallel.enter(accountOf(state, record.headers), state.settings.parallelLimit, exchange.gone);
  const model = state.catalog.resolve(typeof body["model"] === "string" ? body["model"] : "");
  record.model = model.id;
  if (state.settings.validation) {
    const check = dialect === "openai" ? checkOpenAIRequest : checkAnthropicRequest;
    check(body, model, state.settings);
    if (state.settings.fileReferences === "known") checkReferences(body, accountOf(state, record.headers), state.files);
  }
  const prompt = dialect === "openai" ? promptFromOpenAI(body) : promptFromAnthropic(body);
  // A switch of models misses the cache; ids that run on the same model share it.
  const counted = state.promptCache.read({ ...prompt, model: model.id });
  if (state.settings.validation && counted.prompt > model.contextLength) {
    throw contextOverflow(model.contextLength, counted.prompt);
  }

  const account = accountOf(state, record.headers);
  const refusal = state.plan.windows?.refusal(account);
  if (refusal !== undefined) return exchange.answer(refusal);

  const scenario = chooseScenario(exchange, prompt, model);
  record.scenario = scenario.name ?? "unnamed";
  if (scenario.hang === "connect" || scenario.hang === "headers") return exchange.hang(scenario.hang);
  await sleep(scenario.headersDelayMs ?? 0, exchange.gone);
  if (scenario.http !== undefined) return exchange.answer(scenario.http);
  if (exchange.gone.aborted) return;

  state.promptCache.remember(counted.keys);
  const context: AnswerContext = {
    id: randomBytes(12).toString("hex"),
    created: Math.floor(Date.now() / 1000),
    model: scenario.model ?? model.id,
    promptTokens: counted.prompt,
    cachedTokens: counted.cached,
    completionTokens: outputTokens(completeSteps(scenario)),
  };
  record.model = context.model;
  record.usage = { prompt: counted.prompt, cached: counted.cached, completion: context.completionTokens };
  state.plan.windows?.charge(account, record.usage);
  if (prompt.stream) await stream(exchange, dialect, scenario, context);
  else exchange.json(200, plainAnswer(dialect, scenario, context), scenario.headers);
}

async function stream(exchange: Exchange, dialect: Dialect, scenario: Scenario, context: AnswerContext): Promise<void> {
  const { response, record } = exchange;
  record.status = 200;
  response.writeHead(200, {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-trace-id": record.traceId,
    ...scenario.headers,
  });
  response.flushHeaders();
  exchange.state.log.changed(record);
  const render = dialect === "openai" ? renderOpenAI : renderAnthropic;
  const ending = await new Player(response, record, scenario, exchange.gone).play(
    render(scenario, context),
    scenario.hang === "body",
  );
  if (ending === undefined) return exchange.untilGone();
  record.ended = ending;
  record.aborted = ending === "aborted";
  exchange.state.log.changed(record);
}
