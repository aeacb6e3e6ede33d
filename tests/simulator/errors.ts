// Refusals of the service with the texts it is known to use (docs/protocol.md#error-bodies).
// A text marked [I] is invented: only its status and the quoted words are evidence.

import type { JsonObject } from "./json.ts";
import type { Dialect, HttpAnswer } from "./types.ts";

export class ServiceError extends Error {
  readonly status: number;
  readonly type: string;

  constructor(status: number, type: string, message: string) {
    super(message);
    this.name = "ServiceError";
    this.status = status;
    this.type = type;
  }

  body(dialect: Dialect = "openai"): JsonObject {
    const error = { message: this.message, type: this.type };
    return dialect === "anthropic" ? { error, type: "error" } : { error };
  }

  answer(headers?: Record<string, string>): HttpAnswer {
    return { status: this.status, body: this.body(), ...(headers ? { headers } : {}) };
  }
}

export function invalidRequest(message: string): ServiceError {
  return new ServiceError(400, "invalid_request_error", message);
}

export function invalidCredential(): ServiceError {
  return new ServiceError(
    401,
    "invalid_authentication_error",
    "The API Key appears to be invalid or may have expired. Please verify your credentials and try again.",
  );
}

export function unknownClient(): ServiceError {
  return new ServiceError(
    403,
    "access_terminated_error",
    "Kimi For Coding is currently only available for Coding Agents such as Kimi CLI, Claude Code, Roo Code, " +
      "Kilo Code, etc.",
  );
}

export function notFound(method: string, path: string): ServiceError {
  return new ServiceError(404, "resource_not_found_error", `The requested resource was not found: ${method} ${path}`);
}

export function tooLarge(): ServiceError {
  return new ServiceError(413, "invalid_request_error", "Request exceeds the maximum size");
}

export function contextOverflow(limit: number, requested: number): ServiceError {
  return invalidRequest(`Your request exceeded model token limit: ${limit} (requested: ${requested})`);
}
