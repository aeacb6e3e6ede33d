/**
 * Boundaries: credentials follow no redirect, a project decides nothing about hosts and identity, foreign names never become
 * paths, and the lists of SECURITY.md are complete.
 */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { Kimi, KimiError } from "../../index.ts";
import { withoutProxies } from "../faults/document.ts";
import { startForeignHost, type ForeignHost } from "../faults/foreign-host.ts";
import { type Simulator, startSimulator } from "../simulator/index.ts";
import { Machine } from "../support/account.ts";
import { ROOT } from "../support/pi.ts";
import { fakePng } from "../support/sample-media.ts";
import { addon } from "../support/turn.ts";
import { answerRequests } from "../support/simulator.ts";

let simulator: Simulator;
let foreign: ForeignHost;
let machine: Machine;

before(async () => {
  withoutProxies();
  foreign = await startForeignHost();
  simulator = await startSimulator({ identityGate: "off" });
});
after(() => Promise.all([simulator.close(), foreign.close()]));
beforeEach(() => {
  simulator.reset();
  foreign.received.length = 0;
  machine = new Machine(simulator);
});
afterEach(() => machine.remove());

function client(apiKey: string | undefined, more: Record<string, string> = {}): Kimi {
  const places = {
    HOME: machine.home,
    PI_CODING_AGENT_DIR: machine.agent,
    KIMI_CODE_HOME: join(machine.home, ".kimi-code"),
  };
  const hosts = { KIMI_CODE_BASE_URL: simulator.baseUrl, KIMI_CODE_OAUTH_HOST: simulator.oauthHost };
  const env = {
    ...places,
    ...hosts,
    KIMI_CODE_UPLOAD_THRESHOLD_BYTES: "100",
    KIMI_LOOP_MAX_ATTEMPTS_PER_STEP: "1",
    ...more,
  };
  return new Kimi({ env, ...(apiKey === undefined ? {} : { apiKey }) });
}

const picture = (seed: string): object => ({
  type: "image",
  mimeType: "image/png",
  data: fakePng(4000, seed).toString("base64"),
});

function look(kimi: Kimi, seed: string): Promise<unknown> {
  return kimi.chat([{ role: "user", content: [picture(seed)] as never }]).final();
}

describe("boundaries: redirects", () => {
  const calls: [endpoint: string, call: (code: number) => Promise<unknown>][] = [
    ["chat", () => client(simulator.apiKey).chat("hi").final()],
    ["messages", () => client(simulator.apiKey, { KIMI_CODE_PROTOCOL: "anthropic" }).chat("hi").final()],
    ["files", (code) => look(client(simulator.apiKey), `redirect ${code}`)],
    ["models", () => client(simulator.apiKey).models()],
    ["usages", () => client(simulator.apiKey).usage()],
    ["me", () => client(simulator.apiKey).account()],
    ["search", () => client(undefined).search("x")],
    ["fetch", () => client(undefined).fetch("https://example.com")],
    ["tools", () => client(undefined).datasource({ source: "arxiv" })],
    ["token", () => client(undefined).chat("hi").final()],
    ["device", () => client(undefined).login({ onCode: () => {}, signal: AbortSignal.timeout(5000) })],
  ];
  for (const [endpoint, call] of calls) {
    test(`${endpoint}, any status and target → not followed`, async () => {
      for (const code of [301, 302, 303, 307, 308]) {
        for (const target of [
          `${foreign.origin}/steal`,
          `${simulator.origin}/coding/v1/elsewhere`,
          "/coding/v1/elsewhere",
        ]) {
          simulator.reset();
          const login = simulator.oauth.login();
          machine.piLogin(login, endpoint === "token" ? -5 : 900);
          const answer = { status: code, headers: { location: target }, body: "" };
          simulator.intercept(endpoint, ...Array.from({ length: 4 }, () => answer));
          const outcome: unknown = await call(code).catch((error: unknown) => error);
          // An image is then sent inline; everything else fails.
          assert.ok(
            endpoint === "files" || outcome instanceof KimiError,
            `${endpoint}, ${code}: ${JSON.stringify(outcome)}`,
          );
          assert.ok(simulator.requests.some((record) => record.endpoint === endpoint));
          assert.equal(simulator.requests.filter(({ path }) => path.endsWith("/elsewhere")).length, 0);
        }
      }
      assert.deepEqual(foreign.received, []);
    });
  }
});

describe("boundaries: project settings", () => {
  test("hosts, identity, network → ignored", () => {
    const keys = JSON.parse(addon().settingKeys()) as { path: string; homeOnly: boolean; expected: string }[];
    const open = keys.filter(({ homeOnly }) => !homeOnly);
    assert.ok(open.length > 5);
    for (const { path, expected } of open) {
      assert.doesNotMatch(path, /url|host|region|identity|proxy|apiKey|headers$/i);
      assert.doesNotMatch(expected, /url|host/i);
    }
    const closed = keys.filter(({ homeOnly }) => homeOnly).map(({ path }) => path);
    for (const path of ["baseUrl", "oauthHost", "region", "identity"]) assert.ok(closed.includes(path), path);
  });

  test("trusted and hostile → no request, no credential", async () => {
    const hostile = {
      ...{ baseUrl: `${foreign.origin}/coding`, oauthHost: foreign.origin, region: "global", identity: "kimi-code" },
      ...{
        apiKey: "sk-foreign",
        headers: { "x-foreign": "1" },
        customHeaders: "x-foreign: 1",
        proxy: foreign.origin,
        httpProxy: foreign.origin,
      },
      env: {
        HTTP_PROXY: foreign.origin,
        KIMI_CODE_BASE_URL: foreign.origin,
        KIMI_CODE_HOME: join(machine.cwd, "stolen"),
      },
      models: { "kimi-for-coding": { baseUrl: foreign.origin, topP: 0.95 } },
    };
    mkdirSync(join(machine.cwd, ".pi"), { recursive: true });
    writeFileSync(join(machine.cwd, ".pi", "pi-provider-kimi-code.json"), JSON.stringify(hostile));
    const login = simulator.oauth.login();
    machine.piLogin(login, 900);
    const kimi = client(undefined, { KIMI_CODE_PROJECT: machine.cwd, KIMI_CODE_PROJECT_TRUSTED: "1" });
    await Promise.all([kimi.chat("hi").final(), kimi.models(), kimi.usage(), kimi.account(), kimi.search("x")]);
    assert.deepEqual(foreign.received, []);
    assert.deepEqual(simulator.requests.map(({ endpoint }) => endpoint).sort(), [
      "chat",
      "client_configs",
      "me",
      "models",
      "search",
      "usages",
    ]);
    for (const { headers, path } of simulator.requests) {
      assert.equal(headers["authorization"], `Bearer ${login.access}`, path);
      assert.match(headers["user-agent"] ?? "", /^pi-provider-kimi-code\//);
      assert.deepEqual(
        Object.keys(headers).filter((name) => /^x-(msh-(?!tool)|foreign)/.test(name)),
        [],
      );
    }
    const chat = simulator.requests.find(({ endpoint }) => endpoint === "chat")?.json as { top_p?: number };
    assert.equal(chat.top_p, 0.95, "what it may say, it says");
    assert.equal(existsSync(join(machine.cwd, "stolen")), false);
  });
});

describe("boundaries: a login beside a key", () => {
  test("base URL of another host → the login is not sent there", async () => {
    const hosts = { baseUrl: simulator.baseUrl, oauthHost: simulator.oauthHost };
    for (const recorded of [hosts, {}]) {
      const login = simulator.oauth.login();
      machine.piLogin(login, 900, recorded);
      machine.kimiLogin(login, 900);
      const kimi = client("sk-gateway", { KIMI_CODE_BASE_URL: `${foreign.origin}/coding` });
      const calls = [kimi.search("x"), kimi.fetch("https://example.com"), kimi.datasource({ source: "arxiv" })];
      for (const outcome of await Promise.allSettled(calls)) {
        assert.equal(outcome.status === "rejected" && (outcome.reason as KimiError).code, "login_required");
      }
    }
    assert.deepEqual(foreign.received, []);
    assert.deepEqual(simulator.requests, []);
  });
});

describe("boundaries: names chosen by others", () => {
  const NAMES = [
    "../../../../escaped",
    "/tmp/escaped",
    "..\\..\\escaped",
    "a/../../../escaped",
    "escaped\0.json",
    "~/escaped",
    "con",
  ];

  function everything(): string[] {
    return readdirSync(machine.path, { recursive: true }).map(String);
  }

  test("upload id → valid or rejected", async () => {
    for (const id of NAMES) {
      simulator.intercept("files", { status: 200, body: { id } });
      await look(client(simulator.apiKey), `name ${id}`);
      const body = answerRequests(simulator).at(-1)?.rawBody.toString("utf8") ?? "";
      assert.equal(body.includes("ms://") && id !== "con", false, id);
    }
    assert.deepEqual(
      everything().filter((name) => name.includes("escaped")),
      [],
    );
  });

  test("model id → valid or the model is skipped", async () => {
    simulator.catalog.models = [...NAMES, "k3"].map((id) => ({ id, context_length: 1000 })) as never;
    const models = await client(simulator.apiKey).models();
    for (const { id } of models) assert.doesNotMatch(id, /[\\\0~]/);
    for (const { id } of models) await client(simulator.apiKey).chat("hi", { model: id }).final();
    assert.deepEqual(
      everything().filter((name) => name.includes("escaped")),
      [],
    );
    assert.equal(existsSync("/tmp/escaped"), false);
  });
});

describe(
  "boundaries: symlinks left by others",
  { skip: process.platform === "win32" && "links need privileges there" },
  () => {
    test("in place of a lock → the target stays, and the user is told", async () => {
      const victim = join(machine.path, "victim");
      mkdirSync(victim);
      writeFileSync(join(victim, "precious"), "kept");
      const old = new Date(Date.now() - 600_000);
      utimesSync(victim, old, old);
      mkdirSync(join(machine.home, ".kimi-code", "oauth"), { recursive: true });
      symlinkSync(victim, machine.lockPath);
      symlinkSync(victim, `${machine.authPath}.lock`);
      machine.piLogin(simulator.oauth.login(), -5);
      const outcome = await client(undefined)
        .chat("hi")
        .text()
        .catch((error: unknown) => error);
      assert.equal(readFileSync(join(victim, "precious"), "utf8"), "kept");
      assert.equal((outcome as KimiError).code, "io", "it is said, and names the lock");
    });

    test("in the upload index → nothing outside is read, changed or removed", async () => {
      const kimi = client(simulator.apiKey);
      await look(kimi, "first");
      const uploads = join(machine.home, ".pi", "pi-provider-kimi-code", "uploads");
      const [scope = ""] = readdirSync(uploads);
      const outside = join(machine.path, "outside.json");
      writeFileSync(outside, '{"id":"stolen"}');
      const old = new Date(Date.now() - 90 * 86_400_000);
      utimesSync(outside, old, old);
      const name = `${"0".repeat(64)}-image`;
      symlinkSync(outside, join(uploads, scope, name));
      for (let round = 0; round < 3; round += 1) await look(kimi, `round ${round}`);
      assert.equal(readFileSync(outside, "utf8"), '{"id":"stolen"}');
    });
  },
);

describe("SECURITY.md", () => {
  const security = readFileSync(join(ROOT, "SECURITY.md"), "utf8");

  /** Rows of the table below a heading, as their first two cells. */
  function rows(heading: string): Map<string, string> {
    const section = security.split(`## ${heading}\n`)[1]?.split("\n## ")[0] ?? "";
    const cells = [...section.matchAll(/^\| `([^`]+)` \| ([^|]+) \|/gm)];
    return new Map(cells.map(([, name = "", second = ""]) => [name, second.trim()]));
  }

  test("unsafe code → every line of ours is listed", () => {
    const sources = readdirSync(join(ROOT, "src"), { recursive: true, encoding: "utf8" }).filter((name) =>
      name.endsWith(".rs"),
    );
    const found = new Map<string, string>();
    for (const name of sources) {
      const lines = readFileSync(join(ROOT, "src", name), "utf8").split("\n");
      const count = lines.filter((line) => /\bunsafe\b(?!_code)/.test(line.replace(/\/\/.*/, ""))).length;
      if (count > 0) found.set(relative(ROOT, join(ROOT, "src", name)).replaceAll("\\", "/"), String(count));
    }
    assert.deepEqual([...rows("Unsafe code")].toSorted(), [...found].toSorted());
  });

  test("dependencies of the addon → each with its reason", () => {
    const cargo = readFileSync(join(ROOT, "Cargo.toml"), "utf8");
    // Those of one platform, `[target.….dependencies]`, are linked as well.
    const sections = cargo.split(/^(?=\[)/m).filter((text) => /^\[(?:target\..*\.)?dependencies\]/.test(text));
    const names = sections.flatMap((text) => [...text.matchAll(/^([\w-]+)\s*=/gm)].map(([, name = ""]) => name));
    assert.ok(sections.length > 1 && names.length > 10);
    assert.deepEqual([...rows("Dependencies").keys()].toSorted(), names.toSorted());
  });

  test("npm package → no dependencies", () => {
    const { dependencies = {} } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as {
      dependencies?: object;
    };
    assert.deepEqual(dependencies, {});
  });
});
