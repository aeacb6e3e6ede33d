/**
 * What a login that is still fresh costs a turn, beyond a key that was passed: looking at the files it lies in. Nothing listens
 * where this login belongs, so a measurement with network in it would end as an error. Used by main.ts.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { environment, host } from "../../extension/environment.ts";
import { addon } from "../support/turn.ts";

const CALLS = 500;
const GOAL_MS = 1;

function note(what: string, times: number[]): string {
  const median = times.toSorted((a, b) => a - b)[times.length >> 1] ?? Number.NaN;
  return `Fresh login ${what}: ${median.toFixed(2)} ms per turn ${median <= GOAL_MS ? "✓" : "✗"} ≤ ${GOAL_MS}.`;
}

/** One line per place a login may lie in; medians. */
export async function login(): Promise<string[]> {
  const native = addon();
  const home = mkdtempSync(join(tmpdir(), "kimi-bench-"));
  const credentials = join(home, ".kimi-code", "credentials");
  mkdirSync(credentials, { recursive: true });
  const tokens = { access_token: "a.b.c", refresh_token: "r", expires_in: 900, scope: "kimi-code" };
  const expires_at = Math.floor(Date.now() / 1000) + 900;
  writeFileSync(join(credentials, "kimi-code.json"), JSON.stringify({ ...tokens, expires_at }));
  const request = JSON.stringify({ environment: environment({ HOME: home }), host: host("0.87.1") });
  try {
    const shared: number[] = [];
    const pi: number[] = [];
    for (let call = 0; call < CALLS; call += 1) {
      const started = performance.now();
      const answer = JSON.parse(await native.ambientLogin(request)) as { access?: string };
      shared.push(performance.now() - started);
      if (answer.access !== tokens.access_token) throw new Error("the login was not found as it is");
      const next = performance.now();
      native.rememberLogin(tokens.access_token);
      native.baseOf(request);
      pi.push(performance.now() - next);
    }
    return [note("of the official client, found by Pi", shared), note("in Pi's own file", pi)];
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
}
