/** Writes the request of a turn, without its conversation: caller, model, and the options that the addon supports. */
import type { Model, SimpleStreamOptions } from "@earendil-works/pi-ai";
import { environment, type Host } from "../environment.ts";
import type { Priority } from "../priority.ts";
import { timeZone } from "../time-zone.ts";

/** Pi's options, with what newer versions than 0.87 and our client add. */
export type TurnOptions = SimpleStreamOptions & {
  onProviderStreamEvent?: (event: unknown, model: Model<string>) => void | Promise<void>;
  topP?: number | undefined;
  stop?: readonly string[] | undefined;
  responseFormat?: object | undefined;
  /** What happens at the end of a quota window, instead of the setting. */
  onQuota?: "wait" | "stop" | undefined;
  /** A user can answer questions. */
  canAsk?: boolean | undefined;
  /** Which requests go first where the plan allows no more at once. */
  priority?: Priority | undefined;
  /** Every note is reported, also those that this process has seen before. */
  repeatNotes?: boolean | undefined;
  /** Called with an exception before the turn ends with its message, because Pi's events carry no error objects. */
  onThrown?: (error: unknown) => void;
};

/** Writes the request as JSON. */
export function turnRequest(host: Host, model: Model<string>, options: TurnOptions): string {
  return JSON.stringify({
    environment: environment({ TZ: timeZone(), ...options.env }),
    host,
    model,
    options: requestOptions(options),
    payloadHook: options.onPayload !== undefined,
    rawEvents: options.onProviderStreamEvent !== undefined,
    repeatNotes: options.repeatNotes,
  });
}

/** Selects the supported options. Pi passes others too, which need not fit into JSON. */
function requestOptions(options: TurnOptions): object {
  const { apiKey, headers, reasoning, maxTokens, temperature, sessionId, cacheRetention } = options;
  const { timeoutMs, maxRetries, maxRetryDelayMs, toolChoice, samplingParams } = options;
  const { topP, stop, responseFormat, onQuota, canAsk, priority } = options;
  return {
    ...{ apiKey, headers, reasoning, maxTokens, temperature, sessionId, cacheRetention },
    ...{ timeoutMs, maxRetries, maxRetryDelayMs, toolChoice, samplingParams },
    ...{ topP, stop, responseFormat, onQuota, canAsk, priority },
  };
}
