/** What a turn asks of the addon, beside its conversation: who asks, which model, and those of Pi's options that mean something to us. */
import type { Model, SimpleStreamOptions } from "@earendil-works/pi-ai";
import { environment, type Host, timeZone } from "../environment.ts";

/** Options beyond Pi 0.87's declaration: newer versions add `onProviderStreamEvent`. */
export type TurnOptions = SimpleStreamOptions & {
  onProviderStreamEvent?: (event: unknown, model: Model<string>) => void | Promise<void>;
  /** Hears what was thrown before the turn ends with its text: Pi's events carry no error objects. */
  onThrown?: (error: unknown) => void;
};

/** The request as JSON. */
export function turnRequest(host: Host, model: Model<string>, options: TurnOptions): string {
  return JSON.stringify({
    environment: environment({ TZ: timeZone(), ...options.env }),
    host,
    model,
    options: requestOptions(options),
    payloadHook: options.onPayload !== undefined,
    rawEvents: options.onProviderStreamEvent !== undefined,
  });
}

/** The options that the addon understands. Pi passes others along, which need not even be JSON. */
function requestOptions(options: TurnOptions): object {
  const { apiKey, headers, reasoning, maxTokens, temperature, sessionId, cacheRetention } = options;
  const { timeoutMs, maxRetries, maxRetryDelayMs, toolChoice, samplingParams } = options;
  return {
    ...{ apiKey, headers, reasoning, maxTokens, temperature, sessionId, cacheRetention },
    ...{ timeoutMs, maxRetries, maxRetryDelayMs, toolChoice, samplingParams },
  };
}
