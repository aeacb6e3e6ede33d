/** Both regions under their official names, mapped to the loopback: each login lives in its own, and nothing crosses. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { host } from "../../extension/environment.ts";
import { KimiServices } from "../../extension/services.ts";
import { OFFICIAL, type OfficialHosts, type RegionId } from "../simulator/official-hosts.ts";
import { type Entry, type KimiFile, Machine } from "../support/account.ts";
import { addon as loadedAddon } from "../support/turn.ts";
import { runPi } from "../support/pi.ts";
import { askedElsewhere, REGIONS, type Simulators, withRegions } from "../support/regions.ts";

const other = (region: RegionId): RegionId => (region === "global" ? "mainland-cn" : "global");
/** File names of the official client (docs/protocol.md#credential-scopes). */
const CREDENTIAL_FILE = { "mainland-cn": "kimi-code", global: "kimi-code-env-0e4f99c69cc27850" } as const;

const addon = loadedAddon();

let simulators: Simulators;
let hosts: OfficialHosts;
let machine: Machine;

withRegions(
  (region) => region,
  (...started) => ([simulators, hosts] = started),
);
beforeEach(() => {
  machine = new Machine(simulators["mainland-cn"]);
});
afterEach(() => machine.remove());

/** Nothing but the mapping decides where requests go. */
function variables(more: Record<string, string> = {}): Record<string, string | undefined> {
  return { KIMI_CODE_BASE_URL: undefined, KIMI_CODE_OAUTH_HOST: undefined, ...hosts.environment, ...more };
}

function request(more: Record<string, unknown> = {}): string {
  const environment = { HOME: machine.home, PI_CODING_AGENT_DIR: machine.agent, ...hosts.environment };
  return JSON.stringify({ environment, host: {}, ...more });
}

function credentialPath(region: RegionId): string {
  return join(machine.home, ".kimi-code", "credentials", `${CREDENTIAL_FILE[region]}.json`);
}

function credential(region: RegionId): KimiFile | undefined {
  const path = credentialPath(region);
  return existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")) as KimiFile) : undefined;
}

/** A login of the official client in this region, with so many seconds of life left. */
function give(region: RegionId, remaining: number): { access: string; refresh: string } {
  const { access, refresh } = simulators[region].oauth.login();
  const expires_at = Math.floor(Date.now() / 1000) + remaining;
  mkdirSync(dirname(credentialPath(region)), { recursive: true });
  const content = { access_token: access, refresh_token: refresh, expires_at, expires_in: 900 };
  writeFileSync(credentialPath(region), JSON.stringify(content));
  return { access, refresh };
}

function signIn(more: Record<string, unknown>): Promise<Entry> {
  return new Promise((resolve, reject) => {
    addon.startLogin(request(more), (text) => {
      const step = JSON.parse(text) as { type: string; credential?: Entry; message?: string };
      if (step.type === "done" && step.credential) resolve(step.credential);
      if (step.type === "failed") reject(new Error(step.message));
    });
  });
}

function assertOnly(region: RegionId): void {
  assert.deepEqual(simulators[other(region)].requests, []);
  assert.notEqual(simulators[region].requests.length, 0);
  assert.deepEqual(askedElsewhere(hosts, region), []);
}

for (const region of REGIONS) {
  describe(region, () => {
    test("a login is made with its OAuth host, kept in its own file, and knows where it belongs", async () => {
      const entry = await signIn({ region });
      assertOnly(region);
      const asked = new Set(simulators[region].requests.map((one) => one.headers["host"]));
      assert.deepEqual(asked, new Set([OFFICIAL[region].oauth]));
      assert.equal(credential(region)?.access_token, entry.access);
      assert.equal(credential(other(region)), undefined);
      const expected =
        region === "global" ? ["https://auth.kimi.ai", "https://api.kimi.ai/coding"] : [undefined, undefined];
      assert.deepEqual([entry["oauthHost"], entry["baseUrl"]], expected);
    });

    test("the official client's region marker decides where nothing else does", async () => {
      mkdirSync(join(machine.home, ".kimi-code"), { recursive: true });
      writeFileSync(join(machine.home, ".kimi-code", "region"), `${region}\n`);
      await signIn({});
      assertOnly(region);
      // What a person has just chosen outranks it.
      await signIn({ region: other(region) });
      assert.equal(simulators[other(region)].oauth.logins, 1);
    });

    test("its expired login is refreshed where it came from, and the other region's is left alone", async () => {
      give(region, -5);
      const foreign = give(other(region), region === "global" ? -5 : 800);
      // The official client's last login says which of the two counts.
      const oauth = region === "global" ? 'oauth_host = "https://auth.kimi.ai"' : 'key = "oauth/kimi-code"';
      const config = `[providers."managed:kimi-code".oauth]\n${oauth}\n`;
      writeFileSync(join(machine.home, ".kimi-code", "config.toml"), config);
      assert.deepEqual(await machine.nodeTurn({ env: variables() }), { text: region });
      assertOnly(region);
      assert.equal(simulators[region].oauth.refreshes, 1);
      assert.equal(credential(other(region))?.refresh_token, foreign.refresh);
    });

    test("Pi's login goes to its API and heals with its OAuth host", async () => {
      const entry = await signIn({ region });
      const foreign = give(other(region), 800);
      writeFileSync(machine.authPath, JSON.stringify({ "kimi-coding": entry }), { mode: 0o600 });
      simulators[region].oauth.revokeAccess();
      simulators[other(region)].requests.length = 0;
      const args = ["-p", "--no-session", "--model", "kimi-coding/kimi-for-coding", "hi"];
      const { stdout, stderr } = await runPi(args, { home: machine, env: variables() });
      assert.equal(stdout.trim(), region, stderr);
      assertOnly(region);
      assert.deepEqual([simulators[region].oauth.refreshes, simulators[region].oauth.reuses], [1, 0]);
      assert.equal(machine.pi?.access, credential(region)?.access_token);
      assert.equal(credential(other(region))?.access_token, foreign.access);
    });
  });
}

test("a login of one region is refused, not sent, where the environment asks for the other", async () => {
  const entry = await signIn({ region: "global" });
  writeFileSync(machine.authPath, JSON.stringify({ "kimi-coding": entry }), { mode: 0o600 });
  hosts.asked.length = 0;
  const env = variables({ KIMI_CODE_BASE_URL: "https://api.kimi.com/coding" });
  const args = ["-p", "--no-session", "--model", "kimi-coding/kimi-for-coding", "hi"];
  const { code, stderr } = await runPi(args, { home: machine, env });
  assert.equal(code, 1);
  assert.match(stderr, /belongs to the region global/);
  assert.deepEqual(hosts.asked, []);
});

test("a login of the default region, which records no hosts → refused, not sent, where the other region is chosen", async () => {
  const env = variables({ KIMI_CODE_REGION: "global" });
  const args = ["-p", "--no-session", "--model", "kimi-coding/kimi-for-coding", "hi"];
  // Valid, and due for a refresh.
  for (const remaining of [800, -10]) {
    machine.piLogin(simulators["mainland-cn"].oauth.login(), remaining);
    const { code, stderr } = await runPi(args, { home: machine, env });
    assert.equal(code, 1);
    assert.match(stderr, /belongs to the region mainland-cn/);
    const turn = await machine.nodeTurn({ env });
    assert.match(turn.error ?? "", /belongs to the region mainland-cn/);
  }
  assert.deepEqual(hosts.asked, []);
});

test("tool of the service beside a key → the stored login, in its own region only", async () => {
  const services = new KimiServices(addon, host("0.87.1"));
  const places = { HOME: machine.home, PI_CODING_AGENT_DIR: machine.agent };
  const search = (more: Record<string, string> = {}): Promise<unknown> =>
    services.search("kimi", { env: { ...places, ...variables(more) }, credential: "sk-kimi-key" });
  const { access } = give("global", 800);
  await search();
  assertOnly("global");
  assert.equal(simulators.global.requests.at(-1)?.headers["authorization"], `Bearer ${access}`);
  hosts.asked.length = 0;
  machine.piLogin(simulators.global.oauth.login(), 800, {
    oauthHost: "https://auth.kimi.ai",
    baseUrl: "https://api.kimi.ai/coding",
  });
  for (const chosen of [{ KIMI_CODE_REGION: "mainland-cn" }, { KIMI_CODE_BASE_URL: "https://api.kimi.com/coding" }]) {
    await assert.rejects(search(chosen as Record<string, string>), { code: "login_required" });
  }
  assert.deepEqual(hosts.asked, []);
});

test("a certificate of an unknown authority ends the login before anything is sent", async () => {
  const { HTTPS_PROXY } = hosts.environment;
  const environment = { HOME: machine.home, HTTPS_PROXY };
  await assert.rejects(signIn({ environment, region: "global" }), /certificate/i);
  assert.deepEqual(simulators.global.requests, []);
});
