/** One cell of the fault matrix: a fault, a way of using the client, and what was seen. */
import { KimiError } from "../../index.ts";
import { fakePng } from "../support/pictures.ts";
import type { Dialect } from "../support/turn.ts";
import type { Fault } from "./cases.ts";
import { AFTER, BEFORE, CLOCK_MS, type Column, Stage } from "./stage.ts";

/** What became of a call. */
export interface Seen {
  /** `answer`, `inline` (an answer, with the file inside the request), or the error's code. */
  outcome: string;
  /** How often it was asked; `undefined` where there was nobody to count. */
  requests: number | undefined;
  /** Milliseconds. */
  took: number;
  /** Promises that were broken. */
  problems: string[];
}

type Result = Omit<Seen, "took">;

/** Whether there is such a cell: what comes with a response head cannot come after output. */
export function exists(fault: Fault, column: Column): boolean {
  const chat = column.startsWith("chat");
  switch (fault.place) {
    case "stream":
      return chat;
    case "wire":
      return column !== "chat, after output" || fault.strike.at === "\r\n\r\n";
    case "http":
      return column !== "chat, after output";
    case "world":
      // Only a service that was not there can come back in time.
      return column.endsWith("once") ? chat && fault.world === "refused" : column !== "chat, after output";
  }
}

/** Runs a cell. */
export async function play(fault: Fault, column: Column, dialect: Dialect, homes: string): Promise<Seen> {
  const stage = await Stage.set(fault, column, dialect, homes);
  try {
    const start = performance.now();
    const seen = await act(stage);
    const took = performance.now() - start;
    const strayed = stage.simulator.requests.some(({ path }) => path === "/coding/v1/x");
    return { ...seen, took, problems: [...seen.problems, ...(strayed ? ["a redirect was followed"] : [])] };
  } finally {
    await stage.clear();
  }
}

function act(stage: Stage): Promise<Result> {
  if (stage.column.startsWith("chat")) return chat(stage, "hi");
  return stage.column.startsWith("upload") ? upload(stage) : question(stage);
}

async function chat(stage: Stage, content: string | object[]): Promise<Result> {
  const problems: string[] = [];
  const answer = stage.kimi(true).chat([{ role: "user", content: content as string }]);
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
  const counted = stage.fault.place !== "world";
  if (counted && stage.column.startsWith("chat") && stage.requests !== attempts) {
    problems.push(`${stage.requests} requests, ${attempts - 1} retries announced`);
  }
  return { outcome, requests: counted ? stage.requests : attempts, problems };
}

async function upload(stage: Stage): Promise<Result> {
  const data = fakePng(4000, `${stage.fault.name} ${stage.column}`).toString("base64");
  const picture = { type: "image", mimeType: "image/png", data };
  const seen = await chat(stage, [{ type: "text", text: "look" }, picture]);
  const last = stage.simulator.requests.findLast(({ path }) => path === stage.chats);
  const sent = JSON.stringify(last?.json ?? null);
  const inline = sent.includes(data.slice(0, 400));
  if (seen.outcome === "answer" && inline === sent.includes("ms://"))
    seen.problems.push("the picture is not there once");
  const outcome = seen.outcome === "answer" && inline ? "inline" : seen.outcome;
  return { ...seen, outcome, requests: stage.fault.place === "world" ? undefined : seen.requests };
}

async function question(stage: Stage): Promise<Result> {
  const problems: string[] = [];
  const models = stage.column === "models";
  const asked: Promise<unknown> = models
    ? stage.kimi(true).models()
    : stage.kimi(false).search("x", { timeoutMs: CLOCK_MS });
  const outcome = await asked.then(
    () => "answer",
    (error: unknown) => codeOf(error, problems),
  );
  return { outcome, requests: stage.fault.place === "world" ? undefined : stage.requests, problems };
}

function codeOf(error: unknown, problems: string[]): string {
  if (error instanceof KimiError) return error.code;
  problems.push(`not a KimiError: ${String(error)}`);
  return "?";
}
