/** Runs cells of the fault matrix through the client for Node programs. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { Kimi } from "../../index.ts";
import { fakePng } from "../support/sample-media.ts";
import { type Cell, type Played, type Seen, sideBySide } from "./matrix.ts";
import { codeOf, type PlayedChat, playChat } from "./play-chat.ts";
import { CLOCK_MS, SHORT, Stage } from "./stage.ts";

/** Number of cells that run at the same time; they mostly wait. */
const SIDE_BY_SIDE = 16;

/** How long a process is stopped, in milliseconds: longer than every timeout but the one for connecting. */
const STOP_MS = CLOCK_MS * 1.5;

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
  return new Kimi(clientOptions(stage, home, withKey));
}

function clientOptions(stage: Stage, home: string, withKey = true) {
  const env = {
    ...SHORT,
    HOME: home,
    PI_CODING_AGENT_DIR: join(home, "agent"),
    KIMI_CODE_HOME: join(home, "kimi"),
    KIMI_CODE_OAUTH_HOST: stage.simulator.oauthHost,
    KIMI_CODE_PROTOCOL: stage.dialect,
  };
  return { baseUrl: stage.base, env, ...(withKey ? { apiKey: stage.simulator.apiKey } : {}) };
}

function act({ column, way, fault }: Cell, stage: Stage, home: string): Promise<Result> {
  const kimi = client(stage, home);
  const picture = fakePng(4000, `${fault.name} ${column} ${way}`);
  if (column === "chat, stopped") return stoppedChat(stage, home);
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
  const played = await playChat(kimi, content, stage.late, () => stage.betweenAttempts());
  const requests = stage.requests ?? played.attempts;
  return { ...played, requests, problems: [...played.problems, ...announced(content, requests, played.attempts)] };
}

/** Every request but the first has to be announced as a retry. Uploads are requests too. */
function announced(content: string | object[], requests: number, attempts: number): string[] {
  if (typeof content !== "string" || requests === attempts) return [];
  return [`${requests} requests, ${attempts - 1} retries announced`];
}

/** Runs a chat in a process of its own, which is stopped when its first request has left, until every timeout is over. */
async function stoppedChat(stage: Stage, home: string): Promise<Result> {
  const { env, ...options } = clientOptions(stage, home);
  const child = spawn(process.execPath, [join(import.meta.dirname, "stopped-chat.ts")], {
    env: { ...process.env, ...env, CHAT_OPTIONS: JSON.stringify(options) },
    stdio: ["ignore", "pipe", "inherit"],
  });
  stage.onFirstRequest(() => {
    child.kill("SIGSTOP");
    setTimeout(() => child.kill("SIGCONT"), STOP_MS);
  });
  const end = once(child, "close");
  const output = await text(child.stdout);
  await end;
  const played = JSON.parse(output) as PlayedChat;
  const requests = stage.requests ?? 0;
  return { ...played, requests, problems: [...played.problems, ...announced("", requests, played.attempts)] };
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
