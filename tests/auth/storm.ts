/**
 * A storm over one login: programs of three kinds refresh it while they are killed, stopped, given other clocks, robbed of files,
 * and answered late, wrongly or not at all.
 *
 * `npm run storm -- --runs 1000` (`--seed`, `--at-once`, `--node-only`) prints the table of docs/reliability.md;
 * `storm.test.ts` plays a few runs. A run is determined by its seed, apart from timing.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readFileSync, readdirSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import type { RefreshPlan } from "../simulator/oauth-state.ts";
import { type RequestRecord, type Simulator, startSimulator } from "../simulator/index.ts";
import { Machine, type NodeTurn } from "../support/account.ts";
import { installOfficialClient, OFFICIAL_CLIENT } from "../support/official-client.ts";
import { PI_VERSIONS, piCli } from "../support/pi-versions.ts";
import { piArguments, ROOT } from "../support/pi.ts";
import { notes, preloading } from "../support/preload.ts";

/** Preloaded into Pi and the official client: notes of locks that are taken over, and another clock. In this order. */
const PRELOADS = preloading("lock-watch.cjs", "shifted-clock.cjs");

/** Longest life of a program in milliseconds, without the time in which it is stopped. */
const LONGEST_LIFE_MS = 150_000;

/** After the slowest call, no process may wait longer than this, in milliseconds. */
const GRACE_MS = 10_000;

/** A killed program may lose an answer that it had so many milliseconds to read; on a crowded machine it is read late. */
const GAP_MS = 100;

/** Age at which Pi takes over its own lock, in milliseconds. */
const PI_STALE_MS = 30_000;

/** Age at which the official client takes over its own lock, in milliseconds. */
const OFFICIAL_STALE_MS = 5000;

type Kind = "node" | "pi" | "official";

export interface StormOptions {
  runs: number;
  seed?: number;
  atOnce?: number;
  nodeOnly?: boolean;
  /** Scales all times. */
  scale?: number;
  report?: (line: string) => void;
}

export interface StormReport {
  runs: number;
  programs: Record<Kind, number>;
  disturbances: Record<string, number>;
  tokenCalls: number;
  /** Logins that nothing below explains. */
  lost: string[];
  /** Refresh tokens that were presented twice without an explanation. */
  spentTwice: string[];
  /** Programs of ours that waited longer than the slowest call plus 10 s. */
  waitedTooLong: string[];
  /** Counted apart: waited until Pi's lock, left by a killed program, was stale. */
  waitedForDeadLock: number;
  /** Programs of ours that asked for a new login although it was alive. */
  wronglyAsked: string[];
  /** Logins lost because the holder was killed during its call, or so shortly after that the answer was not read. */
  killedInCall: number;
  /** Logins lost because the service's answer never arrived. */
  answerLost: number;
  /** Counted apart: logins lost because the official client was stopped or killed in its own call, or took a lock over. */
  officialDisturbed: number;
  /** Counted apart: the official client spent the token of a stopped program of ours. */
  officialSpentOurs: number;
  /** Undisturbed official clients that failed, for a reason that is not counted apart. */
  officialFailed: string[];
  /** Counted apart: failed because an official client, by its own clock, took over a lock whose holder had just touched it. */
  officialWrongClock: number;
  /** Counted apart: failed because another official client was stopped beyond the stale time of its lock. */
  officialAfterStopped: number;
  /** Counted apart: failed because an official client spent the token of a program of ours that was stopped that long. */
  officialAfterOurs: number;
  /** The runs of these, with all that happened. */
  apart: string[];
  longestWaitMs: number;
  /** What Pi said where it ended without an answer, other than asking for a login. */
  piErrors: string[];
  /** How the programs that were not killed ended, by kind. */
  outcomes: Record<string, number>;
}

/** A small generator of random numbers with a seed (mulberry32). */
function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** A lock that a program took over, as tests/support/lock-watch.cjs notes it. */
interface Takeover {
  lock: string;
  at: number;
  /** Age by the clock of the program. */
  ageMs: number;
  /** Time since its holder touched it, by the clock of the machine. */
  untouchedMs: number;
}

class Program {
  readonly kind: Kind;
  readonly child: ChildProcess;
  readonly started = Date.now();
  readonly ended: Promise<void>;
  endedAt = 0;
  stoppedMs = 0;
  busyMs = 0;
  /** When it was stopped and went on again, in milliseconds since 1970. */
  readonly stops: { from: number; to: number }[] = [];
  killed = false;
  killedAt = 0;
  output = "";
  errors = "";
  code: number | null = null;

  readonly #takeovers: string;
  readonly #name: string;

  constructor(kind: Kind, machine: Machine, number: number, env: Record<string, string>) {
    this.kind = kind;
    this.#name = `${kind} ${number}`;
    this.#takeovers = join(machine.path, `takeovers-${number}`);
    const args = {
      node: () => [join(ROOT, "tests", "support", "node-turn.ts")],
      pi: () => piArgs(machine),
      official: () => [OFFICIAL_CLIENT, "-p", "hi"],
    };
    const preload: Record<string, string> =
      kind === "node"
        ? {}
        : {
            NODE_OPTIONS: PRELOADS,
            KIMI_TEST_TAKEOVERS: this.#takeovers,
          };
    this.child = spawn(process.execPath, args[kind](), {
      cwd: machine.cwd,
      env: machine.env(machine.variables({ KIMI_DISABLE_TELEMETRY: "1", NO_COLOR: "1", ...preload, ...env })),
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.child.stdout?.setEncoding("utf8").on("data", (text: string) => (this.output += text));
    this.child.stderr?.setEncoding("utf8").on("data", (text: string) => (this.errors += text));
    const watch = setInterval(() => this.#measure(), 100);
    this.ended = new Promise((resolve) => {
      this.child.on("close", (code) => {
        clearInterval(watch);
        this.code = code;
        this.endedAt = Date.now();
        resolve();
      });
    });
  }

  /** Reads the time in which the main thread ran or waited for a processor, where the system tells it. */
  #measure(): void {
    try {
      const [ran = 0, queued = 0] = readFileSync(`/proc/${this.child.pid}/schedstat`, "utf8").split(" ").map(Number);
      this.busyMs = (ran + queued) / 1e6;
    } catch {
      // The program has ended, or this is not Linux.
    }
  }

  /** Time in which the program waited for something other than a processor. */
  get waitedMs(): number {
    return this.endedAt - this.started - this.stoppedMs - this.busyMs;
  }

  get isOver(): boolean {
    return this.endedAt !== 0;
  }

  get worked(): boolean {
    return this.kind === "node" ? (this.result?.text ?? "") === "ok" : this.output.includes("ok");
  }

  /** The report of a Node program. */
  get result(): NodeTurn | undefined {
    return this.output.startsWith("{") ? (JSON.parse(this.output) as NodeTurn) : undefined;
  }

  get asksForLogin(): boolean {
    return this.kind === "node"
      ? this.result?.code === "login_required"
      : /login required|no longer valid|No API key found|is not configured/i.test(this.errors);
  }

  get outcome(): string {
    if (this.worked) return "answer";
    return this.result?.code ?? (this.asksForLogin ? "login_required" : "error");
  }

  get takeovers(): Takeover[] {
    return notes(this.#takeovers);
  }

  /** What happened to it and what it did, with times relative to `start`. */
  history(start: number): string {
    const seconds = (time: number): string => ((time - start) / 1000).toFixed(1);
    const stops = this.stops.map(({ from, to }) => `, stopped ${seconds(from)}–${seconds(to)}`);
    const takeovers = this.takeovers.map(
      (one) =>
        `, took ${basename(one.lock)} over at ${seconds(one.at)}, ${one.ageMs} ms old, untouched for ${one.untouchedMs} ms`,
    );
    const killed = this.killed ? `, killed ${seconds(this.killedAt)}` : "";
    return `${this.#name} ${seconds(this.started)}–${seconds(this.endedAt)} ${this.outcome}${[...stops, ...takeovers].join("")}${killed}`;
  }

  get disturbed(): boolean {
    return this.killed || this.stops.length > 0;
  }

  kill(): void {
    if (this.isOver) return;
    this.killed = true;
    this.killedAt = Date.now();
    this.child.kill("SIGKILL");
  }

  async stop(ms: number): Promise<void> {
    if (this.isOver || this.killed) return;
    this.child.kill("SIGSTOP");
    const stop = { from: Date.now(), to: Infinity };
    this.stops.push(stop);
    await Promise.race([sleep(ms), this.ended]);
    this.child.kill("SIGCONT");
    stop.to = Date.now();
    this.stoppedMs += stop.to - stop.from;
  }

  /** Whether it was killed before it had time to read an answer that was there at `time`. */
  killedBeforeReading(time: number): boolean {
    if (this.killedAt < time) return true;
    const couldNot = this.stops.map(({ from, to }) => Math.min(to, this.killedAt) - Math.max(from, time));
    const stoppedMs = couldNot.reduce((sum, ms) => sum + Math.max(0, ms), 0);
    return this.killedAt - time - stoppedMs <= GAP_MS;
  }
}

/** Versions of Pi in the storm: the oldest and the newest one. */
const PIS = [PI_VERSIONS[0], PI_VERSIONS[PI_VERSIONS.length - 1] ?? PI_VERSIONS[0]];

function piArgs(machine: Machine): string[] {
  const cli = piCli(PIS[Math.floor(Math.random() * PIS.length)]);
  return piArguments(["-p", "--no-session", "--model", "kimi-coding/kimi-for-coding", "hi"], { home: machine, cli });
}

function isOurs(record: RequestRecord): boolean {
  return !(record.headers["user-agent"] ?? "").startsWith("kimi-code-cli");
}

function tokenOf(record: RequestRecord): string {
  return new URLSearchParams(record.rawBody.toString("utf8")).get("refresh_token") ?? "";
}

/** The refreshes that the service has seen. */
function refreshes(simulator: Simulator): RequestRecord[] {
  return simulator.requests.filter((one) => one.endpoint === "token" && tokenOf(one) !== "");
}

/** One run of the storm. */
class Run {
  readonly #random: () => number;
  readonly #scale: number;
  readonly #name: string;
  readonly #report: StormReport;
  readonly #programs: Program[] = [];
  readonly #lostAnswers = new Set<string>();
  #removed = false;
  #clocksDiffer = false;

  constructor(seed: number, scale: number, report: StormReport) {
    this.#random = generator(seed);
    this.#scale = scale;
    this.#name = `seed ${seed}`;
    this.#report = report;
  }

  #between(low: number, high: number): number {
    return (low + (high - low) * this.#random()) * this.#scale;
  }

  #count(disturbance: string): void {
    this.#report.disturbances[disturbance] = (this.#report.disturbances[disturbance] ?? 0) + 1;
  }

  /** Chooses how the service treats the calls of this run. */
  #plan(): (presented: string) => RefreshPlan {
    const kind = this.#random();
    let calls = 0;
    const slow = {
      before: this.#between(1000, 30_000),
      after: this.#between(1000, 30_000),
      early: this.#random() < 0.7,
    };
    const failures = 1 + Math.floor(this.#random() * 2);
    const status = [500, 503, 429][Math.floor(this.#random() * 3)] ?? 500;
    const fast = (): RefreshPlan => ({ beforeMs: 300 * Math.random(), afterMs: 300 * Math.random() });
    if (kind < 0.35) return fast;
    if (kind < 0.7) {
      this.#count("slow token answers");
      return () => (slow.early ? { afterMs: slow.after } : { beforeMs: slow.before });
    }
    if (kind < 0.88) {
      this.#count("failing token answers");
      return () => (++calls <= failures ? { failure: status } : fast());
    }
    this.#count("lost token answers");
    return (presented) => {
      if (++calls > 1) return fast();
      this.#lostAnswers.add(presented);
      return { beforeMs: 200, afterMs: 300, answerLost: true };
    };
  }

  async play(nodeOnly: boolean): Promise<void> {
    const simulator = await startSimulator();
    simulator.setDefault({ steps: [{ text: "ok" }] });
    const machine = new Machine(simulator);
    try {
      await this.#play(simulator, machine, nodeOnly);
    } finally {
      for (const program of this.#programs) program.child.kill("SIGKILL");
      await Promise.all(this.#programs.map((program) => program.ended));
      machine.remove();
      await simulator.close();
    }
  }

  async #play(simulator: Simulator, machine: Machine, nodeOnly: boolean): Promise<void> {
    const count = 2 + Math.floor(this.#random() * 3);
    const kinds = Array.from({ length: count }, (): Kind => {
      const kind = this.#random();
      return nodeOnly || kind < 0.6 ? "node" : kind < 0.8 ? "pi" : "official";
    });
    if (kinds.includes("official")) await configureOfficial(machine);
    const login = machine.kimi;
    const tokens = login ? { access: login.access_token, refresh: login.refresh_token } : simulator.oauth.login();
    machine.kimiLogin(tokens, -5);
    if (this.#random() < 0.5) machine.piLogin(tokens, -5);
    simulator.oauth.planRefresh = this.#plan();

    const clock = join(machine.path, "clock");
    writeFileSync(clock, "0");
    const shifted = this.#random() < 0.3;
    const work: Promise<void>[] = [];
    for (const kind of kinds) {
      await sleep(this.#between(0, 1500));
      // The clocks of two programs differ, or one steps.
      const own = shifted && this.#random() < 0.5 ? join(machine.path, `clock-${this.#programs.length}`) : clock;
      if (own !== clock) {
        writeFileSync(own, String(Math.round(this.#between(-15_000, 15_000))));
        this.#count("different clocks");
        this.#clocksDiffer = true;
      }
      this.#programs.push(new Program(kind, machine, this.#programs.length, { KIMI_TEST_CLOCK: own }));
      this.#report.programs[kind] += 1;
    }
    if (this.#random() < 0.3) work.push(this.#stepClock(clock));
    const disturbances = 1 + Math.floor(this.#random() * 2);
    for (let each = 0; each < disturbances; each += 1) work.push(this.#disturb(simulator, machine));
    await Promise.all(work);
    await this.#untilOver(simulator);
    await this.#judge(simulator, machine);
  }

  async #stepClock(clock: string): Promise<void> {
    this.#count("clock steps");
    this.#clocksDiffer = true;
    for (let steps = 1 + Math.floor(this.#random() * 3); steps > 0; steps -= 1) {
      await sleep(this.#between(500, 8000));
      const far = this.#random() < 0.3 ? 7_200_000 : 20_000;
      writeFileSync(clock, String(Math.round((this.#random() * 2 - 1) * far)));
    }
  }

  async #disturb(simulator: Simulator, machine: Machine): Promise<void> {
    const what = this.#random();
    const victim = this.#programs[Math.floor(this.#random() * this.#programs.length)];
    // Half of it happens when a token has just been sent.
    const inCall = this.#random() < 0.6;
    if (inCall) {
      while (refreshes(simulator).length === 0 && this.#programs.some((program) => !program.isOver)) await sleep(10);
      await sleep(this.#between(0, 400));
    } else await sleep(this.#between(0, 8000));
    if (what < 0.3) {
      this.#count("kill -9");
      victim?.kill();
    } else if (what < 0.75) {
      const length = this.#random();
      const ms =
        length < 0.5
          ? this.#between(1000, 8000)
          : length < 0.8
            ? this.#between(8000, 20_000)
            : this.#between(20_000, 60_000);
      this.#count("SIGSTOP");
      // The first program is most likely the one that refreshes.
      await (inCall ? this.#programs[0] : victim)?.stop(ms);
    } else this.#remove(simulator, machine);
  }

  /** Removes files while a program of ours waits for its answer, when nothing but the answer can be lost. */
  #remove(simulator: Simulator, machine: Machine): void {
    const open = refreshes(simulator).filter((one) => one.ended === undefined);
    if (open.length === 0 || !open.every(isOurs)) return;
    this.#count("removed files");
    this.#removed = true;
    const folder = dirname(machine.kimiPath);
    if (!existsSync(folder)) return;
    const what = this.#random();
    if (what < 0.4) {
      for (const name of readdirSync(folder).filter((one) => one.includes(".tmp.")))
        rmSync(join(folder, name), { force: true });
    } else if (what < 0.7) rmSync(folder, { recursive: true, force: true });
    else if (existsSync(machine.lockPath)) {
      try {
        rmdirSync(machine.lockPath);
      } catch {
        // Its holder was faster.
      }
    }
  }

  async #untilOver(simulator: Simulator): Promise<void> {
    await Promise.all(
      this.#programs.map(async (program) => {
        await Promise.race([program.ended, sleep(LONGEST_LIFE_MS, undefined, { ref: false })]);
        if (!program.isOver) {
          if (program.kind !== "official")
            this.#report.waitedTooLong.push(`${this.#name}: ${program.kind} never ended`);
          program.kill();
          await program.ended;
        }
      }),
    );
    for (let left = 400; left > 0 && refreshes(simulator).some((one) => one.ended === undefined); left -= 1)
      await sleep(100);
  }

  async #judge(simulator: Simulator, machine: Machine): Promise<void> {
    const report = this.#report;
    const calls = refreshes(simulator);
    report.tokenCalls += calls.length;
    const state = (): string => this.#history(calls);
    // A successor finds what was left. It may be the first to refresh, where all clocks were late, and nothing disturbs it.
    simulator.oauth.planRefresh = undefined;
    const cure = await machine.nodeTurn({ env: { KIMI_TEST_CLOCK: "" } });
    const alive = [machine.kimi?.refresh_token, machine.pi?.refresh].some((one) => simulator.oauth.isAlive(one ?? ""));
    // What can have ended the login: the last call that was answered well, and those after it.
    const good = calls.findLastIndex(
      (one) => one.status === 200 && one.ended === "complete" && !this.#lostAnswers.has(tokenOf(one)),
    );
    const suspects = calls.slice(Math.max(0, good));
    const ours = this.#programs.filter((one) => one.kind !== "official");
    const killed = (call: RequestRecord): boolean =>
      ours.some((one) => one.killed && one.killedAt >= call.time && one.killedBeforeReading(call.endedAt ?? Infinity));
    let lossIsKnown = true;
    if (!alive || cure.text !== "ok") {
      if (suspects.some((one) => this.#lostAnswers.has(tokenOf(one)))) report.answerLost += 1;
      else if (suspects.some((one) => isOurs(one) && killed(one))) report.killedInCall += 1;
      else if (this.#isOfficialsLoss(suspects, machine)) {
        report.officialDisturbed += 1;
        report.apart.push(`lost: ${state()}`);
      } else {
        report.lost.push(`${state()}: ${JSON.stringify(cure)}`);
        lossIsKnown = false;
      }
    }
    this.#judgeReuse(calls, state, killed);
    const lengths = calls.map((one) => (one.endedAt ?? one.time) - one.time);
    const slowest = Math.max(
      0,
      // With a wrong clock a new token looks old, so that two refreshes follow each other.
      ...(this.#clocksDiffer ? [lengths.reduce((sum, length) => sum + length, 0)] : lengths),
      ...this.#programs.map((one) => one.stoppedMs),
    );
    for (const program of this.#programs) {
      if (program.killed) continue;
      const outcome = `${program.kind}: ${program.outcome}`;
      report.outcomes[outcome] = (report.outcomes[outcome] ?? 0) + 1;
      if (program.outcome === "error" && program.kind === "pi")
        report.piErrors.push(`${state()}: ${program.errors.trim().slice(-300)}`);
      if (program.kind === "official") {
        const mayFail = program.disturbed || this.#removed || !alive;
        if (!program.worked && !mayFail) {
          const how = `${state()}: ${(program.output + program.errors).trim().slice(-200)}`;
          const after = (whose: "official" | "ours"): boolean => this.#isAfterStopped(program, calls, whose);
          const apart = this.#isWrongClock(program, machine)
            ? "officialWrongClock"
            : after("official")
              ? "officialAfterStopped"
              : after("ours")
                ? "officialAfterOurs"
                : undefined;
          if (apart === undefined) report.officialFailed.push(how);
          else {
            report[apart] += 1;
            report.apart.push(how);
          }
        }
        continue;
      }
      const wait = program.waitedMs;
      report.longestWaitMs = Math.max(report.longestWaitMs, wait);
      const left = ours.some((one) => one.killed) && wait < slowest + PI_STALE_MS + GRACE_MS;
      if (wait > slowest + GRACE_MS && left) report.waitedForDeadLock += 1;
      else if (wait > slowest + GRACE_MS)
        report.waitedTooLong.push(`${state()}: ${program.kind} ${wait} ms, slowest call ${slowest} ms`);
      if (program.asksForLogin && alive && cure.text === "ok" && lossIsKnown) {
        report.wronglyAsked.push(`${state()}: ${program.output}${program.errors}`.slice(0, 2000));
      }
    }
  }

  /** All that is needed to understand how a run ended. */
  #history(calls: RequestRecord[]): string {
    const start = this.#programs[0]?.started ?? 0;
    const seconds = (time: number | undefined): string =>
      time === undefined ? "?" : ((time - start) / 1000).toFixed(1);
    const sent = [...new Set(calls.map(tokenOf))];
    const listed = calls.map(
      (one) =>
        `token ${sent.indexOf(tokenOf(one))} by ${isOurs(one) ? "us" : "official"} ${seconds(one.time)}–${seconds(one.endedAt)} ${one.status} ${one.ended}${this.#lostAnswers.has(tokenOf(one)) ? " (lost answer)" : ""}`,
    );
    const programs = this.#programs.map((one) => one.history(start));
    return `${this.#name} (${[...programs, ...listed].join("; ")}${this.#clocksDiffer ? "; clocks differ" : ""}${this.#removed ? "; files removed" : ""})`;
  }

  /**
   * Whether an official client was killed after it had sent one of these tokens, or was stopped in its call for longer than its lock
   * lasts, or sent the token of another program, which it could take for dead.
   */
  #isOfficialsLoss(suspects: RequestRecord[], machine: Machine): boolean {
    const official = this.#programs.filter((one) => one.kind === "official");
    const theirs = suspects.filter((one) => !isOurs(one));
    return theirs.some((call) =>
      official.some(
        (one) =>
          (one.killed && one.killedAt >= call.time) ||
          one.stops.some(({ from, to }) => to - Math.max(from, call.time) > OFFICIAL_STALE_MS) ||
          one.takeovers.some(({ lock, at }) => lock === machine.lockPath && at <= call.time),
      ),
    );
  }

  /**
   * Whether an official client took over the lock of a living holder during the life of a program: by its own clock the lock was
   * stale, though its holder had touched it within the stale time.
   */
  #isWrongClock(program: Program, machine: Machine): boolean {
    const takeovers = this.#programs.filter((one) => one.kind === "official").flatMap((one) => one.takeovers);
    return takeovers.some(
      ({ lock, at, untouchedMs }) =>
        lock === machine.lockPath && untouchedMs <= OFFICIAL_STALE_MS && at >= program.started && at <= program.endedAt,
    );
  }

  /**
   * Whether a token was presented a second time, before the end of a program, when the client that had presented it, an official one
   * or one of ours, had been stopped in its call for longer than the official client's lock lasts.
   */
  #isAfterStopped(program: Program, calls: RequestRecord[], whose: "official" | "ours"): boolean {
    const stops = this.#programs
      .filter((one) => one !== program && (one.kind === "official") === (whose === "official"))
      .flatMap((one) => one.stops);
    return calls.some((again, index) => {
      const first = calls.slice(0, index).find((one) => tokenOf(one) === tokenOf(again));
      if (first === undefined || isOurs(first) !== (whose === "ours") || again.time > program.endedAt) return false;
      return stops.some(({ from, to }) => Math.min(to, again.time) - Math.max(from, first.time) > OFFICIAL_STALE_MS);
    });
  }

  #judgeReuse(calls: RequestRecord[], state: () => string, killed: (call: RequestRecord) => boolean): void {
    for (const [index, call] of calls.entries()) {
      const earlier = calls
        .slice(0, index)
        .filter((one) => tokenOf(one) === tokenOf(call) && !(one.status !== undefined && one.status >= 429));
      const first = earlier[0];
      if (first === undefined) continue;
      if (this.#lostAnswers.has(tokenOf(call)) || killed(first) || first.ended === "aborted") continue;
      if (!isOurs(call) || !isOurs(first)) this.#report.officialSpentOurs += 1;
      else
        this.#report.spentTwice.push(
          `${state()}: ${earlier.map((one) => `${one.time} ${one.status} ${one.ended}`).join("; ")}; again at ${call.time}`,
        );
    }
  }
}

/** Signs the official client in, which writes the configuration that it needs. */
async function configureOfficial(machine: Machine): Promise<void> {
  const env = machine.env(machine.variables({ KIMI_DISABLE_TELEMETRY: "1", NO_COLOR: "1" }));
  const child = spawn(process.execPath, [OFFICIAL_CLIENT, "login"], { cwd: machine.cwd, env, stdio: "ignore" });
  await new Promise((resolve) => child.on("close", resolve));
}

/** Installs the official client where it is missing. */
export async function storm({
  runs,
  seed = 1,
  atOnce = 4,
  nodeOnly = false,
  scale = 1,
  report: log,
}: StormOptions): Promise<StormReport> {
  if (!nodeOnly) {
    installOfficialClient();
    for (const version of PIS) piCli(version);
  }
  const report: StormReport = {
    runs,
    programs: { node: 0, pi: 0, official: 0 },
    disturbances: {},
    tokenCalls: 0,
    lost: [],
    spentTwice: [],
    waitedTooLong: [],
    waitedForDeadLock: 0,
    wronglyAsked: [],
    killedInCall: 0,
    answerLost: 0,
    officialDisturbed: 0,
    officialSpentOurs: 0,
    officialFailed: [],
    officialWrongClock: 0,
    officialAfterStopped: 0,
    officialAfterOurs: 0,
    apart: [],
    longestWaitMs: 0,
    outcomes: {},
    piErrors: [],
  };
  let next = 0;
  const work = async (): Promise<void> => {
    while (next < runs) {
      const number = next++;
      await new Run(seed + number, scale, report).play(nodeOnly);
      if ((number + 1) % 10 === 0) log?.(`${number + 1} runs: ${JSON.stringify(report)}`);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, work));
  return report;
}

/** The table of docs/reliability.md. */
export function table(report: StormReport): string {
  const rows: [string, string | number][] = [
    ["runs", report.runs],
    [
      "programs: Node clients, Pi, official client",
      `${report.programs.node}, ${report.programs.pi}, ${report.programs.official}`,
    ],
    ["token calls", report.tokenCalls],
    ...Object.entries(report.disturbances).map(([name, count]): [string, number] => [`disturbed by: ${name}`, count]),
    ["**logins lost without an allowed cause**", `**${report.lost.length}**`],
    ["**refresh tokens spent twice by us**", `**${report.spentTwice.length}**`],
    ["**waited longer than the slowest call plus 10 s**", `**${report.waitedTooLong.length}**`],
    ["**asked to sign in although the login was alive**", `**${report.wronglyAsked.length}**`],
    ["lost: holder killed in its call or before it had read the answer", report.killedInCall],
    ["lost: the answer never arrived", report.answerLost],
    [
      "apart: lost with an official client that was stopped or killed in its call, or had taken the lock over",
      report.officialDisturbed,
    ],
    ["apart: waited until Pi's lock, left by a killed program, was stale (30 s)", report.waitedForDeadLock],
    ["apart: tokens spent twice with the official client involved", report.officialSpentOurs],
    ...Object.entries(report.outcomes)
      .sort()
      .map(([name, count]): [string, number] => [`ended with: ${name}`, count]),
    [
      "apart: official clients that failed because one took over a living lock by its own clock",
      report.officialWrongClock,
    ],
    [
      "apart: official clients that failed because another was stopped beyond its lock's stale time",
      report.officialAfterStopped,
    ],
    [
      "apart: official clients that failed because a program of ours was stopped beyond that time",
      report.officialAfterOurs,
    ],
    ["**undisturbed official clients that failed otherwise**", `**${report.officialFailed.length}**`],
    ["longest wait of a program of ours", `${(report.longestWaitMs / 1000).toFixed(1)} s`],
  ];
  return ["| | |", "|---|---|", ...rows.map(([name, value]) => `| ${name} | ${value} |`)].join("\n");
}

if (process.argv[1] === import.meta.filename) {
  const { values } = parseArgs({
    options: {
      runs: { type: "string", default: "100" },
      seed: { type: "string", default: "1" },
      "at-once": { type: "string", default: "4" },
      "node-only": { type: "boolean", default: false },
    },
  });
  const report = await storm({
    runs: Number(values.runs),
    seed: Number(values.seed),
    atOnce: Number(values["at-once"]),
    nodeOnly: values["node-only"],
    report: (line) => console.error(line),
  });
  console.log(table(report));
  const bad = [report.lost, report.spentTwice, report.waitedTooLong, report.wronglyAsked, report.officialFailed].flat();
  for (const line of [...bad, ...report.apart, ...report.piErrors]) console.log(`* ${line}`);
  process.exit(bad.length > 0 ? 1 : 0);
}
