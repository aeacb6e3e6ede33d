/**
 * Disks that refuse: files of others, read-only places, no room. Old files stay whole, nothing is spent whose successor cannot be
 * kept, and the message names the file.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, chownSync, existsSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { lstatSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { describe, test } from "node:test";
import type { Simulator } from "../simulator/index.ts";
import { type Machine, type NodeTurn, type NodeTurnOptions, withMachine } from "../support/account.ts";
import { ROOT } from "../support/pi.ts";

let simulator: Simulator;
let machine: Machine;
withMachine((...given) => ([simulator, machine] = given));

/** Permissions mean nothing to root, so its children run as another user. */
const user = process.getuid?.() === 0 ? 65_534 : undefined;

function whyNot(): string | false {
  if (process.platform === "win32") return "Windows has other permissions";
  if (user === undefined) return false;
  const options = { uid: user, gid: user, cwd: "/" };
  const { status } = spawnSync(process.execPath, ["-e", `require("fs").readdirSync(${JSON.stringify(ROOT)})`], options);
  return status === 0 ? false : "root's children may not read this checkout as another user";
}

/** One turn as a user whom permissions concern. */
function turn(options: NodeTurnOptions = {}): Promise<NodeTurn> {
  if (user === undefined) return machine.nodeTurn(options);
  const give = (path: string): void => {
    if (!lstatSync(path).isSymbolicLink()) chownSync(path, user, user);
    if (lstatSync(path).isDirectory()) for (const name of readdirSync(path)) give(join(path, name));
  };
  give(machine.path);
  return machine.nodeTurn({ ...options, user });
}

/** Nothing was spent, and the files say what they said before. */
function assertUntouched(before: Record<string, string>): void {
  assert.equal(simulator.oauth.refreshCalls, 0, "nothing is spent whose successor cannot be kept");
  for (const [path, content] of Object.entries(before)) assert.equal(readFileSync(path, "utf8"), content);
}

function contents(...paths: string[]): Record<string, string> {
  return Object.fromEntries(paths.map((path) => [path, readFileSync(path, "utf8")]));
}

describe("permissions", { skip: whyNot() }, () => {
  test("an unreadable login is named, not mistaken for a missing one", async () => {
    for (const file of ["kimi", "pi"] as const) {
      machine.kimiLogin(simulator.oauth.login(), 800);
      machine.piLogin(simulator.oauth.login(), 800);
      const path = file === "kimi" ? machine.kimiPath : machine.authPath;
      if (file === "kimi") rmSync(machine.authPath);
      chmodSync(path, 0);
      const { error, code } = await turn();
      assert.equal(code, "io");
      assert.match(error ?? "", /cannot be read: .*[Pp]ermission denied/);
      assert.ok(error?.includes(path), error);
    }
    assert.equal(simulator.requests.length, 0);
  });

  test("a login in a read-only place is used while it lives, and not refreshed to death afterwards", async () => {
    machine.kimiLogin(simulator.oauth.login(), 100);
    chmodSync(dirname(machine.kimiPath), 0o555);
    assert.deepEqual(await turn(), { text: "ok" });
    chmodSync(dirname(machine.kimiPath), 0o755);
    machine.kimiLogin(simulator.oauth.login(), -5);
    chmodSync(dirname(machine.kimiPath), 0o555);
    const before = contents(machine.kimiPath);
    const { error, code } = await turn();
    assert.equal(code, "io");
    assert.match(error ?? "", /cannot be written, so the login in it cannot be refreshed/);
    assertUntouched(before);
    chmodSync(dirname(machine.kimiPath), 0o755);
  });

  test("Pi's login is refreshed also where the official client's home belongs to another user", async () => {
    const login = simulator.oauth.login();
    machine.piLogin(login, -5);
    machine.kimiLogin(login, -5);
    const home = dirname(dirname(machine.kimiPath));
    for (const folder of [dirname(machine.kimiPath), home]) chmodSync(folder, 0o555);
    assert.deepEqual(await turn(), { text: "ok" });
    assert.deepEqual([simulator.oauth.refreshes, simulator.oauth.reuses], [1, 0]);
    assert.ok(simulator.oauth.isAlive(machine.pi?.refresh ?? ""));
    for (const folder of [home, dirname(machine.kimiPath)]) chmodSync(folder, 0o755);
  });

  test("nor does it need the official client's lock where that cannot be taken", async () => {
    machine.piLogin(simulator.oauth.login(), -5);
    const locks = join(dirname(dirname(machine.kimiPath)), "oauth");
    mkdirSync(locks, { recursive: true });
    writeFileSync(join(locks, basename(machine.kimiPath, ".json")), "");
    chmodSync(locks, 0o555);
    assert.deepEqual(await turn(), { text: "ok" });
    assert.deepEqual([simulator.oauth.refreshes, simulator.oauth.reuses], [1, 0]);
    assert.ok(simulator.oauth.isAlive(machine.pi?.refresh ?? ""));
    chmodSync(locks, 0o755);
  });

  test("where neither place can be written, nothing is spent", async () => {
    const login = simulator.oauth.login();
    machine.piLogin(login, -5);
    machine.kimiLogin(login, -5);
    const folders = [machine.agent, dirname(machine.kimiPath), dirname(dirname(machine.kimiPath))];
    for (const folder of folders.slice(0, 2)) chmodSync(folder, 0o555);
    const before = contents(machine.authPath, machine.kimiPath);
    const { error, code } = await turn();
    assert.equal(code, "io");
    assert.match(error ?? "", /cannot be (taken|written)/);
    assertUntouched(before);
    for (const folder of folders) chmodSync(folder, 0o755);
  });

  test("read-only files are replaced in a place of our own, and stay read-only", async () => {
    const login = simulator.oauth.login();
    machine.piLogin(login, -5);
    machine.kimiLogin(login, -5);
    for (const path of [machine.authPath, machine.kimiPath]) chmodSync(path, 0o400);
    assert.deepEqual(await turn(), { text: "ok" });
    assert.equal(machine.pi?.access, machine.kimi?.access_token);
    assert.deepEqual([simulator.oauth.refreshes, simulator.oauth.reuses], [1, 0]);
    for (const path of [machine.authPath, machine.kimiPath]) assert.equal(statSync(path).mode & 0o777, 0o400);
  });
});

describe("links", () => {
  test("a linked auth.json is written through under both locks, and stays a link", async () => {
    machine.piLogin(simulator.oauth.login(), 800);
    const real = join(machine.path, "elsewhere.json");
    writeFileSync(real, readFileSync(machine.authPath));
    rmSync(machine.authPath);
    symlinkSync(real, machine.authPath);
    simulator.oauth.revokeAccess();
    assert.equal((await machine.nodeTurn()).text, "ok");
    assert.ok(lstatSync(machine.authPath).isSymbolicLink());
    assert.equal(readFileSync(real, "utf8").includes(machine.kimi?.access_token ?? "-"), true);
    assert.equal(existsSync(`${real}.lock`) || existsSync(`${machine.authPath}.lock`), false);
  });

  test("a linked login of the official client is written through", async () => {
    machine.kimiLogin(simulator.oauth.login(), -5);
    const real = join(machine.path, "stowed", "login.json");
    mkdirSync(dirname(real));
    writeFileSync(real, readFileSync(machine.kimiPath));
    rmSync(machine.kimiPath);
    symlinkSync(real, machine.kimiPath);
    assert.equal((await machine.nodeTurn()).text, "ok");
    assert.ok(lstatSync(machine.kimiPath).isSymbolicLink());
    assert.ok(simulator.oauth.isAlive(machine.kimi?.refresh_token ?? ""));
    assert.deepEqual(readdirSync(dirname(real)), ["login.json"]);
  });
});

// A limit of the process stands in for a full disk: it fails the same write, and needs no privilege.
describe("no room", { skip: process.platform === "linux" ? false : "the limit is set as Linux has it" }, () => {
  test("leaves both files whole, spends nothing, and says what could not be written", async () => {
    const login = simulator.oauth.login();
    for (const pi of [false, true]) {
      machine.kimiLogin(login, -5);
      if (pi) machine.piLogin(login, -5);
      const before = contents(machine.kimiPath, ...(pi ? [machine.authPath] : []));
      const { error, code } = await machine.nodeTurn({ withoutSpace: true });
      assert.equal(code, "io");
      assert.match(error ?? "", /cannot be written: .*too large/i);
      assert.equal(error?.includes(login.refresh), false);
      assertUntouched(before);
      const left = [dirname(machine.kimiPath), machine.agent].flatMap((folder) => readdirSync(folder));
      assert.deepEqual(
        left.filter((name) => name.includes(".tmp.") || name.endsWith(".lock")),
        [],
      );
    }
  });

  test("does not keep a token from being used that still works", async () => {
    machine.kimiLogin(simulator.oauth.login(), 100);
    assert.deepEqual(await machine.nodeTurn({ withoutSpace: true }), { text: "ok" });
    assert.equal(simulator.oauth.refreshCalls, 0);
  });
});
