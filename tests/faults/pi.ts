/** Runs cells of the fault matrix inside real Pi, each in a session of its own. */
import { call, pause } from "../simulator/scenario.ts";
import { messages, type PiEvent, textOf } from "../support/pi.ts";
import { realPng } from "../support/sample-media.ts";
import { addon } from "../support/turn.ts";
import { PiWorker, TOOLS } from "./pi-worker.ts";
import { type Cell, isSilent, KEPT, type Played, type Seen, sideBySide } from "./matrix.ts";
import { AFTER, BEFORE } from "./play-chat.ts";
import { WAIT_MS } from "./fault-setup.ts";
import { codeIn } from "./pi-error-code.ts";

/** Number of Pi processes at the same time; they mostly wait. */
const PIS = 6;

type Result = Omit<Seen, "took">;

/** Runs these cells. A new session requests the models by itself, so model cells run in a Pi of their own. */
export async function playInPi(cells: Cell[]): Promise<Played[]> {
  const models = cells.filter(({ way }) => way === "models");
  // A request without a server cannot be waited for, and must not be counted in the next cell.
  models.sort((a, b) => Number(a.fault.place === "world") - Number(b.fault.place === "world"));
  const others = cells.filter(({ way }) => way !== "models");
  return (await Promise.all([inPis(models, 1), inPis(others, PIS - 1)])).flat();
}

async function inPis(cells: Cell[], count: number): Promise<Played[]> {
  const workers = await Promise.all(Array.from({ length: count }, () => PiWorker.open()));
  try {
    return await sideBySide(cells, count, async (cell, at) => ({
      ...cell,
      seen: await play(cell, workers[at] as PiWorker),
    }));
  } finally {
    await Promise.all(workers.map((worker) => worker.close()));
  }
}

async function play(cell: Cell, worker: PiWorker): Promise<Seen> {
  await worker.begin(cell);
  const from = worker.pi.events.length;
  const start = performance.now();
  const { problems, ...seen } = await act(cell, worker).catch((cause: unknown) => {
    throw new Error(`${cell.fault.name}, ${cell.column}, ${cell.way}`, { cause });
  });
  const took = performance.now() - start;
  if (worker.setup.redirectFollowed) problems.push("a redirect was followed");
  const errors = worker.pi.events.slice(from).filter(({ type }) => type === "extension_error");
  problems.push(...errors.map(({ error }) => String(error)));
  if (worker.pi.stderr !== "") problems.push(worker.pi.stderr);
  return { ...seen, took, problems };
}

function act(cell: Cell, worker: PiWorker): Promise<Result> {
  const { fault, column, way } = cell;
  if (column.startsWith("chat")) return chat(worker);
  if (column.startsWith("upload")) return upload(worker, `${fault.name} ${column} ${way}`);
  if (way in TOOLS) return tool(worker, cell);
  return way === "models"
    ? start(worker, fault.place === "world")
    : usage(worker, way === "usage" ? "quota" : "account");
}

/** What Pi reported for one request. */
interface Turn extends Omit<Result, "requests"> {
  /** Number of requests, as far as the user was told. */
  attempts: number;
  /** The final message to the user. */
  error: string;
}

async function ask(worker: PiWorker, images: object[] = []): Promise<Turn> {
  const { pi, setup } = worker;
  const again = ({ method, statusText }: PiEvent): boolean =>
    method === "setStatus" && String(statusText).includes("attempt 2 of 2");
  const from = pi.events.length;
  const asking = pi.prompt("hi", { images });
  if (setup.returns) await pi.waitFor(again, from).then(() => setup.betweenAttempts());
  const events = await asking;
  const problems: string[] = [];
  const [message, ...others] = messages(events);
  if (others.length > 0) problems.push(`${1 + others.length} messages`);
  for (const [type, times] of Object.entries({ agent_settled: 1, agent_end: 1, auto_retry_start: 0 })) {
    const count = events.filter((event) => event.type === type).length;
    if (count !== times) problems.push(`${count} × ${type}`);
  }
  const { stopReason, errorMessage: error = "" } = message ?? {};
  const outcome = stopReason === "error" ? codeIn(error) : "answer";
  const said = textOf(message);
  const wanted = stopReason === "error" ? (setup.late ? BEFORE : "") : BEFORE + AFTER;
  if (said !== wanted) problems.push(`stop reason ${stopReason}, said: ${JSON.stringify(said)}`);
  const deltas = events
    .map((event) => event["assistantMessageEvent"] as { type: string; delta: string } | undefined)
    .map((event) => (event?.type === "text_delta" ? event.delta : ""));
  if (deltas.join("") !== said) problems.push(`said: ${JSON.stringify(said)}, shown: ${JSON.stringify(deltas)}`);
  return { outcome, attempts: events.some(again) ? 2 : 1, error, problems };
}

async function chat(worker: PiWorker): Promise<Result> {
  const { outcome, attempts, error, problems } = await ask(worker);
  const requests = worker.setup.requests ?? attempts;
  if (requests !== attempts) problems.push(`${requests} requests, ${attempts - 1} retries announced`);
  const gaveUp = error.startsWith("Gave up after 2 attempts, retries are out of budget");
  if (outcome !== "answer" && gaveUp !== (attempts === 2)) problems.push(`${attempts} attempts: ${error}`);
  return { outcome, requests, problems };
}

async function upload(worker: PiWorker, seed: string): Promise<Result> {
  const data = realPng(40, 40, seed).toString("base64");
  const { outcome, problems } = await ask(worker, [{ type: "image", data, mimeType: "image/png" }]);
  return { outcome: worker.setup.uploaded(outcome, data, problems), requests: worker.setup.requests, problems };
}

/** A new session starts the request for models in the background; the user goes on meanwhile. */
async function start(worker: PiWorker, alone: boolean): Promise<Result> {
  if (!alone) await worker.setup.affected();
  const problems = alone ? [] : (await ask(worker)).problems;
  const known = (JSON.parse(addon().fallbackModels()) as { id: string }[]).map(({ id }) => id);
  const listed = (await worker.models()).join();
  return { outcome: listed === known.join() ? KEPT : listed, requests: worker.setup.requests, problems };
}

async function usage({ pi, setup }: PiWorker, part: "quota" | "account"): Promise<Result> {
  const from = pi.events.length;
  await pi.command({ type: "prompt", message: "/kimi-usage --json" });
  const { message } = await pi.waitFor(({ method }) => method === "notify", from);
  const told = JSON.parse(String(message)) as Record<typeof part, { error?: string; problem?: string | null }>;
  // A known older quota is shown together with the reason why it is old.
  const why = told[part].error ?? told[part].problem;
  return { outcome: why ? codeIn(why) : "answer", requests: setup.requests, problems: [] };
}

async function tool(worker: PiWorker, cell: Cell): Promise<Result> {
  const { pi, setup } = worker;
  const { simulator } = setup;
  const [name, args] = TOOLS[cell.way as keyof typeof TOOLS];
  simulator.enqueue({ steps: [pause(100), call(name, args)] });
  const asking = pi.prompt("go");
  const [lost, stopped] = [cell.fault.place === "world", isSilent(cell.fault)];
  if (lost) {
    await simulator.waitForRequest(({ endpoint }) => endpoint === "chat", WAIT_MS);
    worker.configure(setup.base);
  }
  if (stopped) await setup.affected().then(() => pi.command({ type: "abort" }));
  const events = await asking;
  const ends = events.filter(({ type }) => type === "tool_execution_end");
  const { isError, result } = (ends[0] ?? {}) as { isError?: boolean; result?: { content: { text: string }[] } };
  const said = (result?.content ?? []).map(({ text }) => text).join("");
  const answers = messages(events);
  const ending = [ends.length, answers.length, answers.at(-1)?.stopReason, textOf(answers.at(-1))].join();
  const wanted = lost || stopped ? [1, 2, "error", ""] : [1, 2, "stop", BEFORE + AFTER];
  const problems = ending === wanted.join() ? [] : [`results, messages, stop reason, text: ${ending}`];
  return { outcome: isError === true ? codeIn(said) : "answer", requests: setup.requests, problems };
}
