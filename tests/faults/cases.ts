/**
 * Every failure between us and the service, and its expected result.
 *
 * One row per fault. The expected result is written by hand; the run shows the actual one, and both must agree before the row
 * enters docs/reliability.md.
 */
import type { KimiErrorCode } from "../../index.ts";
import { faults } from "../simulator/faults.ts";
import { errorFrame, raw } from "../simulator/scenario.ts";
import type { HttpAnswer, Step } from "../simulator/types.ts";
import type { Breakage } from "./relay.ts";

/** What a fault means for the caller. */
interface Meaning {
  code: KimiErrorCode;
  /** Worth retrying as long as nothing visible has arrived. */
  again: boolean;
  /** The code for requests that expect a document instead of a stream, if it differs. */
  document?: KimiErrorCode;
  /** Counts as a web page, which may contain any text. */
  page?: true;
}

export type Fault = { name: string } & Meaning & Place;

/** Ways in which the service cannot be reached. */
export type World = "refused" | "unknown host" | "no TLS" | "broken TLS";

type Place =
  /** The service cannot be reached. */
  | { place: "world"; world: World }
  /** The connection breaks. */
  | { place: "wire"; breakage: Breakage }
  /** The service, or a gateway before it, answers with this. */
  | { place: "http"; answer: HttpAnswer; account?: true }
  /** The stream itself is wrong. */
  | { place: "stream"; steps: Step[] };

const HEAD_END = "\r\n\r\n";

function world(name: string, kind: World, meaning: Meaning): Fault {
  return { name, ...meaning, place: "world", world: kind };
}

function wire(name: string, how: Breakage["how"], at: Breakage["at"], code: KimiErrorCode = "network"): Fault {
  return { name, code, again: true, place: "wire", breakage: { how, at } };
}

function status(
  code: number,
  kind: KimiErrorCode,
  again: boolean,
  more: Partial<HttpAnswer> = {},
  name = `${code}`,
): Fault {
  const body = { error: { message: `simulated ${code}`, type: "simulated_error" } };
  return { name, code: kind, again, place: "http", answer: { status: code, body, ...more } };
}

/** An error about the account; it is reported whatever else was possible. */
function refusal(name: string, answer: HttpAnswer | undefined, code: KimiErrorCode): Fault {
  if (answer === undefined) throw new Error(`${name} is no HTTP answer`);
  return { name, code, again: false, place: "http", account: true, answer };
}

const PAGE = "<html><head><title>Sign in to the hotel</title></head><body>Room number?</body></html>";

/** `elsewhere` is the target of redirects. */
export function catalogue(elsewhere: string): Fault[] {
  const redirect = (code: number): Fault =>
    status(
      code,
      "server",
      false,
      { headers: { location: `${elsewhere}/coding/v1/x` }, body: "" },
      `${code} to another host`,
    );
  return [
    world("connection refused", "refused", { code: "network", again: true }),
    world("host name unknown", "unknown host", { code: "network", again: true }),
    world("no TLS on the other side", "no TLS", { code: "tls", again: false }),
    world("closed during the TLS handshake", "broken TLS", { code: "network", again: true }),
    wire("reset before the answer", "reset", 0),
    wire("reset in the head", "reset", 20),
    wire("reset behind the head", "reset", HEAD_END),
    wire("closed before the answer", "close", 0),
    wire("closed in the head", "close", 20),
    wire("closed behind the head", "close", HEAD_END),
    wire("silence before the answer", "stall", 0, "timeout"),
    wire("silence in the head", "stall", 20, "timeout"),
    wire("silence behind the head", "stall", HEAD_END, "timeout"),
    wire("garbage instead of HTTP", "garbage", 0),
    // A short document declares its length in bytes, so noise fills it without breaking HTTP.
    { ...wire("garbage behind the head", "garbage", HEAD_END), document: "protocol", page: true },
    refusal("401, key or login refused", faults.unauthorized.http, "unauthorized"),
    refusal("402, membership", faults.membership.http, "entitlement"),
    refusal("403, plan", faults["plan-highspeed"].http, "entitlement"),
    refusal("403, client", faults["not-agent"].http, "client_refused"),
    refusal("403, limit of the cycle", faults["cycle-limit"].http, "quota_exhausted"),
    refusal("429, quota used up", faults.quota.http, "quota_exhausted"),
    status(408, "server", true),
    status(409, "server", true),
    status(413, "payload_too_large", false),
    status(429, "rate_limited", true),
    status(429, "rate_limited", true, { headers: { "retry-after": "1" } }, "429, Retry-After: 1"),
    status(429, "rate_limited", false, { headers: { "retry-after": "600" } }, "429, Retry-After: 600"),
    status(500, "server", true),
    status(502, "server", true, { body: "<html><title>502 Bad Gateway</title></html>" }, "502, HTML"),
    status(503, "server", true),
    status(
      503,
      "overloaded",
      true,
      { ...faults.overloaded.http, headers: { "retry-after": "1" } },
      "503, overloaded, Retry-After: 1",
    ),
    status(504, "server", true, { body: "" }, "504, empty"),
    status(529, "overloaded", true),
    { ...status(200, "protocol", true, { body: PAGE }, "200, but HTML"), page: true },
    redirect(302),
    redirect(307),
    {
      name: "error event",
      code: "overloaded",
      again: true,
      place: "stream",
      steps: [errorFrame("The engine is currently overloaded", "engine_overloaded_error")],
    },
    {
      name: "event that is not JSON",
      code: "protocol",
      again: true,
      place: "stream",
      steps: [raw('data: {"choices": [{"del\n\n')],
    },
    { name: "end without a finish", code: "truncated", again: true, place: "stream", steps: [{ cut: "end" }] },
  ];
}
