// Remote control for tests that run the simulator as a process: `/__admin/…`, JSON in and out. These requests are not part of the
// simulated service and do not appear in the log.

import type { IncomingMessage, ServerResponse } from "node:http";
import { asString, isObject, parseJson, type Json, type JsonObject } from "./json.ts";
import type { DeviceStep, OAuthState } from "./oauth-state.ts";
import { scenarioProblem } from "./scenario.ts";
import type { State } from "./state.ts";
import type { Interception, RequestRecord, Scenario } from "./types.ts";

type Command = (state: State, body: Json | undefined) => Json;

class AdminError extends Error {}

const COMMANDS: Record<string, Command> = {
  "GET health": () => ({ ok: true }),
  "GET requests": (state) => state.log.records.map(describe),
  "POST enqueue": (state, body) => {
    const scenarios = scenariosIn(body);
    state.queue.push(...scenarios);
    return { queued: state.queue.length };
  },
  "POST default": (state, body) => {
    state.defaultScenario = body === null || body === undefined ? undefined : scenariosIn(body)[0];
    return { ok: true };
  },
  "POST intercept": (state, body) => {
    const endpoint = isObject(body) ? asString(body["endpoint"]) : undefined;
    const answers = isObject(body) ? body["answers"] : undefined;
    if (endpoint === undefined || !Array.isArray(answers)) throw new AdminError("endpoint and answers[] are needed");
    state.intercept(endpoint, answers as unknown as Interception[]);
    return { ok: true };
  },
  "POST settings": (state, body) => {
    if (!isObject(body)) throw new AdminError("settings must be an object");
    const stranger = Object.keys(body).find((key) => !(key in state.settings));
    if (stranger !== undefined) throw new AdminError(`unknown setting '${stranger}'`);
    Object.assign(state.settings, body);
    return { ...state.settings };
  },
  "POST models": (state, body) => {
    if (!Array.isArray(body)) throw new AdminError("models must be an array");
    state.catalog.models = body;
    return { ok: true };
  },
  "POST usage": (state, body) => {
    const answer = body ?? {};
    state.plan.usage = () => answer;
    return { ok: true };
  },
  "POST profile": (state, body) => {
    state.plan.profile = body ?? {};
    return { ok: true };
  },
  "GET oauth": ({ oauth }) => describeOAuth(oauth),
  "POST oauth": ({ oauth }, body) => {
    if (!isObject(body)) throw new AdminError("oauth settings must be an object");
    for (const [name, value] of Object.entries(body)) changeOAuth(oauth, name, value);
    return describeOAuth(oauth);
  },
  "POST login": ({ oauth }, body) => {
    const { access, refresh, expiresIn } = oauth.login(isObject(body) ? asString(body["subject"]) : undefined);
    return { access, refresh, expiresIn };
  },
  "POST revoke": ({ oauth }, body) => {
    if (body === "access") oauth.revokeAccess();
    else oauth.revokeAll();
    return describeOAuth(oauth);
  },
  "POST reset": (state) => {
    state.reset();
    return { ok: true };
  },
};

export async function handleAdmin(
  state: State,
  request: IncomingMessage,
  response: ServerResponse,
  path: string,
): Promise<void> {
  const command = COMMANDS[`${request.method ?? "GET"} ${path.slice("/__admin/".length)}`];
  const pieces: Buffer[] = [];
  for await (const piece of request as AsyncIterable<Buffer>) pieces.push(piece);
  const text = Buffer.concat(pieces).toString("utf8");
  const answer = (status: number, body: Json): void => {
    response.writeHead(status, { "content-type": "application/json" });
    response.end(JSON.stringify(body));
  };
  if (command === undefined) return answer(404, { error: `no admin command ${request.method} ${path}` });
  const parsed = text === "" ? undefined : parseJson(text);
  if (parsed?.ok === false) return answer(400, { error: `not JSON: ${parsed.reason}` });
  try {
    answer(200, command(state, parsed?.value));
  } catch (error) {
    if (!(error instanceof AdminError)) throw error;
    answer(400, { error: error.message });
  }
}

function describeOAuth({ refreshCalls, refreshes, reuses, logins }: OAuthState): JsonObject {
  return { refreshCalls, refreshes, reuses, logins };
}

function changeOAuth(oauth: OAuthState, name: string, value: Json | undefined): void {
  if (name === "scripts" && Array.isArray(value)) oauth.scripts.push(...(value as unknown as DeviceStep[][]));
  else if (
    (name === "expiresIn" || name === "interval" || name === "deviceExpiresIn" || name === "tokenDelayMs") &&
    typeof value === "number"
  ) {
    oauth[name] = value;
  } else if ((name === "deviceAnswer" || name === "tokenAnswer") && isObject(value)) oauth[name] = value;
  else throw new AdminError(`unknown oauth setting '${name}', or a wrong value`);
}

function scenariosIn(body: Json | undefined): Scenario[] {
  const list = Array.isArray(body) ? body : [body];
  for (const item of list) {
    const problem = scenarioProblem(item);
    if (problem !== undefined) throw new AdminError(problem);
  }
  return list as unknown as Scenario[];
}

/** A record as JSON: the body is parsed, or text if it is not JSON; unknown values are `null`. */
function describe(record: RequestRecord): JsonObject {
  const { rawBody, json, ...rest } = record;
  const described: JsonObject = { json: json ?? null, bodyBytes: rawBody.length };
  if (json === undefined) described["rawBody"] = rawBody.toString("utf8");
  for (const [name, value] of Object.entries(rest)) described[name] = (value as Json | undefined) ?? null;
  return described;
}
