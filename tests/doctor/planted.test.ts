/** The doctor on machines with one planted fault each: it finds that one, names its cure, and says nothing on a healthy machine. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  cpSync,
  mkdirSync,
  readdirSync,
  realpathSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { createServer as createHttpServer, type RequestListener } from "node:http";
import { createServer, type AddressInfo, type Server } from "node:net";
import { createServer as createTlsServer } from "node:tls";
import { dirname, join, relative } from "node:path";
import { afterEach, describe, test } from "node:test";
import { issueCertificates } from "../simulator/certificates.ts";
import type { Simulator } from "../simulator/index.ts";
import { mapOfficialHosts } from "../simulator/official-hosts.ts";
import { type Machine, withMachine } from "../support/account.ts";
import { type Diagnosis, diagnose, type DoctorOptions } from "../support/doctor.ts";
import { ADDON, PLATFORM } from "../support/packages.ts";
import { ROOT } from "../support/pi.ts";

let simulator: Simulator;
let machine: Machine;
withMachine((...given) => ([simulator, machine] = given));

/** Servers of a test. */
const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

async function listening(server: Server): Promise<number> {
  servers.push(server);
  await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
  return (server.address() as AddressInfo).port;
}

const web = (answer: RequestListener): Promise<number> => listening(createHttpServer(answer));

/** A port on which nothing listens. */
async function closedPort(): Promise<number> {
  const server = createServer();
  const port = await listening(server);
  await new Promise((closed) => server.close(closed));
  return port;
}

const run = (env: Record<string, string | undefined> = {}, options: DoctorOptions = {}): Promise<Diagnosis> =>
  diagnose(machine, { KIMI_API_KEY: simulator.apiKey, ...env }, options);

/** Everything that is not well, as `id: cure`. */
const findings = ({ checks }: Diagnosis): string[] =>
  checks.filter(({ status }) => status !== "ok").map(({ id, cure = "" }) => `${id}: ${cure}`);

/** The one finding, whose cure matches. */
function finds(diagnosis: Diagnosis, id: string, cure: RegExp, status: "warning" | "fault" = "fault"): void {
  const found = diagnosis.checks.filter((check) => check.status !== "ok");
  assert.deepEqual(
    found.map((check) => [check.id, check.status]),
    [[id, status]],
    JSON.stringify(found, null, 1),
  );
  assert.match(found[0]?.cure ?? "", cure);
  assert.equal(diagnosis.code, status === "fault" ? 2 : 1);
  assert.equal(diagnosis.ok, false);
}

describe("healthy machine", () => {
  test("key, Pi's login, the official client's login, no network settings → nothing is found", async () => {
    const key = await run();
    assert.deepEqual([findings(key), key.code, key.ok], [[], 0, true]);
    machine.piLogin(simulator.oauth.login(), 800);
    assert.deepEqual(findings(await run({ KIMI_API_KEY: undefined })), []);
    machine.kimiLogin(simulator.oauth.login(), 800);
    const both = await run({ KIMI_API_KEY: undefined });
    assert.deepEqual([findings(both), both.code], [[], 0]);
    assert.ok(both.checks.some(({ id }) => id === "login.shared"));
  });

  test("a login that is due → is refreshed once, as any request does", async () => {
    machine.kimiLogin(simulator.oauth.login(), -10);
    assert.deepEqual(findings(await run({ KIMI_API_KEY: undefined })), []);
    assert.equal(simulator.oauth.refreshes, 1);
  });

  test("both regions through a proxy with an authority of its own → nothing is found", async () => {
    const hosts = await mapOfficialHosts({ "mainland-cn": simulator, global: simulator });
    const official = { ...hosts.environment, KIMI_CODE_BASE_URL: undefined, KIMI_CODE_OAUTH_HOST: undefined };
    for (const region of ["mainland-cn", "global"]) {
      const diagnosis = await run({ ...official, KIMI_CODE_REGION: region });
      assert.deepEqual(findings(diagnosis), []);
      const phases = diagnosis.checks.filter(({ id }) => id.startsWith("connection.")).map(({ id }) => id);
      assert.deepEqual(phases, ["connection.proxy", "connection.tls", "connection.http"]);
    }
    await hosts.close();
  });
});

describe("credential", () => {
  test("wrong key → its variable", async () => {
    const key = "sk-kimi-planted-and-wrong-0123456789";
    const diagnosis = await run({ KIMI_API_KEY: key });
    finds(diagnosis, "credential", /^Correct KIMI_API_KEY/);
    assert.ok(!diagnosis.stdout.includes(key.slice(8)));
  });

  test("expired login that the service has ended → sign in", async () => {
    machine.piLogin({ access: "expired-access-token", refresh: "ended-refresh-token" }, -3600);
    const diagnosis = await run({ KIMI_API_KEY: undefined });
    finds(diagnosis, "login", /\/login kimi-coding/);
    assert.doesNotMatch(diagnosis.stdout, /ended-refresh|expired-access/);
  });

  test("no login at all → sign in", async () => {
    finds(await run({ KIMI_API_KEY: undefined }), "login", /\/login kimi-coding/);
  });

  test("login of the other region → unset the region or sign in, and the token goes nowhere", async () => {
    const hosts = await mapOfficialHosts({ "mainland-cn": simulator, global: simulator });
    const { access, refresh } = simulator.oauth.login();
    const env = { ...hosts.environment, KIMI_CODE_BASE_URL: undefined, KIMI_CODE_OAUTH_HOST: undefined };
    const elsewhere = { ...env, KIMI_API_KEY: undefined, KIMI_CODE_REGION: "global" };
    machine.piLogin({ access, refresh }, 800);
    finds(await run(elsewhere), "login.region", /unset KIMI_CODE_REGION/);
    writeFileSync(machine.authPath, "{}");
    const file = join(machine.home, ".kimi-code", "credentials", "kimi-code.json");
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, JSON.stringify({ access_token: access, refresh_token: refresh, expires_at: Date.now() }));
    finds(await run(elsewhere), "login.region", /unset KIMI_CODE_REGION/);
    assert.ok(simulator.requests.every(({ headers }) => headers["authorization"] === undefined));
    await hosts.close();
  });

  test("auth.json that is not JSON → the file", async () => {
    writeFileSync(machine.authPath, '{"kimi-coding": {"type": "oauth", "access": "secret-token');
    const diagnosis = await run();
    finds(diagnosis, "login.file", /mv .*auth\.json .*auth\.json\.bak/);
    assert.ok(!diagnosis.stdout.includes("secret-token"));
  });
});

describe("connection", () => {
  test("dead proxy → its variable", async () => {
    const env = {
      HTTPS_PROXY: `http://127.0.0.1:${await closedPort()}`,
      KIMI_CODE_BASE_URL: "https://api.example/coding",
    };
    finds(await run(env), "connection.proxy", /unset HTTPS_PROXY/);
  });

  test("proxy that wants a password → where it is written", async () => {
    const proxy = createHttpServer((_, response) => response.writeHead(407).end());
    proxy.on("connect", (_, socket) => socket.end("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"));
    const port = await listening(proxy);
    const https = { HTTPS_PROXY: `http://me:planted-password@127.0.0.1:${port}` };
    const diagnosis = await run({ ...https, KIMI_CODE_BASE_URL: "https://api.example/coding" });
    finds(diagnosis, "connection.proxy", /into HTTPS_PROXY, as user:password@ between http:\/\/ and 127\.0\.0\.1:\d+/);
    assert.ok(!diagnosis.stdout.includes("planted-password"));
    const http = { HTTP_PROXY: `http://127.0.0.1:${port}`, KIMI_CODE_BASE_URL: "http://api.example/coding" };
    finds(await run(http), "connection.proxy", /into HTTP_PROXY, as/);
  });

  test("unknown certificate → NODE_EXTRA_CA_CERTS", async () => {
    const { certificate, key } = issueCertificates(["localhost"]);
    const port = await listening(createTlsServer({ cert: certificate, key }, (socket) => socket.destroy()));
    const env = { KIMI_CODE_BASE_URL: `https://localhost:${port}/coding` };
    finds(await run(env), "connection.tls", /NODE_EXTRA_CA_CERTS/);
  });

  test("clock off by an hour → set the clock", async () => {
    const port = await web((_, response) => {
      const date = new Date(Date.now() + 3_600_000).toUTCString();
      response.writeHead(200, { date, "content-type": "application/json" }).end('{"data":[{"id":"k3"}]}');
    });
    const diagnosis = await run({ KIMI_CODE_BASE_URL: `http://127.0.0.1:${port}/coding` });
    finds(diagnosis, "clock", /^Set the clock/);
    assert.match(diagnosis.stdout, /clock is (1 h|60 min) behind/);
  });

  test("name that does not resolve → the address", async () => {
    const diagnosis = await run({ KIMI_CODE_BASE_URL: "http://no.such.host.invalid/coding" });
    finds(diagnosis, "connection.dns", /unset KIMI_CODE_BASE_URL/);
  });

  test("closed port → the address", async () => {
    const env = { KIMI_CODE_BASE_URL: `http://127.0.0.1:${await closedPort()}/coding` };
    finds(await run(env), "connection.tcp", /unset KIMI_CODE_BASE_URL/);
  });

  test("host that answers HTML → the address, and the page's title", async () => {
    const page = "<html><head><title>Hotel guest network</title></head></html>";
    const port = await web((_, response) => response.writeHead(200, { "content-type": "text/html" }).end(page));
    const diagnosis = await run({ KIMI_CODE_BASE_URL: `http://127.0.0.1:${port}/coding` });
    finds(diagnosis, "connection.http", /unset KIMI_CODE_BASE_URL/);
    assert.match(diagnosis.stdout, /Hotel guest network/);
  });

  test("host that accepts and never answers → ends by its own limit and names the phase", async () => {
    const port = await listening(createServer(() => {}));
    const service = { KIMI_CODE_BASE_URL: `http://127.0.0.1:${port}/coding` };
    finds(await run(service), "connection.http", /unset KIMI_CODE_BASE_URL/);
    const proxy = { HTTPS_PROXY: `http://127.0.0.1:${port}`, KIMI_CODE_BASE_URL: "https://api.example/coding" };
    const diagnosis = await run(proxy);
    assert.match(findings(diagnosis).join(), /^connection\.(proxy|http): /);
  });

  test("models.json with a dead host → the file", async () => {
    const baseUrl = `http://127.0.0.1:${await closedPort()}/coding`;
    writeFileSync(join(machine.agent, "models.json"), JSON.stringify({ providers: { "kimi-coding": { baseUrl } } }));
    const diagnosis = await run({ KIMI_CODE_BASE_URL: undefined, KIMI_CODE_OAUTH_HOST: undefined });
    finds(diagnosis, "connection.tcp", /baseUrl.* of kimi-coding in .*models\.json/);
  });
});

/** Permissions mean nothing to root, so its children run as another user. */
const user = process.getuid?.() === 0 ? 65_534 : undefined;

function cannotDropRights(): string | false {
  if (process.platform === "win32") return "Windows has other permissions";
  if (user === undefined) return false;
  const options = { uid: user, gid: user, cwd: "/" };
  const { status } = spawnSync(process.execPath, ["-e", `require("fs").readdirSync(${JSON.stringify(ROOT)})`], options);
  return status === 0 ? false : "root's children may not read this checkout as another user";
}

describe("files", () => {
  test("read-only home → its owner", { skip: cannotDropRights() }, async () => {
    if (user !== undefined) {
      for (const path of [machine.path, ...readdirSync(machine.path).map((name) => join(machine.path, name))]) {
        chownSync(path, user, user);
      }
    }
    chmodSync(machine.home, 0o500);
    finds(await run({}, user === undefined ? {} : { user }), "home", /chown -R "\$USER"/);
    chmodSync(machine.home, 0o700);
  });

  test("lock held by a living program → wait", async () => {
    mkdirSync(machine.lockPath, { recursive: true });
    const diagnosis = await run();
    finds(diagnosis, "locks", /^Wait/, "warning");
    // A login that is due is left to the holder.
    machine.kimiLogin(simulator.oauth.login(), -10);
    const due = await run({ KIMI_API_KEY: undefined });
    assert.deepEqual([due.code, simulator.oauth.refreshCalls], [1, 0]);
  });

  test("lock left by a dead program → remove it", async () => {
    mkdirSync(`${machine.authPath}.lock`);
    const long = new Date(Date.now() - 3_600_000);
    utimesSync(`${machine.authPath}.lock`, long, long);
    finds(await run(), "locks", /rm -r .*auth\.json\.lock/, "warning");
  });

  test("lock of a dead process of ours → its process id, although it is fresh", async () => {
    const { pid } = spawnSync(process.execPath, ["-e", ""]);
    mkdirSync(machine.lockPath, { recursive: true });
    const touched = Math.floor(Date.now() / 1000) * 1000;
    utimesSync(machine.lockPath, new Date(touched), new Date(touched));
    writeFileSync(machine.lockPath.replace(/\.lock$/, ".owner"), JSON.stringify({ pid, touched }));
    const diagnosis = await run();
    finds(diagnosis, "locks", /rm -r /, "warning");
    assert.match(diagnosis.stdout, new RegExp(`left behind by process ${pid}`));
  });

  test("broken settings file → the file", async () => {
    settings("{ broken");
    finds(await run(), "settings", /^Correct .*pi-provider-kimi-code\.json/);
  });

  test("setting of the wrong type → the setting and its file", async () => {
    settings('{"statusLine": "perhaps"}');
    finds(await run(), "settings", /statusLine in .*pi-provider-kimi-code\.json/, "warning");
    settings("{}");
    finds(await run({ KIMI_CODE_GAP_TIMEOUT_MS: "soon" }), "settings", /unset KIMI_CODE_GAP_TIMEOUT_MS/, "warning");
  });

  test("broken settings file of the project → the file, trusted or not", async () => {
    const file = join(machine.cwd, ".pi", "pi-provider-kimi-code.json");
    settings("{ broken", machine.cwd);
    for (const trusted of [false, true]) {
      machine.settings(trusted ? { defaultProjectTrust: "always" } : {});
      const diagnosis = await run();
      finds(diagnosis, "settings", /^Correct /);
      assert.ok(diagnosis.stdout.includes(JSON.stringify(realpathSync(file)).slice(1, -1)), diagnosis.stdout);
    }
  });

  test("settings of the project → counted as Pi's files say about the folder", async () => {
    settings('{"model": {"topP": 0.5}}', machine.cwd);
    const ignored = /model\.topP is ignored, because Pi does not trust this project/;
    assert.match((await run()).stdout, ignored);
    const decide = (folder: string, trusted: boolean): void =>
      writeFileSync(join(machine.agent, "trust.json"), JSON.stringify({ [realpathSync(folder)]: trusted }));
    decide(machine.path, true);
    const counted = await run();
    assert.deepEqual(findings(counted), []);
    assert.match(counted.stdout, /model\.topP from /);
    decide(machine.cwd, false);
    assert.match((await run()).stdout, ignored);
  });

  function settings(text: string, folder = machine.home): void {
    mkdirSync(join(folder, ".pi"), { recursive: true });
    writeFileSync(join(folder, ".pi", "pi-provider-kimi-code.json"), text);
  }
});

describe("installation", () => {
  /** An installation of its own, whose addon is this checkout's or missing. */
  function installation(version: string, hasAddon: boolean): string {
    const root = join(machine.path, "installation");
    cpSync(join(ROOT, "extension"), join(root, "extension"), { recursive: true });
    writeFileSync(
      join(root, "package.json"),
      JSON.stringify({ name: "pi-provider-kimi-code", version, type: "module" }),
    );
    if (hasAddon) {
      mkdirSync(join(root, "npm", PLATFORM), { recursive: true });
      symlinkSync(ADDON, join(root, "npm", PLATFORM, "kimi-code.node"));
    }
    return join(root, "extension", "cli.ts");
  }

  test("addon of another version → install again", async () => {
    const diagnosis = await run({}, { program: installation("99.0.0", true) });
    finds(diagnosis, "addon", /pi install npm:pi-provider-kimi-code/);
    assert.match(diagnosis.stdout, /is version [\d.]+, but 99\.0\.0 is needed/);
  });

  test("missing addon → install again", async () => {
    finds(await run({}, { program: installation("1.0.0", false) }), "addon", /pi install npm:pi-provider-kimi-code/);
  });

  /** A package in Pi's folders. */
  function piPackage(folder: string, version: string): void {
    const path = join(machine.agent, folder, "pi-provider-kimi-code");
    mkdirSync(path, { recursive: true });
    writeFileSync(join(path, "package.json"), JSON.stringify({ name: "pi-provider-kimi-code", version }));
  }

  test("the TypeScript extension beside us → remove it", async () => {
    const old = "git:github.com/Leechael/pi-provider-kimi-code";
    piPackage(join("npm", "node_modules"), "1.0.0");
    machine.settings({ packages: ["npm:pi-provider-kimi-code", "npm:other"] });
    assert.deepEqual(findings(await run()), []);
    piPackage(join("git", "github.com", "Leechael"), "0.6.10");
    machine.settings({ packages: ["npm:pi-provider-kimi-code", { source: old }] });
    finds(await run(), "packages", /^Run `pi remove git:github\.com\/Leechael\/pi-provider-kimi-code`$/);
  });

  test("the TypeScript extension in the project → found as well", async () => {
    piPackage(join("npm", "node_modules"), "1.0.0");
    machine.settings({ packages: ["npm:pi-provider-kimi-code"] });
    const project = join(machine.cwd, ".pi");
    mkdirSync(project);
    writeFileSync(join(project, "settings.json"), JSON.stringify({ packages: ["npm:pi-provider-kimi-code"] }));
    assert.deepEqual(findings(await run()), [], "the same package twice is one");
    const old = "npm:pi-provider-kimi-code@0.6.10";
    writeFileSync(join(project, "settings.json"), JSON.stringify({ packages: [old] }));
    assert.match(findings(await run()).join(), /^packages: Run `pi remove npm:pi-provider-kimi-code/);
  });

  test("a single file that registers the provider beside us → remove it", async () => {
    piPackage(join("npm", "node_modules"), "1.0.0");
    machine.settings({ packages: ["npm:pi-provider-kimi-code"] });
    mkdirSync(join(machine.agent, "extensions"));
    const file = join(machine.agent, "extensions", "kimi.ts");
    writeFileSync(file, 'export default (pi) => pi.registerProvider("kimi-coding", {});');
    finds(await run(), "packages", /^Run `rm -r .*kimi\.ts`$/);
  });

  test("the same named by Pi's setting `extensions` → the entry", async () => {
    piPackage(join("npm", "node_modules"), "1.0.0");
    const folder = join(machine.path, "elsewhere");
    mkdirSync(join(folder, "more", "kimi"), { recursive: true });
    const code = 'export default (pi) => pi.registerProvider("kimi-coding", {});';
    writeFileSync(join(folder, "kimi.ts"), code);
    writeFileSync(join(folder, "more", "kimi", "index.ts"), code);
    const packages = ["npm:pi-provider-kimi-code"];
    const both = join(folder, "more");
    for (const entry of [join(folder, "kimi.ts"), relative(machine.agent, both)]) {
      machine.settings({ packages, extensions: [entry] });
      const diagnosis = await run();
      finds(diagnosis, "packages", /^Remove ".*" from `extensions` in .*settings\.json$/);
      assert.ok(findings(diagnosis).join().includes(JSON.stringify(entry)));
    }
    machine.settings({ packages, extensions: [both, `-${join(both, "kimi")}`, 5] });
    assert.deepEqual(findings(await run()), [], "excluded");
  });
});
