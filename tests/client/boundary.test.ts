/**
 * The boundary to the addon, as TypeScript declares it and as the addon answers: op codes, exported functions, members of answers.
 * The declarations are read as text, so that the published types are what is compared.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, beforeEach, describe, test } from "node:test";
import { host } from "../../extension/environment.ts";
import type { PromptCacheReport } from "../../extension/messages.ts";
import { type Op, OpCode } from "../../extension/native/addon.ts";
import { encodeContext } from "../../extension/turn/context.ts";
import { type Simulator, startSimulator, usageShapes } from "../simulator/index.ts";
import { Home, ROOT } from "../support/pi.ts";
import { fakePng } from "../support/sample-media.ts";
import { addon, model, QUESTION, runOne } from "../support/turn.ts";

const native = addon();
const home = new Home();
let simulator: Simulator;

before(async () => {
  simulator = await startSimulator({ identityGate: "off" });
});
after(async () => {
  await simulator.close();
  home.remove();
});
beforeEach(() => simulator.reset());

const read = (file: string): string => readFileSync(join(ROOT, file), "utf8");

// ---- a reader of interfaces: as much of TypeScript as the declarations of answers need

interface Member {
  type: string;
  optional: boolean;
}

const SOURCES = [
  "extension/errors.ts",
  "extension/queries.ts",
  "extension/services.ts",
  "extension/native/addon.ts",
  "extension/native/device-login.ts",
  "extension/client/chat.ts",
  "extension/client/files.ts",
  "extension/messages.ts",
  "extension/client/options.ts",
]
  .map(read)
  .join("\n")
  .replace(/\/\*\*[\s\S]*?\*\/|\/\/.*$/gm, "");

/** Splits at `separator` outside of brackets and strings. */
function split(text: string, separator: string): string[] {
  const parts: string[] = [];
  let depth = 0;
  let quoted = false;
  let from = 0;
  for (let at = 0; at < text.length; at += 1) {
    const character = text[at] ?? "";
    if (character === '"') quoted = !quoted;
    if (quoted) continue;
    if ("{[(<".includes(character)) depth += 1;
    if ("}])".includes(character) || (character === ">" && text[at - 1] !== "=")) depth -= 1;
    if (character === separator && depth === 0) {
      parts.push(text.slice(from, at));
      from = at + 1;
    }
  }
  return [...parts, text.slice(from)].map((part) => part.trim()).filter((part) => part !== "");
}

/** Members of `{ name?: type; … }`. */
function members(body: string): Map<string, Member> {
  return new Map(
    split(body, ";").map((line) => {
      const [, name = "", mark, type = ""] = /^(?:readonly )?(\w+)(\??)(?:: *|(?=[(<]))([\s\S]*)$/.exec(line) ?? [];
      assert.notEqual(name, "", `cannot read the member ${line}`);
      return [name, { type, optional: mark === "?" }];
    }),
  );
}

/** The text of a declared type: `{ … }` for an interface. */
function declared(name: string): string | undefined {
  const [, base, body] =
    new RegExp(`\\binterface ${name}(?:<\\w+>)?(?: extends (\\w+))? \\{([\\s\\S]*?)\\n\\}`).exec(SOURCES) ?? [];
  if (body !== undefined) return `{${base === undefined ? "" : declared(base)?.slice(1, -1)}${body}}`;
  return new RegExp(`\\btype ${name} =([\\s\\S]*?);\\n`).exec(SOURCES)?.[1];
}

/** Lists where `value` differs from `type`. Members that the type does not name count as differences. */
function differences(value: unknown, type: string, path: string): string[] {
  const trimmed = type.trim().replace(/^\(([\s\S]*)\)$/, "$1");
  const options = split(trimmed, "|");
  if (options.length > 1) {
    const all = options.map((option) => differences(value, option, path));
    return all.some((one) => one.length === 0) ? [] : (all.toSorted((a, b) => a.length - b.length)[0] ?? []);
  }
  const wrong = [`${path}: ${JSON.stringify(value)?.slice(0, 60)} is no ${trimmed.slice(0, 60)}`];
  const both = split(trimmed, "&");
  if (both.length > 1) {
    const parts = both.map((part) => (part.startsWith("{") ? part : (declared(part) ?? "{}")).trim().slice(1, -1));
    return differences(value, `{${parts.join(";")}}`, path);
  }
  if (trimmed.endsWith("[]")) {
    if (!Array.isArray(value)) return wrong;
    return value.flatMap((entry, index) => differences(entry, trimmed.slice(0, -2), `${path}[${index}]`));
  }
  const record = /^Record<string, ([\s\S]*)>$/.exec(trimmed)?.[1];
  if (record !== undefined) {
    if (typeof value !== "object" || value === null) return wrong;
    return Object.entries(value).flatMap(([key, entry]) => differences(entry, record, `${path}.${key}`));
  }
  if (trimmed.startsWith("{")) {
    if (typeof value !== "object" || value === null || Array.isArray(value)) return wrong;
    const known = members(trimmed.slice(1, -1));
    const found = Object.keys(value)
      .filter((name) => !known.has(name))
      .map((name) => `${path}.${name} is not declared`);
    for (const [name, { type: of, optional }] of known) {
      const member = (value as Record<string, unknown>)[name];
      if (member === undefined) {
        if (!optional) found.push(`${path}.${name} is missing`);
      } else found.push(...differences(member, of, `${path}.${name}`));
    }
    return found;
  }
  if (trimmed.startsWith('"')) return JSON.stringify(value) === trimmed ? [] : wrong;
  if (trimmed === "null") return value === null ? [] : wrong;
  if (trimmed === "true" || trimmed === "false") return String(value) === trimmed ? [] : wrong;
  if (trimmed === "unknown") return [];
  if (trimmed === "object") return typeof value === "object" && value !== null ? [] : wrong;
  if (trimmed === "string" || trimmed === "number" || trimmed === "boolean")
    return typeof value === trimmed ? [] : wrong;
  const alias = declared(trimmed.replace(/\["\w+"\]$/, ""));
  if (alias === undefined) return [`${path}: the type ${trimmed} is not declared`];
  const indexed = /\["(\w+)"\]$/.exec(trimmed)?.[1];
  return differences(
    value,
    indexed === undefined ? alias : (members(alias.slice(1, -1)).get(indexed)?.type ?? ""),
    path,
  );
}

/** Fails where `value` differs from the declared type. */
function fits(value: unknown, type: string): void {
  assert.deepEqual(differences(value, type, type), []);
}

// ---- requests

const environment = (extra: object = {}): object => ({
  HOME: home.home,
  PI_CODING_AGENT_DIR: home.agent,
  KIMI_CODE_BASE_URL: simulator.baseUrl,
  KIMI_CODE_OAUTH_HOST: simulator.oauthHost,
  ...extra,
});

function request(extra: object = {}): string {
  return JSON.stringify({ environment: environment(), host: host(undefined), ...extra });
}

const withKey = (apiKey = simulator.apiKey): string => request({ apiKey });

/** Access token of a login, for calls that take no key. */
function token(): string {
  const { access } = simulator.oauth.login();
  native.registerLogin(access);
  return access;
}

test("op codes: the tables of both languages → are the same", () => {
  assert.deepEqual(JSON.parse(native.opCodes()), OpCode);
});

test("exports: functions and methods of the addon → are the declared ones", () => {
  const functions = Object.keys(native).filter((name) => /^[a-z]/.test(name));
  assert.deepEqual(functions.sort(), [...members(declared("Addon")?.slice(1, -1) ?? "").keys()].sort());
  const classes = native as unknown as Record<string, { prototype: object }>;
  for (const name of ["TurnHandle", "ServiceCall", "FileUpload", "LoginHandle"]) {
    const methods = Object.getOwnPropertyNames(classes[name]?.prototype).filter((method) => method !== "constructor");
    assert.deepEqual(methods.sort(), [...members(declared(name)?.slice(1, -1) ?? "").keys()].sort(), name);
  }
});

describe("answers have the declared members", () => {
  test("settings", () => {
    const limits = {
      KIMI_CODE_SETTINGS: JSON.stringify({ limits: { gapMs: 0 }, models: { k3: { maxTokens: 9 } }, x: 1 }),
    };
    for (const extra of [{}, limits, { KIMI_CODE_PROJECT: home.cwd, KIMI_CODE_PROJECT_TRUSTED: "1" }]) {
      const text = JSON.stringify({ environment: environment(extra), host: host(undefined) });
      fits(JSON.parse(native.settings(text)), "SettingsReport");
    }
    fits(JSON.parse(native.settingKeys()), "SettingKey[]");
  });

  test("models, before and after the service was asked", async () => {
    const listing = (): { models: unknown[] } => JSON.parse(native.models(withKey())) as never;
    for (const ask of [false, true]) {
      if (ask) assert.equal(await native.refreshModels(withKey()), "{}");
      const { models, ...rest } = listing();
      fits(models, "KimiModel[]");
      fits({ ...rest, models: [] }, "{ models: object[]; fetchedAt: number | null; baseUrl: string; stale?: boolean }");
    }
  });

  test("quota in every form that the service is known to send", async () => {
    for (const shape of Object.values(usageShapes)) {
      simulator.plan.usage = shape as never;
      fits(JSON.parse(await native.usage(withKey(), 0)), "Quota");
    }
  });

  test("history and parked requests", async () => {
    fits(JSON.parse(await native.usageHistory(withKey(), '{"history":"7d","by":"model"}')), "UsageHistory");
    fits(JSON.parse(await native.quotaState(withKey())), "ParkState");
  });

  test("the prompt cache", async () => {
    simulator.setDefault({ steps: [{ text: "ok" }] });
    await runOne(native, {
      baseUrl: simulator.baseUrl,
      apiKey: simulator.apiKey,
      env: environment() as never,
      options: { sessionId: "s" },
    });
    const report = JSON.parse(await native.promptCache(withKey(), '{"session":"s","last":5}')) as PromptCacheReport;
    fits(report, "PromptCacheReport");
    assert.equal(report.requests.length, 1);
    const expired = await native.expiredCache(withKey(), '{"session":"s","model":"k3"}');
    fits(JSON.parse(expired), "{ expired: ExpiredCache | null }");
  });

  test("account", async () => fits(JSON.parse(await native.profile(withKey())), "Profile"));

  test("login options and steps of a login", async () => {
    fits(JSON.parse(native.loginOptions(request())), "{ ask: boolean; region: string | null }");
    const steps: { type: string }[] = [];
    await new Promise<void>((resolve) => {
      native.startLogin(request(), (text) => {
        steps.push(JSON.parse(text) as { type: string });
        if (/"type":"(done|failed)"/.test(text)) resolve();
      });
    });
    assert.deepEqual(
      steps.map(({ type }) => type),
      ["code", "done"],
    );
    for (const step of steps) fits(step, "Step");
  });

  test("search, fetch, data sources", async () => {
    for (const [type, task] of [
      ["SearchAnswer", { service: "search", query: "weather" }],
      ["FetchAnswer", { service: "fetch", url: "https://example.com/" }],
      ["DatasourceAnswer", { service: "datasource", source: "arxiv" }],
      [
        "DatasourceAnswer",
        { service: "datasource", source: "arxiv", api: "arxiv_search", params: { file_path: "a.csv" } },
      ],
    ] as const) {
      const [details, text] = await native.serviceCall(request({ ...task, credential: token() })).result();
      fits({ ...(JSON.parse(details) as object), text }, type);
    }
    const [details] = await native
      .serviceCall(request({ service: "search", query: "x", credential: "wrong" }))
      .result();
    fits((JSON.parse(details) as { error: unknown }).error, "Failure");
  });

  test("an uploaded file", async () => {
    const call = native.fileUpload(withKey());
    const bytes = fakePng(1000, "boundary");
    await call.prepare(bytes.length);
    assert.equal(call.append(bytes), true);
    fits(JSON.parse(await call.result()), "UploadedFile");
    assert.deepEqual(
      call.progress(),
      [bytes.length, bytes.length].map((count) => Math.max(count, call.progress()[0])),
    );
  });

  test("failures of calls", async () => {
    simulator.intercept("me", { status: 429, headers: { "retry-after": "7", "x-trace-id": "t1" }, body: {} });
    const { error } = JSON.parse(await native.profile(withKey())) as { error: unknown };
    fits(error, "Failure");
    fits((JSON.parse(await native.usage(withKey("wrong"), 0)) as { error: unknown }).error, "Failure");
  });
});

describe("a turn's ops have the declared texts", () => {
  /** Runs a turn and returns its ops. */
  async function ops(extra: object = {}): Promise<Op[]> {
    const seen: Op[] = [];
    const turn = JSON.stringify({
      environment: environment(extra),
      host: host(undefined),
      model: model(native, simulator.baseUrl),
      options: { apiKey: simulator.apiKey, maxRetries: 1 },
      payloadHook: false,
      rawEvents: true,
    });
    await new Promise<void>((resolve) => {
      native.startTurn(turn, encodeContext(QUESTION), [], (some) => {
        seen.push(...some);
        if (some.some(([code]) => code >= OpCode.Done)) resolve();
      });
    });
    return seen;
  }

  const HEADS: [number, string][] = [
    [OpCode.Response, "{ status: number; headers: Record<string, string> }"],
    [OpCode.ThinkingStart, "{ signature: string; redacted?: true }"],
    [OpCode.ToolStart, "{ id: string; name: string }"],
    [
      OpCode.Done,
      "{ reason: string; usage: Usage; responseId?: string; responseModel?: string; rawStopReason?: string }",
    ],
  ];

  for (const dialect of ["openai", "anthropic"]) {
    test(`an answer, ${dialect}`, async () => {
      simulator.enqueue({
        steps: [{ thinking: "Hm." }, { text: "Hello." }, { toolCall: { name: "look", arguments: { at: [1] } } }],
      });
      const seen = await ops({ KIMI_CODE_PROTOCOL: dialect });
      const known = new Set<number>(Object.values(OpCode));
      assert.deepEqual(
        seen.filter(([code]) => !known.has(code)),
        [],
      );
      for (const [code, type] of HEADS) {
        const op = seen.find(([one]) => one === code);
        assert.ok(op !== undefined, type);
        fits(JSON.parse(op[2]), type);
      }
    });
  }

  test("a retry and a failure", async () => {
    const refusal = { status: 503, headers: { "retry-after-ms": "5" }, body: { error: { message: "down" } } };
    simulator.intercept("chat", refusal, refusal);
    const seen = await ops();
    const notice = JSON.parse(seen.find(([code]) => code === OpCode.Notice)?.[2] ?? "") as { kind: string };
    const { kind, ...rest } = notice;
    fits({ type: kind, ...rest }, "ChatNotice");
    const { usage, ...failure } = JSON.parse(seen.at(-1)?.[2] ?? "") as { usage?: unknown };
    fits(failure, "Failure");
    if (usage !== undefined) fits(usage, "Usage");
  });
});
