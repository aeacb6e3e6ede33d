/**
 * The official client and we share one login: `npm run test:interop`.
 *
 * Installs `@moonshot-ai/kimi-code` into `.cache/` and runs both against the simulator. That the official client is content with
 * it also proves the simulator.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type Simulator, startSimulator } from "../simulator/index.ts";
import { mapOfficialHosts, OFFICIAL } from "../simulator/official-hosts.ts";
import { Machine } from "../support/account.ts";
import { installOfficialClient, OFFICIAL_CLIENT } from "../support/official-client.ts";
import { runPi } from "../support/pi.ts";
import { notes, preloading } from "../support/preload.ts";

const MODEL = ["--no-session", "--model", "kimi-coding/kimi-for-coding"];

/** What tests/support/stop-at-lock.cjs notes. */
interface Meeting {
  what: "stopped" | "taken";
  pid: number;
  at: number;
}

let simulator: Simulator;
let machine: Machine;

before(async () => {
  installOfficialClient();
  simulator = await startSimulator();
});
after(() => simulator?.close());
beforeEach(async () => {
  simulator.reset();
  simulator.setDefault({ steps: [{ text: "Hello." }] });
  machine = new Machine(simulator);
  const { code, output } = await kimi("login");
  assert.equal(code, 0, output);
});
afterEach(() => machine.remove());

/** Runs the official client to its end. */
function kimi(...args: string[]): Promise<{ code: number | null; output: string }> {
  return kimiWith({}, ...args);
}

async function kimiWith(
  variables: Record<string, string | undefined>,
  ...args: string[]
): Promise<{ code: number | null; output: string }> {
  const env = machine.env(machine.variables({ KIMI_DISABLE_TELEMETRY: "1", NO_COLOR: "1", ...variables }));
  const child = spawn(process.execPath, [OFFICIAL_CLIENT, ...args], {
    cwd: machine.cwd,
    env,
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => (output += text));
  }
  const timer = setTimeout(() => child.kill("SIGKILL"), 90_000);
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  clearTimeout(timer);
  return { code, output };
}

async function theirs(): Promise<void> {
  const { code, output } = await kimi("-p", "hi");
  assert.equal(code, 0, output);
  assert.match(output, /Hello\./);
}

async function ours(): Promise<void> {
  const { stdout, stderr } = await runPi(["-p", ...MODEL, "hi"], { home: machine, env: machine.variables() });
  assert.equal(stdout.trim(), "Hello.", stderr);
}

/** Makes the shared login look as old as given, in seconds of remaining life. */
function age(remaining: number): void {
  const file = machine.kimi;
  assert.ok(file);
  machine.kimiLogin({ access: file.access_token, refresh: file.refresh_token }, remaining);
}

function counts(): [refreshes: number, reuses: number, logins: number] {
  const { refreshes, reuses, logins } = simulator.oauth;
  return [refreshes, reuses, logins];
}

test("its login has the slot and the form we expect, and Pi works with it at once", async () => {
  assert.equal(machine.kimi?.scope, "kimi-code");
  await ours();
  assert.deepEqual(counts(), [0, 0, 1]);
});

test("it keeps working after our refresh", async () => {
  age(-5);
  await ours();
  await theirs();
  assert.deepEqual(counts(), [1, 0, 1]);
});

test("we keep working after its refresh, also with a login of our own in Pi", async () => {
  const { access_token: access = "", refresh_token: refresh = "" } = machine.kimi ?? {};
  machine.piLogin({ access, refresh }, 800);
  age(-5);
  await theirs();
  assert.deepEqual(counts(), [1, 0, 1]);
  await ours();
  assert.equal(machine.pi?.access, machine.kimi?.access_token, "its token was adopted");
  assert.deepEqual(counts(), [1, 0, 1]);
});

test("both at once cause one refresh, however slow", async () => {
  const { access_token: access = "", refresh_token: refresh = "" } = machine.kimi ?? {};
  machine.piLogin({ access, refresh }, -5);
  age(-5);
  simulator.oauth.tokenDelayMs = 6000;
  await Promise.all([theirs(), ours(), theirs(), ours(), machine.nodeTurn()]);
  assert.deepEqual(counts(), [1, 0, 1]);
});

for (const [what, ahead] of [
  ["15 s ahead of ours", 15_000],
  ["15 s behind ours", -15_000],
] as const) {
  test(`its clock is ${what} during our slow refresh → it waits for our answer`, async () => {
    age(-60);
    simulator.oauth.planRefresh = () => ({ beforeMs: 12_000 });
    const clock = join(machine.path, "clock");
    writeFileSync(clock, String(ahead));
    const meetings = join(machine.path, "meetings");
    const prompt = kimiWith(
      {
        NODE_OPTIONS: preloading("stop-at-lock.cjs", "shifted-clock.cjs"),
        KIMI_TEST_CLOCK: clock,
        KIMI_TEST_LOCK: machine.lockPath,
        KIMI_TEST_MEETINGS: meetings,
      },
      "-p",
      "hi",
    );
    // However long it takes to start: it stops at the lock and goes on when our call is under way.
    while (!existsSync(meetings)) {
      const early = await Promise.race([prompt, sleep(100)]);
      assert.equal(early, undefined, "it ended without a look at the lock");
    }
    const turn = machine.nodeTurn();
    const call = await simulator.waitForRequest(
      ({ endpoint, rawBody }) => endpoint === "token" && /refresh_token=/.test(rawBody.toString()),
      60_000,
    );
    process.kill(notes<Meeting>(meetings)[0]?.pid ?? 0, "SIGCONT");
    const { code, output } = await prompt;
    assert.equal(code, 0, output);
    assert.deepEqual(await turn, { text: "Hello." });
    assert.deepEqual(counts(), [1, 0, 1]);
    const during = notes<Meeting>(meetings).filter(({ what, at }) => what === "taken" && at < (call.endedAt ?? 0));
    assert.notEqual(during.length, 0, "it did not meet our lock");
  });
}

test("our tombstone tells it to sign in again, and its new login brings us back", async () => {
  simulator.oauth.revokeAll();
  age(-5);
  const { code } = await runPi(["-p", ...MODEL, "hi"], { home: machine, env: machine.variables() });
  assert.equal(code, 1);
  const refused = await kimi("-p", "hi");
  assert.notEqual(refused.code, 0);
  assert.equal(simulator.oauth.refreshCalls, 1, "no second request");
  assert.equal((await kimi("login")).code, 0);
  await ours();
});

test("its login in either region, under the official host names, leads us to the same region", async () => {
  const simulators = { "mainland-cn": await startSimulator(), global: await startSimulator() };
  const hosts = await mapOfficialHosts(simulators);
  try {
    const env = { KIMI_CODE_BASE_URL: undefined, KIMI_CODE_OAUTH_HOST: undefined, ...hosts.environment };
    for (const region of ["global", "mainland-cn"] as const) {
      simulators[region].setDefault({ steps: [{ text: region }] });
      const { code, output } = await kimiWith(env, "login", "--region", region);
      assert.equal(code, 0, output);
      assert.equal(simulators[region].oauth.logins, 1, output);
      // A second login of ours would count, and so would a token that strays.
      simulators[region].oauth.revokeAccess();
      assert.deepEqual(await machine.nodeTurn({ env }), { text: region });
      const prompt = await kimiWith(env, "-p", "hi");
      assert.match(prompt.output, new RegExp(region));
      const { refreshes, reuses, logins } = simulators[region].oauth;
      assert.deepEqual([refreshes, reuses, logins], [1, 0, 1]);
    }
    const known: string[] = Object.values(OFFICIAL).flatMap((one) => Object.values(one));
    const requests = [...simulators.global.requests, ...simulators["mainland-cn"].requests];
    assert.deepEqual(
      requests.filter((one) => one.status === 401 && one.endpoint !== "chat"),
      [],
    );
    assert.ok(requests.every((one) => known.includes(one.headers["host"] ?? "")));
  } finally {
    await hosts.close();
    for (const one of Object.values(simulators)) await one.close();
  }
});
