// The OAuth host: device flow and rotating refresh tokens (docs/protocol.md#device-flow, docs/protocol.md#refresh). Its state is
// in `oauth-state.ts`.

import type { Exchange } from "./exchange.ts";
import type { JsonObject } from "./json.ts";
import type { Grant } from "./oauth-state.ts";
import type { Route } from "./routes.ts";
import { sleep } from "./wire.ts";

const CLIENT_ID = "17e5f671-d194-4dfb-9706-5516cb48c098";
const DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code";

class Refusal extends Error {
  readonly status: number;
  readonly code: string;

  constructor(code: string, description: string, status = 400) {
    super(description);
    this.code = code;
    this.status = status;
  }
}

/** Returns the form of a request that has all required members. */
function form(exchange: Exchange): URLSearchParams {
  const type = exchange.record.headers["content-type"] ?? "";
  if (!type.startsWith("application/x-www-form-urlencoded")) {
    throw new Refusal("invalid_request", `expected a form, got ${type || "no content type"}`, 415);
  }
  const fields = new URLSearchParams(exchange.record.rawBody.toString("utf8"));
  if (fields.get("client_id") !== CLIENT_ID) throw new Refusal("invalid_client", "unknown client", 401);
  return fields;
}

function refusing(handle: (exchange: Exchange) => Promise<void> | void): Route["handle"] {
  return async (exchange) => {
    try {
      await handle(exchange);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      exchange.record.error = error.message;
      exchange.json(error.status, { error: error.code, error_description: error.message });
    }
  };
}

function authorize(exchange: Exchange): void {
  form(exchange);
  const { oauth } = exchange.state;
  const code = oauth.newDeviceCode();
  const page = `http://${exchange.record.headers["host"] ?? "localhost"}/verify`;
  const answer: JsonObject = {
    user_code: code.userCode,
    device_code: code.deviceCode,
    verification_uri: page,
    verification_uri_complete: `${page}?user_code=${code.userCode}`,
    expires_in: oauth.deviceExpiresIn,
    interval: oauth.interval,
  };
  exchange.json(200, { ...answer, ...oauth.deviceAnswer });
}

async function token(exchange: Exchange): Promise<void> {
  const fields = form(exchange);
  const grant = fields.get("grant_type");
  if (grant === DEVICE_GRANT) return poll(exchange, fields.get("device_code") ?? "");
  if (grant === "refresh_token") return refresh(exchange, fields.get("refresh_token") ?? "");
  throw new Refusal("unsupported_grant_type", `unsupported grant type ${grant ?? ""}`);
}

async function poll(exchange: Exchange, deviceCode: string): Promise<void> {
  const { oauth } = exchange.state;
  const step = oauth.nextStep(deviceCode);
  exchange.record.scenario = `device:${typeof step === "string" ? step : "answer"}`;
  if (typeof step !== "string") return exchange.answer(step);
  if (step !== "approve") throw new Refusal(step, `the code is ${step.replaceAll("_", " ")}`);
  exchange.json(200, tokenAnswer(oauth.login(), oauth.tokenAnswer));
}

async function refresh(exchange: Exchange, presented: string): Promise<void> {
  const { oauth } = exchange.state;
  oauth.refreshCalls += 1;
  const plan = oauth.planRefresh?.(presented) ?? { beforeMs: oauth.tokenDelayMs };
  const pause = (ms = 0): Promise<void> => (ms > 0 ? sleep(ms, new AbortController().signal) : Promise.resolve());
  await pause(plan.beforeMs);
  if (plan.failure !== undefined) return exchange.json(plan.failure, { error: "temporarily_unavailable" });
  // The exchange happens whether or not the client is still connected, as in a real service.
  const grant = oauth.rotate(presented);
  if (typeof grant === "string") throw new Refusal("invalid_grant", grant);
  await pause(plan.afterMs);
  if (plan.answerLost) return void exchange.response.socket?.destroy();
  exchange.json(200, tokenAnswer(grant, oauth.tokenAnswer));
}

function tokenAnswer(grant: Grant, change: JsonObject): JsonObject {
  return {
    access_token: grant.access,
    refresh_token: grant.refresh,
    token_type: "Bearer",
    expires_in: grant.expiresIn,
    scope: "kimi-code",
    ...change,
  };
}

const open = { credential: false, identity: false } as const;

export const routes: Route[] = [
  {
    method: "POST",
    path: "/api/oauth/device_authorization",
    endpoint: "device",
    ...open,
    handle: refusing(authorize),
  },
  { method: "POST", path: "/api/oauth/token", endpoint: "token", ...open, handle: refusing(token) },
];
