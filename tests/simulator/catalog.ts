// The model list and `GET /models` (docs/protocol.md#model-list). The default entries are those of the newest captured login; a
// test may replace them with anything, well-formed or not.

import type { Json, JsonObject } from "./json.ts";
import { asArray, asObject, asString, isObject } from "./json.ts";
import type { Route } from "./routes.ts";

const efforts: JsonObject = { support: true, valid_efforts: ["low", "high", "max"], default_effort: "high" };

export function defaultModels(): JsonObject[] {
  const shared: JsonObject = {
    object: "model",
    supports_reasoning: true,
    supports_image_in: true,
    supports_video_in: true,
    supports_tool_use: true,
    supports_thinking_type: "only",
  };
  return [
    { id: "kimi-for-coding", display_name: "K2.7 Code", context_length: 262144, ...shared },
    { id: "kimi-for-coding-highspeed", display_name: "K2.7 Code High Speed", context_length: 262144, ...shared },
    {
      id: "k3",
      display_name: "K3",
      context_length: 1048576,
      ...shared,
      supports_dynamic_tools: true,
      think_efforts: efforts,
    },
    {
      id: "k3-256k",
      display_name: "K3 256K",
      context_length: 262144,
      ...shared,
      supports_video_in: false,
      think_efforts: efforts,
    },
  ];
}

export interface ResolvedModel {
  id: string;
  contextLength: number;
  thinking: "only" | "no" | "both";
  /** Empty when the model advertises none. */
  efforts: string[];
  videoIn: boolean;
  /** These models take no sampling parameters but their own (docs/protocol.md#chat-body; later reports say so of K3 too). */
  fixedSampling: boolean;
}

export class Catalog {
  /** Sent as `data`; malformed entries are sent as they are. */
  models: Json[] = defaultModels();

  /** Named configurations, without their frame (docs/protocol.md#client-configs). */
  configs: Record<string, Json> = {};

  reset(): void {
    this.models = defaultModels();
    this.configs = {};
  }

  /** Unknown ids run on the default alias (docs/protocol.md#model-fields). */
  resolve(id: string): ResolvedModel {
    const entries = this.models.filter(isObject).filter((entry) => asString(entry["id"]));
    const entry = entries.find((candidate) => candidate["id"] === id) ?? entries[0] ?? {};
    const context = entry["context_length"];
    const type = entry["supports_thinking_type"];
    const levels = asObject(entry["think_efforts"]);
    const name = asString(entry["id"]) ?? "kimi-for-coding";
    return {
      id: name,
      contextLength: typeof context === "number" && context > 0 ? context : 262144,
      thinking:
        type === "only" || type === "no" || type === "both"
          ? type
          : entry["supports_reasoning"] === false
            ? "no"
            : "both",
      efforts:
        levels?.["support"] === true
          ? asArray(levels["valid_efforts"]).filter((value): value is string => typeof value === "string")
          : [],
      videoIn: entry["supports_video_in"] !== false,
      fixedSampling: /^(kimi-for-coding|k3)/.test(name),
    };
  }
}

export const routes: Route[] = [
  {
    method: "GET",
    path: "/coding/v1/models",
    endpoint: "models",
    credential: true,
    identity: false,
    handle: (exchange) => {
      exchange.json(200, { object: "list", data: exchange.state.catalog.models });
    },
  },
  {
    method: "POST",
    path: "/coding/v1/client_configs",
    endpoint: "client_configs",
    credential: true,
    identity: false,
    handle: (exchange) => {
      const name = asString(asObject(exchange.record.json)?.["name"]) ?? "";
      exchange.json(200, { name, config: exchange.state.catalog.configs[name] ?? null });
    },
  },
];
