// Named faults: the service's error answers as scenarios, for tests and for `[[scenario:…]]` markers.
// Texts: docs/protocol.md#error-bodies and the transcripts.

import { invalidCredential, ServiceError, unknownClient } from "./errors.ts";
import type { JsonObject } from "./json.ts";
import type { Scenario } from "./types.ts";

function refusal(name: string, error: ServiceError, headers?: Record<string, string>): Scenario {
  return { name, http: error.answer(headers) };
}

function page(name: string, status: number, title: string): Scenario {
  const body = `<html><head><title>${title}</title></head><body>oops</body></html>`;
  return { name, http: { status, headers: { "content-type": "text/html" }, body } };
}

const forbidden = (text: string): ServiceError => new ServiceError(403, "access_terminated_error", text);

/** Transient 429; `retryAfter` in seconds is left out of the answer when undefined. */
export function rateLimit(retryAfter?: number | string): Scenario {
  const error = new ServiceError(
    429,
    "rate_limit_reached_error",
    "We're receiving too many requests at the moment. Please wait a moment and try again.",
  );
  return refusal("rate-limit", error, retryAfter === undefined ? undefined : { "retry-after": String(retryAfter) });
}

/** An entitlement text; the service uses 401 as well as 403 for it. */
export function entitlement(status: 401 | 403 = 401): Scenario {
  const text = "Your current subscription does not have access to k3. Upgrade to a Moderato plan or above.";
  const type = status === 401 ? "invalid_authentication_error" : "access_terminated_error";
  return refusal("plan-k3", new ServiceError(status, type, text));
}

export const faults = {
  unauthorized: refusal("unauthorized", invalidCredential()),
  "not-agent": refusal("not-agent", unknownClient()),
  "rate-limit": rateLimit(),
  quota: refusal(
    "quota",
    new ServiceError(
      429,
      "exceeded_current_quota_error",
      "You exceeded your current token quota: <org-0123456789abcdef> 31275, please check your account balance",
    ),
  ),
  overloaded: refusal(
    "overloaded",
    new ServiceError(503, "engine_overloaded_error", "The engine is currently overloaded, please try again later"),
  ),
  "overloaded-529": refusal("overloaded-529", new ServiceError(529, "overloaded_error", "Overloaded")),
  "cycle-limit": refusal(
    "cycle-limit",
    forbidden(
      "You've reached your usage limit for this billing cycle. Your quota will be refreshed in the next cycle. " +
        "To continue now, purchase extra usage or upgrade your plan: https://www.kimi.com/code/#pricing",
    ),
  ),
  "weekly-limit": refusal(
    "weekly-limit",
    forbidden(
      "You've reached your weekly (7-day) usage limit. Your quota will reset when the current 7-day window ends. " +
        "To continue now, purchase extra usage or upgrade your plan: " +
        "https://www.kimi.com/membership/subscription?tab=quota",
    ),
  ),
  membership: refusal(
    "membership",
    new ServiceError(402, "access_terminated_error", "We are unable to verify your membership benefits at this time."),
  ),
  "plan-k3": entitlement(),
  "plan-1m": refusal(
    "plan-1m",
    forbidden(
      "Your current plan supports only kimi-k3 up to 256K context. 1M context is available on higher-tier plans.",
    ),
  ),
  "plan-highspeed": refusal(
    "plan-highspeed",
    forbidden("Your current subscription does not have access to kimi-for-coding-highspeed."),
  ),
  "too-large": refusal("too-large", new ServiceError(413, "invalid_request_error", "request entity too large")),
  overflow: refusal(
    "overflow",
    new ServiceError(
      400,
      "invalid_request_error",
      "Your request exceeded model token limit: 262144 (requested: 300000)",
    ),
  ),
  "bad-image": refusal(
    "bad-image",
    new ServiceError(400, "invalid_request_error", "Invalid request: unsupported image format"),
  ),
  risk: refusal(
    "risk",
    new ServiceError(400, "content_filter", "The request was rejected because it was considered high risk"),
  ),
  "error-500": page("error-500", 500, "500 Internal Server Error"),
  "error-502": page("error-502", 502, "502 Bad Gateway"),
  "error-504": page("error-504", 504, "504 Gateway Time-out"),
} satisfies Record<string, Scenario>;

/** An error answer with a body of the caller's choice. */
export function httpError(status: number, body: string | JsonObject, headers?: Record<string, string>): Scenario {
  return { name: `http-${status}`, http: { status, body, ...(headers ? { headers } : {}) } };
}
