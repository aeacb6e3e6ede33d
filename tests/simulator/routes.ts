// The route table: one entry per endpoint, contributed by the module of its group. A new group exports `routes` and is listed in
// `server.ts`.

import type { Exchange } from "./exchange.ts";
import type { EndpointName } from "./types.ts";

export interface Route {
  method: string;
  path: string;
  endpoint: EndpointName;
  /** Needs an accepted bearer token or x-api-key. */
  credential: boolean;
  /** Guarded by the identity gate (docs/protocol.md#identity-gate: generation endpoints only). */
  identity: boolean;
  handle: (exchange: Exchange) => void | Promise<void>;
}

export type Found = { route: Route } | { allowed: string[] };

export function findRoute(table: readonly Route[], method: string, path: string): Found {
  const atPath = table.filter((route) => route.path === path);
  const route = atPath.find((candidate) => candidate.method === method);
  return route === undefined ? { allowed: atPath.map((candidate) => candidate.method) } : { route };
}
