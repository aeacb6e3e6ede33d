/** The doctor's other forms: as text, with a tiny request, as a file for bug reports, in Pi. */
import assert from "node:assert/strict";
import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { exitCode, publicReport } from "../../extension/doctor/format.ts";
import type { DoctorReport } from "../../extension/doctor/examine.ts";
import type { Simulator } from "../simulator/index.ts";
import { type Machine, withMachine } from "../support/account.ts";
import { command } from "../support/doctor.ts";
import { RpcPi, runPi } from "../support/pi.ts";

let simulator: Simulator;
let machine: Machine;
withMachine((...given) => ([simulator, machine] = given));

const key = (): Record<string, string> => ({ KIMI_API_KEY: simulator.apiKey });

test("text → one line for each check, cures below, the sum at the end", async () => {
  const well = await command(machine, ["doctor"], key());
  assert.equal(well.code, 0);
  assert.match(well.stdout, /^ok +addon +version [\d.]+ for /m);
  assert.match(well.stdout, /\nEverything is well\.\n$/);
  const ill = await command(machine, ["doctor"], { KIMI_API_KEY: "sk-kimi-wrong-0123456789" });
  assert.equal(ill.code, 2);
  assert.match(ill.stdout, /\nfault +credential .*\n +→ Correct KIMI_API_KEY/);
  assert.match(ill.stdout, /\n1 fault\.\n$/);
});

test("exit codes → 0 all well, 1 warnings, 2 faults", () => {
  const of = (...statuses: ("ok" | "warning" | "fault")[]): number =>
    exitCode({ ok: false, checks: statuses.map((status) => ({ id: "x", status, message: "" })) });
  assert.deepEqual([of("ok"), of("ok", "warning"), of("warning", "fault", "ok")], [0, 1, 2]);
});

test("unknown command or option → usage or message on stderr, code 2", async () => {
  for (const args of [[], ["cure"], ["doctor", "--everything"]]) {
    const { code, stdout, stderr } = await command(machine, args, key());
    assert.deepEqual([code, stdout], [2, ""]);
    assert.notEqual(stderr, "");
  }
});

test("--live → one tiny request, whose refusal of unknown clients is a warning outside of Pi", async () => {
  simulator.settings.identityGate = "off";
  const well = await command(machine, ["doctor", "--live"], key());
  assert.equal(well.code, 0, well.stdout);
  assert.match(well.stdout, /^ok +live +kimi-for-coding answered in \d+ ms/m);
  const sent = simulator.requests.filter(({ endpoint }) => endpoint === "chat");
  assert.equal(sent.length, 1);
  assert.ok((sent[0]?.rawBody.length ?? 0) < 200);
  simulator.settings.identityGate = "agent";
  const refused = await command(machine, ["doctor", "--live"], key());
  assert.equal(refused.code, 1);
  assert.match(refused.stdout, /\nwarning +live /);
});

test("--report → shown first, written only after consent, readable by the user alone", async () => {
  const file = join(machine.path, "report.txt");
  const asked = await command(machine, ["doctor", "--report", file], key());
  assert.match(asked.stdout, /pi-provider-kimi-code doctor, .*Not written\.\n$/s);
  assert.equal(existsSync(file), false);
  const written = await command(machine, ["doctor", "--report", file, "--yes"], key());
  const text = readFileSync(file, "utf8");
  assert.ok(written.stdout.startsWith(text), "the report is shown as it is written");
  assert.ok(!text.includes(machine.home) && !text.includes(simulator.apiKey));
  assert.match(text, /~\/\.pi\/pi-provider-kimi-code/);
  if (process.platform !== "win32") assert.equal(statSync(file).mode & 0o777, 0o600);
});

test("cache → the verdicts of the last session", async () => {
  const none = await command(machine, ["doctor"], key());
  assert.match(none.stdout, /^ok +cache +no session is recorded$/m);
  for (const text of ["one", "two"]) {
    simulator.enqueue({ steps: [{ text }] });
    const run = await runPi(["-p", "-c", text], { home: machine, env: machine.variables(key()) });
    assert.equal(run.stderr, "");
  }
  const { stdout } = await command(machine, ["doctor"], key());
  assert.match(stdout, /^ok +cache +the last session, .* ago: [\d \w,]+; \d+ % of the prompts came from the cache$/m);
});

test("login → says where the key comes from, on the command line and in Pi", async () => {
  const line = async (args: string[], env: Record<string, string>): Promise<string> => {
    const { stdout } = await runPi(["-p", ...args, "/kimi-doctor"], { home: machine, env: machine.variables(env) });
    return /^ok +login +(.*)$/m.exec(stdout)?.[1] ?? stdout;
  };
  const { stdout } = await command(machine, ["doctor"], key());
  assert.match(stdout, /^ok +login +KIMI_API_KEY$/m);
  assert.equal(await line([], key()), "KIMI_API_KEY");
  const passed = ["--model", "kimi-coding/kimi-for-coding", "--api-key", simulator.apiKey];
  assert.equal(await line(passed, {}), "an API key that Pi or the program passed");
});

test("report → home, user and machine are left out", () => {
  const report: DoctorReport = { ok: true, checks: [{ id: "home", status: "ok", message: process.env["HOME"] ?? "" }] };
  assert.match(publicReport(report), /^ok +home +~$/m);
});

test("/kimi-doctor in Pi → the same checks, with Pi's version and credential", async () => {
  const env = machine.variables(key());
  const { stdout, stderr } = await runPi(["-p", "/kimi-doctor --live"], { home: machine, env });
  assert.equal(stderr, "");
  assert.match(stdout, /^ok +pi +Pi \d+\.\d+\.\d+/m);
  assert.match(stdout, /^ok +live +/m);
  assert.match(stdout, /Everything is well\./);
  const json = await runPi(["-p", "/kimi-doctor --json"], { home: machine, env });
  assert.equal((JSON.parse(json.stdout) as DoctorReport).ok, true);
  const unknown = await runPi(["-p", "/kimi-doctor --all"], { home: machine, env });
  assert.match(unknown.stdout, /--all is unknown/);
});

test("/kimi-doctor --report in Pi → asks with the whole text, and writes after a yes", async () => {
  const pi = new RpcPi([], { home: machine, env: machine.variables(key()) });
  try {
    const from = pi.events.length;
    void pi.command({ type: "prompt", message: "/kimi-doctor --report" });
    const asked = await pi.waitFor(
      (event) => event.type === "extension_ui_request" && event["method"] === "confirm",
      from,
    );
    assert.match(String(asked["message"]), /Everything is well\./);
    const file = /Write this to (.*)\?/.exec(String(asked["title"]))?.[1] ?? "";
    assert.equal(existsSync(file), false);
    pi.answer({ type: "extension_ui_response", id: asked["id"], confirmed: true });
    const said = (event: Record<string, unknown>): boolean => String(event["message"]).startsWith("Written: ");
    await pi.waitFor((event) => event.type === "extension_ui_request" && said(event), from);
    assert.equal(readFileSync(file, "utf8"), String(asked["message"]));
  } finally {
    await pi.close();
  }
});
