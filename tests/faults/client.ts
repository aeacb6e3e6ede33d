/** Runs cells of the fault matrix through the client for Node programs. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Kimi, KimiError } from "../../index.ts";
import { fakePng } from "../support/sample-media.ts";
import { type Cell, type Played, type Seen, sideBySide } from "./matrix.ts";
import { AFTER, BEFORE, CLOCK_MS, SHORT, Stage } from "./stage.ts";

/** Number of cells that run at the same time; they mostly wait. */
const SIDE_BY_SIDE = 16;

type Result = Omit<Seen, "took">;

/** Runs these cells, each with a stage and a home of its own. */
export async function playWithClient(cells: Cell[]): Promise<Played[]> {
  const homes = mkdtempSync(join(tmpdir(), "kimi-faults-"));
  try {
    return await sideBySide(cells, SIDE_BY_SIDE, async (cell) => ({ ...cell, seen: await play(cell, homes) }));
  } finally {
    rmSync(homes, { recursive: true, force: true });
  }
}

async function play(cell: Cell, homes: string): Promise<Seen> {
  const home = mkdtempSync(join(homes, "cell-"));
  const stage = await Stage.open();
  try {
    await stage.arrange(cell);
    stage.logIn(join(home, "agent"));
    const start = performance.now();
    const seen = await act(cell, stage, home);
    const took = performance.now() - start;
    return { ...seen, took, problems: [...seen.problems, ...(stage.strayed ? ["a redirect was followed"] : [])] };
  } finally {
    await stage.close();
  }
}

function client(stage: Stage, home: string, withKey = true): Kimi {
  const env = {
    ...SHORT,
    HOME: home,
    PI_CODING_AGENT_DIR: join(home, "agent"),
    KIMI_CODE_HOME: join(home, "kimi"),
    KIMI_CODE_OAUTH_HOST: stage.simulator.oauthHost,
    KIMI_CODE_PROTOCOL: stage.dialect,
  };
  return new Kimi({ baseUrl: stage.base, env, ...(withKey ? { apiKey: stage.simulator.apiKey } : {}) });
}

function act({ column, way, fault }: Cell, stage: Stage, home: string): Promise<Result> {
  const kimi = client(stage, home);
  const picture = fakePng(4000, `${fault.name} ${column} ${way}`);
  if (column.startsWith("chat")) return chat(stage, kimi, "hi");
  if (column.startsWith("upload")) return upload(stage, kimi, picture.toString("base64"));
  switch (way) {
    case "models":
    case "usage":
    case "account":
      return question(stage, kimi[way]());
    case "search":
      return question(stage, client(stage, home, false).search("x", { timeoutMs: CLOCK_MS }));
    case "fetch":
      return question(stage, client(stage, home, false).fetch("https://example.com/", { timeoutMs: CLOCK_MS }));
    case "data source":
      return question(stage, client(stage, home, false).datasource({ source: "arxiv" }, { timeoutMs: CLOCK_MS }));
    default:
      return question(stage, kimi.files.upload(picture));
  }
}

async function chat(stage: Stage, kimi: Kimi, content: string | object[]): Promise<Result> {
  const problems: string[] = [];
  const answer = kimi.chat([{ role: "user", content: content as string }]);
  const kinds: string[] = [];
  let shown = "";
  let outcome = "answer";
  try {
    for await (const event of answer) {
      kinds.push(event.type);
      if (event.type === "text_delta") shown += event.delta;
      if (event.type === "retry") await stage.betweenAttempts();
    }
  } catch (error) {
    outcome = codeOf(error, problems);
    const partial = error instanceof KimiError ? error.partial : undefined;
    const kept = (partial?.content ?? []).map((part) => (part.type === "text" ? part.text : "")).join("");
    if (kept !== shown) problems.push(`kept ${JSON.stringify(kept)}, shown ${JSON.stringify(shown)}`);
  }
  const count = (wanted: string): number => kinds.filter((kind) => kind === wanted).length;
  const done = count("done");
  const attempts = 1 + count("retry");
  if (done + (outcome === "answer" ? 0 : 1) !== 1) problems.push(`${done} done events, outcome ${outcome}`);
  if (done === 1 && kinds.at(-1) !== "done") problems.push("something came after the end");
  if (count("start") > attempts) problems.push("it began too often");
  const failed = stage.late ? BEFORE : "";
  if (shown !== (outcome === "answer" ? BEFORE + AFTER : failed)) problems.push(`shown: ${JSON.stringify(shown)}`);
  const settled = await answer.final().then(
    () => "answer",
    (error: unknown) => codeOf(error, problems),
  );
  if (settled !== outcome) problems.push(`events say ${outcome}, the promise says ${settled}`);
  const requests = stage.requests ?? attempts;
  if (typeof content === "string" && requests !== attempts) {
    problems.push(`${requests} requests, ${attempts - 1} retries announced`);
  }
  return { outcome, requests, problems };
}

async function upload(stage: Stage, kimi: Kimi, data: string): Promise<Result> {
  const picture = { type: "image", mimeType: "image/png", data };
  const { outcome, problems } = await chat(stage, kimi, [{ type: "text", text: "look" }, picture]);
  return { outcome: stage.uploaded(outcome, data, problems), requests: stage.requests, problems };
}

async function question(stage: Stage, asked: Promise<unknown>): Promise<Result> {
  const problems: string[] = [];
  const outcome = await asked.then(
    () => "answer",
    (error: unknown) => codeOf(error, problems),
  );
  return { outcome, requests: stage.requests, problems };
}

function codeOf(error: unknown, problems: string[]): string {
  if (error instanceof KimiError) return error.code;
  problems.push(`not a KimiError: ${String(error)}`);
  return "?";
}
