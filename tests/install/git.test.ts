/** Real Pi installs this checkout with Git: it asks for a build, works once built, and asks again after an update. */
import assert from "node:assert/strict";
import { copyFileSync, cpSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { startSimulator } from "../simulator/index.ts";
import { Installation } from "../support/installation.ts";
import { ADDON, PLATFORM, run } from "../support/packages.ts";
import { ROOT } from "../support/pi.ts";

const simulator = await startSimulator();
const machine = new Installation(simulator);
/** A repository like its author's: the files Git would take from this checkout, committed or not. */
const author = join(machine.path, "author");
/** The same as a web server serves it; Git's plain HTTP protocol needs only files. */
const served = join(machine.path, "served", "team", "kimi");
const server = createServer((request, response) => {
  const file = join(machine.path, "served", (request.url ?? "").split("?")[0] ?? "");
  if (!statSync(file, { throwIfNoEntry: false })?.isFile()) return response.writeHead(404).end();
  return response.end(readFileSync(file));
});

function git(...args: string[]): string {
  const who = ["-c", "user.name=Tester", "-c", "user.email=tester@localhost", "-c", "init.defaultBranch=main"];
  return run("git", [...who, ...args], author, machine.env());
}

function publish(message: string): void {
  git("add", "--all");
  git("commit", "--quiet", "--message", message);
  git("push", "--quiet", served, "HEAD:main");
  run("git", ["update-server-info"], served, machine.env());
}

before(async () => {
  const files = run("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], ROOT);
  for (const file of files.split("\0").filter((name) => name !== "" && existsSync(join(ROOT, name)))) {
    mkdirSync(dirname(join(author, file)), { recursive: true });
    cpSync(join(ROOT, file), join(author, file));
  }
  mkdirSync(served, { recursive: true });
  run("git", ["-c", "init.defaultBranch=main", "init", "--quiet", "--bare"], served, machine.env());
  git("init", "--quiet");
  publish("First");
  await machine.registry.listen();
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
});
after(async () => {
  server.closeAllConnections();
  server.close();
  await machine.close();
  await simulator.close();
});

test("pi install git: install, build, a turn, update, build again, remove", async () => {
  const source = `git:http://127.0.0.1:${(server.address() as AddressInfo).port}/team/kimi`;
  const clone = join(machine.agent, "git", "127.0.0.1", "team", "kimi");
  await machine.pi("install", source);
  assert.deepEqual(machine.packages(), [source]);
  assert.deepEqual(machine.registry.requests, [], "no second Pi inside Pi, nor anything else");
  const unbuilt = await machine.warnings();
  assert.match(unbuilt, /could not be loaded.*npm run build.*\(needs Rust\).*built-in Kimi provider stays in place/);
  assert.ok(unbuilt.includes(JSON.stringify(clone).slice(1, -1)), "it says where");

  // The result of `npm run build`.
  const addon = join(clone, "npm", PLATFORM, "kimi-code.node");
  mkdirSync(dirname(addon), { recursive: true });
  copyFileSync(ADDON, addon);
  await machine.answers();

  writeFileSync(join(author, "CHANGELOG.md"), "# News\n");
  publish("Second");
  await machine.pi("update", "--extensions");
  assert.equal(readFileSync(join(clone, "CHANGELOG.md"), "utf8"), "# News\n");
  assert.ok(!existsSync(addon), "Pi's update removes what Git does not know");
  assert.match(await machine.warnings(), /npm run build/);

  await machine.pi("remove", source);
  assert.ok(!existsSync(clone));
  assert.equal(await machine.warnings(), "[]");
});
