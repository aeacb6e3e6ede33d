/**
 * `kill -9` at random points of a refresh: no login may be lost, and no lock left behind may block anybody.
 *
 * `node tests/auth/kill-storm.ts 1000` runs as many rounds; `tests/auth/kill.test.ts` runs a few. Each round starts a program
 * that has to refresh, kills it, and lets a successor use what is left. The kills fall, in turn, before the token call, while
 * the OAuth host works on it, around the arrival of its answer and the writing of the files, and anywhere.
 */
import { existsSync, readdirSync, utimesSync } from "node:fs";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Addon } from "../../extension/native/addon.ts";
import { type RequestRecord, type Simulator, startSimulator } from "../simulator/index.ts";
import { Machine } from "../support/account.ts";
import { turnOfLoop } from "../simulator/wire.ts";
import { addon as loadedAddon } from "../support/turn.ts";

/** Several rounds run at once, each in a home of its own. */
const AT_ONCE = 4;

/** How long the OAuth host takes, in milliseconds. */
const TOKEN_MS = 30;

/**
 * After the answer has left the OAuth host, a program may take this long until its first byte is on disk, in milliseconds.
 * A process killed later must not have lost anything. On a crowded machine it is {@link Life.arrival}.
 */
const ARRIVAL_MS = 100;

/** Every so many rounds the successor finds the locks as young as the dead one left them, and has to sit them out. */
const PATIENT_EVERY = 20;

type Phase = "before" | "during" | "after" | "anywhere";
const PHASES: readonly Phase[] = ["before", "during", "after", "anywhere"];

/** Where the login lives when the program starts, and what makes it refresh. */
const SITUATIONS = ["official client's, expired", "both, expired", "Pi's, refused by the service"] as const;

export interface Storm {
  rounds: number;
  /** Killed before the program was through. */
  killed: number;
  /** Where the dead ones were when they died, by what the OAuth host had seen of them. */
  died: { beforeTheCall: number; inTheCall: number; afterTheAnswer: number };
  /** A successor could not go on although the token was never on its way without an owner. */
  lost: string[];
  /** Died between the arrival of the refresh token at the OAuth host and that of its answer: no process got the successor. */
  onTheWire: number;
  /** The answer had left the OAuth host a moment ago, and nothing of it was on disk yet. */
  justArrived: number;
  /** Longest such moment, in milliseconds. */
  longestMomentMs: number;
  /** A successor found what had been written but not put in place. */
  recovered: number;
  /** A spent refresh token was presented, other than by the successors of `onTheWire`. */
  reuses: number;
  locksLeft: number;
  /** Longest time that a left lock kept a successor, in milliseconds. */
  longestWaitMs: number;
  /** Temporary files that wait for the next refresh to clear them away. */
  filesLeft: number;
}

export async function killStorm(rounds: number): Promise<Storm> {
  const addon = loadedAddon();
  const simulator = await startSimulator();
  simulator.setDefault({ steps: [{ text: "ok" }] });
  simulator.oauth.tokenDelayMs = TOKEN_MS;
  const storm: Storm = {
    rounds,
    killed: 0,
    died: { beforeTheCall: 0, inTheCall: 0, afterTheAnswer: 0 },
    lost: [],
    onTheWire: 0,
    justArrived: 0,
    longestMomentMs: 0,
    recovered: 0,
    reuses: 0,
    locksLeft: 0,
    longestWaitMs: 0,
    filesLeft: 0,
  };
  const life = await lifetime(simulator);
  let next = 0;
  const work = async (): Promise<void> => {
    while (next < rounds) await round(next++, { simulator, addon, storm, life });
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  await simulator.close();
  return storm;
}

interface Life {
  /** From the start to the token call, in milliseconds. */
  call: number;
  /** From the start to the end. */
  end: number;
  /** From the answer's departure to its first byte on disk, at most: half of what is left to do by then. */
  arrival: number;
}

/** How long an undisturbed program lives while its neighbours run. */
async function lifetime(simulator: Simulator): Promise<Life> {
  const lives = Array.from({ length: AT_ONCE }, async () => {
    const machine = new Machine(simulator);
    const login = simulator.oauth.login();
    machine.kimiLogin(login, -5);
    const started = Date.now();
    const turn = machine.nodeTurn();
    const { time } = await simulator.waitForRequest((one) => presents(one, login.refresh), 60_000);
    await turn;
    machine.remove();
    return { call: time - started, end: Date.now() - started };
  });
  const all = await Promise.all(lives);
  const [call, end] = [Math.max(...all.map((one) => one.call)), Math.max(...all.map((one) => one.end))];
  const rest = Math.max(...all.map((one) => one.end - one.call - TOKEN_MS));
  return { call, end, arrival: Math.max(ARRIVAL_MS, rest / 2) };
}

function presents(record: RequestRecord, refreshToken: string): boolean {
  return record.endpoint === "token" && record.rawBody.includes(refreshToken);
}

interface Tools {
  simulator: Simulator;
  addon: Addon;
  storm: Storm;
  life: Life;
}

async function round(number: number, { simulator, addon, storm, life }: Tools): Promise<void> {
  const machine = new Machine(simulator);
  const login = simulator.oauth.login();
  const situation = SITUATIONS[Math.floor(number / PHASES.length) % SITUATIONS.length];
  machine.kimiLogin(login, situation === "Pi's, refused by the service" ? 800 : -5);
  if (situation === "both, expired") machine.piLogin(login, -5);
  if (situation === "Pi's, refused by the service") {
    machine.piLogin(login, 800);
    simulator.oauth.endAccess(login.access);
  }
  const phase = PHASES[number % PHASES.length] ?? "anywhere";
  const call = (): RequestRecord | undefined => simulator.requests.find((one) => presents(one, login.refresh));
  let pid = 0;
  let over = false;
  const turn = machine.nodeTurn({ started: (started) => (pid = started) }).then(() => void (over = true));
  await moment(phase, { life, simulator, refresh: login.refresh, turn });
  const killedAt = Date.now();
  if (!over) {
    storm.killed += 1;
    process.kill(pid, "SIGKILL");
    const seen = call();
    if (seen === undefined) storm.died.beforeTheCall += 1;
    else if (seen.ended === undefined) storm.died.inTheCall += 1;
    else storm.died.afterTheAnswer += 1;
  }
  await turn;
  // What the dead one had sent is read within a few turns of the event loop.
  for (let turns = 0; turns < 5; turns += 1) await turnOfLoop();
  // A refresh that was on its way when the program died is finished by the service.
  const seen = call();
  if (seen !== undefined && seen.ended === undefined) await sleep(2 * TOKEN_MS);

  const before = isAlive(simulator, machine);
  const locks = [machine.lockPath, `${machine.authPath}.lock`].filter((path) => existsSync(path));
  storm.locksLeft += locks.length;
  if (number % PATIENT_EVERY !== 0) for (const lock of locks) utimesSync(lock, 1, 1);
  const started = Date.now();
  await addon.cliLogin(machine.request());
  if (locks.length > 0) storm.longestWaitMs = Math.max(storm.longestWaitMs, Date.now() - started);
  // Nothing on disk is due, but the service may know better: then the successor's own 401 leads it to what was left.
  if (!isAlive(simulator, machine)) await machine.nodeTurn();
  const presented = simulator.requests.filter((one) => presents(one, login.refresh)).length;
  const since = killedAt - (seen?.endedAt ?? 0);
  if (isAlive(simulator, machine)) {
    if (!before) storm.recovered += 1;
    if (presented > 1) storm.reuses += 1;
  } else if (seen !== undefined && (seen.ended !== "complete" || since <= 0)) storm.onTheWire += 1;
  else if (since <= life.arrival) {
    storm.justArrived += 1;
    storm.longestMomentMs = Math.max(storm.longestMomentMs, since);
  } else storm.lost.push(`${phase}, ${situation}: killed ${since} ms after the answer had left`);
  storm.filesLeft += readdirSync(dirname(machine.kimiPath)).length - 1;
  machine.remove();
}

/** Whether any file holds a login that the service knows. */
function isAlive({ oauth }: Simulator, machine: Machine): boolean {
  return [machine.kimi?.refresh_token, machine.pi?.refresh].some((token) => oauth.isAlive(token ?? ""));
}

/** Waits for the moment of the kill. */
async function moment(
  phase: Phase,
  { life, simulator, refresh, turn }: { life: Life; simulator: Simulator; refresh: string; turn: Promise<unknown> },
): Promise<void> {
  const called = (): Promise<unknown> =>
    Promise.race([turn, simulator.waitForRequest((one) => presents(one, refresh), 60_000)]);
  const answered = (): Promise<unknown> =>
    Promise.race([turn, simulator.waitForRequest((one) => presents(one, refresh) && one.ended !== undefined, 60_000)]);
  if (phase === "before") return void (await sleep(life.call * Math.random()));
  if (phase === "anywhere") return void (await sleep(life.end * Math.random()));
  if (phase === "during") {
    await called();
    return void (await sleep(TOKEN_MS * Math.random()));
  }
  await answered();
  await sleep(2 * life.arrival * Math.random() ** 3);
}

if (process.argv[1] === import.meta.filename) {
  console.log(await killStorm(Number(process.argv[2] ?? 1000)));
}
