/** Signing in under the official host names, mapped to the loopback: the question for the region, and Pi's own `pi auth login`. */
import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { OFFICIAL, type OfficialHosts } from "../simulator/official-hosts.ts";
import { Machine } from "../support/account.ts";
import { runPi } from "../support/pi.ts";
import { piLevel } from "../support/pi-versions.ts";
import { askedElsewhere, REGIONS, type Simulators, withRegions } from "../support/regions.ts";
import { Terminal } from "../support/terminal.ts";

/** Older versions only print and check credentials. */
const HAS_AUTH_LOGIN = piLevel() >= 1005;

let simulators: Simulators;
let hosts: OfficialHosts;
let machine: Machine;
let terminal: Terminal | undefined;

withRegions(
  (region) => `Hello from ${region}.`,
  (...started) => ([simulators, hosts] = started),
);
beforeEach(() => {
  for (const region of REGIONS) simulators[region].oauth.scripts.push(["approve"]);
  machine = new Machine(simulators["mainland-cn"]);
});
afterEach(() => {
  terminal?.close();
  terminal = undefined;
  machine.remove();
});

function variables(): Record<string, string | undefined> {
  return { DISPLAY: undefined, WAYLAND_DISPLAY: undefined, ...hosts.environment };
}

for (const [region, keys] of [
  ["mainland-cn", []],
  ["global", ["Down"]],
] as const) {
  test(`/login on a screen, ${region}: the answer to the question → that region's hosts, and a turn there`, async () => {
    const pi = new Terminal(["--no-session", "--model", "kimi-coding/kimi-for-coding"], {
      home: machine,
      env: variables(),
    });
    terminal = pi;
    await pi.waitFor(/kimi-for-coding|No models|no model/i);
    await pi.submit("/login kimi-coding ");
    await pi.waitFor(/Sign in with Kimi Code/, 4000).catch(() => pi.press("Enter"));
    await pi.waitFor(/Sign in with Kimi Code/);
    pi.press("Enter");
    await pi.waitFor(/Which Kimi account is yours\?[^]*kimi\.com[^]*kimi\.ai/);
    for (const key of keys) pi.press(key);
    if (region === "global") await pi.waitFor(/(→|❯|>) *kimi\.ai/);
    pi.press("Enter");
    await pi.waitFor(/logged in|signed in/i);
    assert.equal(machine.pi?.type, "oauth");
    assert.equal(machine.pi?.["baseUrl"], region === "global" ? "https://api.kimi.ai/coding" : undefined);
    await pi.submit("hi");
    await pi.waitFor(new RegExp(`Hello from ${region}\\.`));
    assert.deepEqual(askedElsewhere(hosts, region), [], "the other region is not asked");
  });
}

test(
  "pi auth login: Pi's own flow at kimi.com → a credential that works with this package",
  {
    skip: HAS_AUTH_LOGIN ? false : "Pi before 1.5 has no such command",
  },
  async () => {
    const pi = new Terminal(["auth", "login", "kimi-coding", "--no-browser"], {
      home: machine,
      env: variables(),
      extensions: "installed",
    });
    terminal = pi;
    await pi.waitFor(/Logged in to Kimi/);
    assert.deepEqual(new Set(hosts.asked), new Set([OFFICIAL["mainland-cn"].oauth]), "it knows no other region");
    assert.deepEqual(Object.keys(machine.pi ?? {}).sort(), ["access", "expires", "refresh", "type"]);
    const args = ["-p", "--no-session", "--model", "kimi-coding/kimi-for-coding", "hi"];
    const { stdout, stderr } = await runPi(args, { home: machine, env: variables() });
    assert.equal(stdout.trim(), "Hello from mainland-cn.", stderr);
  },
);
