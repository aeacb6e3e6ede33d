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
import { CLOCK_MS, SHORT, FaultSetup } from "./fault-setup.ts";

/** Number of cells that run at the same time; they mostly wait. */
const SIDE_BY_SIDE = 16;

/** How long a process is stopped, in milliseconds: longer than every timeout but the one for connecting. */
const STOP_MS = CLOCK_MS * 1.5;

type Result = Omit<Seen, "took">;

/** Runs these cells, each with a setup and a home of its own. */
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
  const setup = await FaultSetup.open();
  try {
    await setup.arrange(cell);
    setup.logIn(join(home, "agent"));
    const start = performance.now();
    const seen = await act(cell, setup, home);
    const took = performance.now() - start;
    return {
      ...seen,
      took,
      problems: [...seen.problems, ...(setup.redirectFollowed ? ["a redirect was followed"] : [])],
    };
  } finally {
    await setup.close();
  }
}

function client(setup: FaultSetup, home: string, withKey = true): Kimi {
  return new Kimi(clientOptions(setup, home, withKey));
}

function clientOptions(setup: FaultSetup, home: string, withKey = true) {
  const env = {
    ...SHORT,
    HOME: home,
    PI_CODING_AGENT_DIR: join(home, "agent"),
    KIMI_CODE_HOME: join(home, "kimi"),
    KIMI_CODE_OAUTH_HOST: setup.simulator.oauthHost,
    KIMI_CODE_PROTOCOL: setup.dialect,
  };
  return { baseUrl: setup.base, env, ...(withKey ? { apiKey: setup.simulator.apiKey } : {}) };
}

function act({ column, way, fault }: Cell, setup: FaultSetup, home: string): Promise<Result> {
  const kimi = client(setup, home);
  const picture = fakePng(4000, `${fault.name} ${column} ${way}`);
  if (column === "chat, stopped") return stoppedChat(setup, home);
  if (column.startsWith("chat")) return chat(setup, kimi, "hi");
  if (column.startsWith("upload")) return upload(setup, kimi, picture.toString("base64"));
  switch (way) {
    case "models":
    case "usage":
    case "account":
      return question(setup, kimi[way]());
    case "search":
      return question(setup, client(setup, home, false).search("x", { timeoutMs: CLOCK_MS }));
    case "fetch":
      return question(setup, client(setup, home, false).fetch("https://example.com/", { timeoutMs: CLOCK_MS }));
    case "data source":
      return question(setup, client(setup, home, false).datasource({ source: "arxiv" }, { timeoutMs: CLOCK_MS }));
    default:
      return question(setup, kimi.files.upload(picture));
  }
}

async function chat(setup: FaultSetup, kimi: Kimi, content: string | object[]): Promise<Result> {
  const played = await playChat(kimi, content, { late: setup.late, onRetry: () => setup.betweenAttempts() });
  const requests = setup.requests ?? played.attempts;
  return { ...played, requests, problems: [...played.problems, ...announced(content, requests, played.attempts)] };
}

/** Every request but the first has to be announced as a retry. Uploads are requests too. */
function announced(content: string | object[], requests: number, attempts: number): string[] {
  if (typeof content !== "string" || requests === attempts) return [];
  return [`${requests} requests, ${attempts - 1} retries announced`];
}

/** Runs a chat in a process of its own, which is stopped when its first request has left, until every timeout is over. */
async function stoppedChat(setup: FaultSetup, home: string): Promise<Result> {
  const { env, ...options } = clientOptions(setup, home);
  const child = spawn(process.execPath, [join(import.meta.dirname, "stopped-chat.ts")], {
    env: { ...process.env, ...env, CHAT_OPTIONS: JSON.stringify(options) },
    stdio: ["ignore", "pipe", "inherit"],
  });
  setup.onFirstRequest(() => {
    child.kill("SIGSTOP");
    setTimeout(() => child.kill("SIGCONT"), STOP_MS);
  });
  const end = once(child, "close");
  const output = await text(child.stdout);
  await end;
  const played = JSON.parse(output) as PlayedChat;
  const requests = setup.requests ?? 0;
  return { ...played, requests, problems: [...played.problems, ...announced("", requests, played.attempts)] };
}

async function upload(setup: FaultSetup, kimi: Kimi, data: string): Promise<Result> {
  const picture = { type: "image", mimeType: "image/png", data };
  const { outcome, problems } = await chat(setup, kimi, [{ type: "text", text: "look" }, picture]);
  return { outcome: setup.uploaded(outcome, data, problems), requests: setup.requests, problems };
}

async function question(setup: FaultSetup, asked: Promise<unknown>): Promise<Result> {
  const problems: string[] = [];
  const outcome = await asked.then(
    () => "answer",
    (error: unknown) => codeOf(error, problems),
  );
  return { outcome, requests: setup.requests, problems };
}
