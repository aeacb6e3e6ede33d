/**
 * Measures what a fresh login adds to a turn compared to a key that is passed in: reading the files it is stored in. Nothing
 * listens at the login's endpoint, so a measurement that needs the network fails.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { environment, host } from "../../extension/environment.ts";
import { addon } from "../support/turn.ts";
import type { Bench } from "./bench.ts";
import { median } from "./report.ts";

const CALLS = 500;
const GOAL_MS = 1;

/** Returns one line per place of a login; medians. */
export async function login({ report }: Bench): Promise<void> {
  const line = (what: string, times: number[]): void => {
    const name = `fresh login ${what}, added per turn`;
    report.say(`- ${name}: ${report.bar(name, median(times), "ms", GOAL_MS)} ms.`);
  };
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
      const answer = JSON.parse(await native.cliLogin(request)) as { access?: string };
      shared.push(performance.now() - started);
      if (answer.access !== tokens.access_token) throw new Error("the login was not found as it is");
      const next = performance.now();
      native.registerLogin(tokens.access_token);
      native.baseOf(request);
      pi.push(performance.now() - next);
    }
    line("of the official client, found by Pi", shared);
    line("in Pi's own file", pi);
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
}
