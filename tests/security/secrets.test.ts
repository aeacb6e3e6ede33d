/**
 * Plants secrets wherever they can be configured, makes everything fail, and searches for them: in output, files, errors, the
 * process itself, and this repository.
 *
 * The service plays the worst gateway: it quotes the request it refuses, including headers.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { join, relative } from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { inspect } from "node:util";
import { Kimi } from "../../index.ts";
import { deadPort } from "../faults/relay.ts";
import { type Simulator, startSimulator } from "../simulator/index.ts";
import { text } from "../simulator/scenario.ts";
import { Machine } from "../support/account.ts";
import { ROOT, RpcPi, runPi } from "../support/pi.ts";
import { fakePng } from "../support/sample-media.ts";

const MODEL = ["--no-session", "--model", "kimi-coding/kimi-for-coding"];
const KEY = "corp-PLANTED-static-key-0123456789";
const HEADER = "PLANTED-custom-header-0123456789";
const PASSWORD = "PLANTEDproxyPassword0123456789";

/** A service that refuses everything and quotes what it was sent. */
class EchoServer {
  readonly #server: Server;
  status = 400;
  /** Whether it answers 200 and quotes inside the stream. */
  streams = false;
  /** The form in which it quotes. */
  form = (quoted: string): string => quoted;

  constructor() {
    this.#server = createServer(async (request, response) => {
      let body = "";
      for await (const piece of request.setEncoding("latin1") as AsyncIterable<string>) body += piece;
      const whole = `${request.rawHeaders.join(" ")} ${request.url?.startsWith("/api") ? body : ""}`;
      const error = { error: { message: `refused: ${this.form(whole)}`, type: "echo_error" } };
      response.setHeader("x-trace-id", this.form(request.headers.authorization ?? "none").replaceAll("\n", ""));
      if (this.streams) {
        response.writeHead(200, { "content-type": "text/event-stream" });
        return response.end(`event: error\ndata: ${JSON.stringify(error)}\n\n`);
      }
      return response.writeHead(this.status, { "content-type": "application/json" }).end(JSON.stringify(error));
    });
  }

  async listen(): Promise<void> {
    await new Promise<void>((listening) => this.#server.listen(0, "127.0.0.1", listening));
  }

  get origin(): string {
    return `http://127.0.0.1:${(this.#server.address() as { port: number }).port}`;
  }

  close(): Promise<void> {
    this.#server.closeAllConnections();
    return new Promise((closed) => this.#server.close(() => closed()));
  }
}

let simulator: Simulator;
let echo: EchoServer;
let machine: Machine;
let secrets: string[];

before(async () => {
  simulator = await startSimulator({ identityGate: "off" });
  echo = new EchoServer();
  await echo.listen();
});
after(() => Promise.all([simulator.close(), echo.close()]));
beforeEach(() => {
  simulator.reset();
  simulator.credentials.add(KEY);
  echo.status = 400;
  echo.streams = false;
  echo.form = (quoted) => quoted;
  machine = new Machine(simulator);
  machine.settings({ retry: { enabled: false } });
  const login = simulator.oauth.login();
  machine.piLogin(login, 900);
  secrets = [login.access, login.refresh, KEY, HEADER, PASSWORD];
});
afterEach(() => machine.remove());

/** Variables that plant every possible secret; requests go to `origin`. */
function planted(origin: string, more: Record<string, string> = {}): Record<string, string> {
  return {
    KIMI_CODE_BASE_URL: `${origin}/coding`,
    KIMI_CODE_OAUTH_HOST: origin,
    KIMI_CODE_CUSTOM_HEADERS: `X-Corp-Gateway: ${HEADER}`,
    KIMI_CODE_DEBUG: "1",
    KIMI_LOOP_MAX_ATTEMPTS_PER_STEP: "1",
    ...more,
  };
}

function clean(what: string, where: string): void {
  for (const secret of secrets) {
    const at = what.indexOf(secret);
    assert.equal(at, -1, `${where} holds a secret: ${what.slice(Math.max(0, at - 80), at)}[here]`);
  }
}

function filesBelow(folder: string): string[] {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}

/** Every file of the throw-away home except those that are meant to hold a login. */
function homeIsClean(): void {
  for (const file of filesBelow(machine.path)) {
    const name = relative(machine.path, file);
    if (!/^(agent\/auth\.json|home\/\.kimi-code\/credentials\/[^/]+\.json)$/.test(name)) {
      clean(readFileSync(file, "latin1"), name);
    }
  }
}

/** Runs Pi against a service that quotes everything; returns what Pi prints and leaves behind. */
describe("secrets: real Pi", () => {
  for (const [name, status, streams] of [
    ["a refusal", 400, false],
    ["a refused login", 401, false],
    ["server trouble", 500, false],
    ["an error inside the stream", 200, true],
  ] as const) {
    test(`${name} that quotes the request → the output has no secret`, async () => {
      Object.assign(echo, { status, streams });
      for (const key of [undefined, KEY]) {
        const env = planted(echo.origin, key === undefined ? {} : { KIMI_API_KEY: key });
        const { stdout, stderr } = await runPi(["--mode", "json", ...MODEL, "hi"], { home: machine, env });
        assert.match(stdout, /echo|refused|quota|valid/i, stderr);
        clean(stdout + stderr, "what Pi prints");
      }
      assert.match(readFileSync(join(machine.home, ".pi/pi-provider-kimi-code/debug.log"), "utf8"), /turn failed/);
      homeIsClean();
    });
  }

  test("commands that print everything → print no secret", async () => {
    const proxy = { HTTPS_PROXY: `http://me:${PASSWORD}@127.0.0.1:9` };
    for (const [command, origin] of [
      ["/kimi-usage --json", simulator.origin],
      ["/kimi-usage --json", echo.origin],
      ["/kimi-settings", simulator.origin],
    ] as const) {
      const env = planted(origin, proxy);
      const { stdout, stderr } = await runPi(["-p", ...MODEL, command], { home: machine, env });
      clean(stdout + stderr, command);
    }
    homeIsClean();
  });

  test("command line and environment of the process → show no secret", async () => {
    simulator.setDefault({ steps: [text("a b c d e f g h", { size: 1, pauseMs: 60 })] });
    const pi = new RpcPi(MODEL, { home: machine, env: planted(simulator.origin) });
    try {
      await pi.command({ type: "prompt", message: "hi" });
      await pi.waitFor(({ type }) => type === "message_update");
      if (process.platform === "linux") {
        const all = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
        for (const process of all) clean(commandLine(process), `the command line of ${process}`);
      }
      await pi.waitFor(({ type }) => type === "agent_settled");
      clean(JSON.stringify(pi.events) + pi.stderr, "the events");
    } finally {
      await pi.close();
    }
    homeIsClean();
  });
});

function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "latin1");
  } catch {
    return "";
  }
}

describe("secrets: errors of the client", () => {
  /** Everything a program may print of an error. */
  async function said(call: () => Promise<unknown>): Promise<string> {
    const error: unknown = await call().then(
      // The content of a page or data source may be what the service quotes.
      () => undefined,
      (reason: unknown) => reason,
    );
    if (!(error instanceof Error)) return "";
    const options = { depth: 20, showHidden: true, getters: true } as const;
    const causes = [];
    for (let cause: unknown = error; cause instanceof Error; cause = cause.cause)
      causes.push(cause.stack, String(cause));
    return [inspect(error, options), JSON.stringify(error), ...causes].join("\n");
  }

  function client(origin: string, more: Record<string, string> = {}, apiKey: string | undefined = KEY): Kimi {
    const { KIMI_CODE_DEBUG: _debug, ...env } = planted(origin, more);
    const places = { HOME: machine.home, PI_CODING_AGENT_DIR: machine.agent, KIMI_CODE_UPLOAD_THRESHOLD_BYTES: "100" };
    return new Kimi({ env: { ...places, ...env }, ...(apiKey === "" ? {} : { apiKey }) });
  }

  const picture = { type: "image", mimeType: "image/png", data: fakePng(4000, "secret").toString("base64") } as const;
  const calls: [string, (kimi: Kimi) => Promise<unknown>, apiKey?: string][] = [
    ["a chat", (kimi) => kimi.chat("hi").final()],
    [
      "a chat with a header of its own",
      (kimi) => kimi.chat("hi", { headers: { Authorization: `Bearer ${HEADER}` } }).final(),
    ],
    ["a chat with a picture", (kimi) => kimi.chat([{ role: "user", content: [picture] }]).final()],
    ["a chat with a login", (kimi) => kimi.chat("hi").final(), ""],
    ["the models", (kimi) => kimi.models()],
    ["the quota", (kimi) => kimi.usage()],
    ["the account", (kimi) => kimi.account()],
    ["a search", (kimi) => kimi.search("x"), ""],
    ["a page", (kimi) => kimi.fetch("https://example.com"), ""],
    ["a data source", (kimi) => kimi.datasource({ source: "arxiv" }), ""],
  ];
  for (const [name, call, apiKey] of calls) {
    test(`${name}, every failure → no secret`, async () => {
      for (const status of [400, 401, 403, 500]) {
        echo.status = status;
        const error = await said(() => call(client(echo.origin, {}, apiKey)));
        clean(error, `${name}, ${status}`);
        if (status === 400) assert.match(error, /refused: .*\[redacted\]/, "the service quoted the request");
      }
      echo.streams = true;
      clean(await said(() => call(client(echo.origin, {}, apiKey))), `${name}, an odd success`);
      const dead = `http://127.0.0.1:${await deadPort()}`;
      clean(await said(() => call(client(dead, {}, apiKey))), `${name}, dead port`);
      const proxy = { HTTPS_PROXY: `${dead.replace("//", `//me:${PASSWORD}@`)}` };
      clean(await said(() => call(client("https://kimi.invalid", proxy, apiKey))), `${name}, broken proxy`);
      const nonsense = { HTTPS_PROXY: `http://me:${PASSWORD}@[` };
      clean(await said(() => call(client("https://kimi.invalid", nonsense, apiKey))), `${name}, unusable proxy`);
    });
  }
});

describe("secrets: echoes", () => {
  const key = "corp+PLANTED/key=with.every_Sign~0123456789";
  const hex = (text: string): string => Buffer.from(text).toString("hex");
  const forms: Record<string, (quoted: string) => string> = {
    plain: (quoted) => quoted,
    "percent-encoded": encodeURIComponent,
    "percent-encoded twice": (quoted) => encodeURIComponent(encodeURIComponent(quoted)),
    "percent-encoded everywhere": (quoted) => hex(quoted).replace(/../g, "%$&"),
    "upper-cased": (quoted) => quoted.toUpperCase(),
    "HTML-escaped": (quoted) => quoted.replaceAll("+", "&#43;").replaceAll("/", "&#x2F;").replaceAll("=", "&#61;"),
    "JSON-escaped": (quoted) => quoted.replaceAll("/", "\\/").replaceAll("+", "\\u002b"),
    "cut short": (quoted) => quoted.replace(key, `"${key.slice(0, 20)}" was too long; it ended with ${key.slice(-16)}`),
  };

  /** Every 12 bytes of the key that a reader could recognize in any of the forms. */
  function keyIsAbsent(text: string, where: string): void {
    let plain = text.replaceAll("\\", "");
    for (let pass = 0; pass < 3; pass++) {
      plain = plain
        .replace(/%([0-9a-f]{2})/gi, (_, digits: string) => String.fromCharCode(parseInt(digits, 16)))
        .replace(/&#x([0-9a-f]+);/gi, (_, digits: string) => String.fromCharCode(parseInt(digits, 16)))
        .replace(/&#(\d+);/g, (_, digits: string) => String.fromCharCode(Number(digits)))
        .replace(/u002b/gi, "+");
    }
    plain = plain.toLowerCase();
    for (let at = 0; at + 12 <= key.length; at++) {
      const part = key.slice(at, at + 12).toLowerCase();
      assert.ok(!plain.includes(part), `${where} holds ${part}: ${text}`);
    }
  }

  for (const [name, form] of Object.entries(forms)) {
    test(`${name} → redacted in message, trace id, notices and log`, async () => {
      echo.form = form;
      const env = { ...planted(echo.origin), HOME: machine.home, PI_CODING_AGENT_DIR: machine.agent };
      const kimi = new Kimi({ apiKey: key, env: { ...env, KIMI_LOOP_MAX_ATTEMPTS_PER_STEP: "2" } });
      for (const [status, streams] of [
        [400, false],
        [401, false],
        [503, false],
        [200, true],
      ] as const) {
        Object.assign(echo, { status, streams });
        const stream = kimi.chat("hi");
        const events: unknown[] = [];
        const error: unknown = await (async () => {
          for await (const event of stream) events.push(event);
        })().catch((reason: unknown) => reason);
        assert.ok(error instanceof Error && /refused/i.test(error.message), String(error));
        keyIsAbsent(inspect(error, { depth: 9, showHidden: true }) + JSON.stringify(events), `${name}, ${status}`);
      }
    });
  }

  test("own credential in the answer of a service → redacted in the result", async () => {
    const login = simulator.oauth.login();
    machine.piLogin(login, 900);
    const quoting = createServer((request, response) => {
      const quoted = request.headers.authorization?.replace("Bearer ", "") ?? "";
      const result = { title: "t", url: "https://example.com", snippet: quoted, content: encodeURIComponent(quoted) };
      const isPage = request.url?.endsWith("/fetch") === true;
      response.writeHead(200, { "content-type": isPage ? "text/markdown" : "application/json" });
      response.end(isPage ? `# ${quoted}\n` : JSON.stringify({ search_results: [result], data: [result] }));
    });
    await new Promise<void>((listening) => quoting.listen(0, "127.0.0.1", listening));
    const { port } = quoting.address() as { port: number };
    const env = { ...planted(`http://127.0.0.1:${port}`), HOME: machine.home, PI_CODING_AGENT_DIR: machine.agent };
    const kimi = new Kimi({ env: { ...env, KIMI_CODE_OAUTH_HOST: simulator.origin } });
    try {
      for (const call of [() => kimi.search("x"), () => kimi.fetch("https://example.com")]) {
        const result = await call().catch((error: unknown) => error);
        assert.match(inspect(result, { depth: 9 }), /\[redacted\]/);
        clean(inspect(result, { depth: 9 }), "the result");
      }
    } finally {
      quoting.close();
    }
  });
});

test("secrets: a credential → leaves in its header only", async () => {
  const env = { ...planted(simulator.origin), HOME: machine.home, PI_CODING_AGENT_DIR: machine.agent };
  const keyed = new Kimi({ apiKey: KEY, env });
  await Promise.all([keyed.chat("hi").final(), keyed.models(), keyed.usage(), keyed.account()]);
  await new Kimi({ env }).search("x");
  assert.ok(simulator.requests.length >= 5);
  for (const { method, path, query, headers, rawBody } of simulator.requests) {
    const { authorization, "x-corp-gateway": own, ...others } = headers;
    assert.ok(authorization?.startsWith("Bearer ") && own === HEADER, path);
    clean(`${method} ${path}${query} ${JSON.stringify(others)} ${rawBody.toString("latin1")}`, path);
  }
});

test(
  "secrets: files we write → readable by their owner only",
  { skip: process.platform === "win32" && "modes are Unix" },
  async () => {
    const expired = simulator.oauth.login();
    machine.piLogin(expired, -5);
    machine.kimiLogin(expired, -5);
    // The result must not depend on the umask.
    const env = planted(simulator.origin);
    const code = `process.umask(0); process.argv[1] = ${JSON.stringify("pi")};`;
    const preload = join(machine.path, "umask.cjs");
    writeFileSync(preload, code);
    const { stderr, code: exit } = await runPi(["-p", ...MODEL, "hi"], {
      home: machine,
      env: { ...env, KIMI_CODE_IDENTITY: "kimi-code", NODE_OPTIONS: `--require ${preload}` },
    });
    assert.equal(exit, 0, stderr);
    const ours = [join(machine.home, ".pi", "pi-provider-kimi-code"), join(machine.home, ".kimi-code")];
    const modes = ours.flatMap((folder) => [
      folder,
      ...readdirSync(folder, { recursive: true }).map((name) => join(folder, String(name))),
    ]);
    assert.ok(modes.length > 5, modes.join());
    for (const path of modes) {
      const entry = statSync(path);
      assert.equal((entry.mode & 0o777).toString(8), entry.isDirectory() ? "700" : "600", path);
    }
  },
);

test("secrets: this repository → contains nothing that looks like a real credential", () => {
  const generated = new Set([".cache", ".git", "dist", "node_modules", "target"]);
  const kept = readdirSync(ROOT, { withFileTypes: true }).filter(({ name }) => !generated.has(name));
  const names = kept
    .flatMap((entry) => (entry.isDirectory() ? filesBelow(join(ROOT, entry.name)) : [join(ROOT, entry.name)]))
    .filter((name) => !name.endsWith(".node"));
  assert.ok(names.length > 100);
  for (const name of names) {
    const content = readFileSync(name, "latin1");
    const token =
      /eyJ[\w-]{30,}\.[\w-]{30,}\.[\w-]{20,}|sk-(kimi-)?[A-Za-z0-9]{40,}|-----BEGIN [A-Z ]*PRIVATE KEY/.exec(content);
    assert.equal(token, null, `${name}: ${token?.[0].slice(0, 20)}…`);
  }
});
