/**
 * `kill -9` at random points of a refresh: no login may be lost, and no lock left behind may block anybody.
 *
 * `node tests/kill-storm.ts 1000` runs as many rounds; `tests/auth-kill.test.ts` runs a few. Each round starts a program
 * that has to refresh, kills it at a random moment, and looks at the files. The one thing no client can survive is
 * dying while the answer with the new token is on the wire, because the service has then spent the old one: such rounds are
 * counted separately (`unsaveable`), proven by the service having sent an answer that nobody was alive to read.
 */
import { existsSync, readdirSync, utimesSync } from "node:fs";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Simulator, startSimulator } from "./simulator/index.ts";
import { Machine } from "./support/account.ts";

export interface Storm {
  rounds: number;
  /** Killed before the program was through. */
  killed: number;
  /** Files that could not be read, or held a login the service no longer knows, through our fault. */
  lost: number;
  unsaveable: number;
  /** A successor found what had been written but not put in place. */
  recovered: number;
  reuses: number;
  /** Kimi's lock directory was there after the kill. */
  locksLeft: number;
  temporaryFilesLeft: number;
}

export async function killStorm(rounds: number): Promise<Storm> {
  const simulator = await startSimulator();
  simulator.setDefault({ steps: [{ text: "ok" }] });
  simulator.oauth.tokenDelayMs = 20;
  const storm = {
    rounds,
    killed: 0,
    lost: 0,
    unsaveable: 0,
    recovered: 0,
    reuses: 0,
    locksLeft: 0,
    temporaryFilesLeft: 0,
  };
  let life = 0;
  for (let round = -2; round < rounds; round += 1) {
    const machine = new Machine(simulator);
    const login = simulator.oauth.login();
    machine.kimiLogin(login, -5);
    if (round % 2 === 0) machine.piLogin(login, -5);
    const started = Date.now();
    const seen = simulator.requests.length;
    let pid = 0;
    const state = { over: false };
    const turn = machine.nodeTurn({ started: (started) => (pid = started) });
    const kill = async (): Promise<void> => {
      // The first two rounds show how long a program lives; then half of the kills fall anywhere, half around the refresh.
      if (round < 0) return;
      if (round % 4 < 2) await sleep(life * Math.random());
      else {
        while (simulator.requests.length === seen && !state.over) await sleep(1);
        await sleep(Math.random() * 60);
      }
      if (state.over) return;
      storm.killed += 1;
      process.kill(pid, "SIGKILL");
    };
    const killing = kill();
    const { text } = await turn;
    state.over = true;
    if (text === "ok") life = Math.max(life, Date.now() - started);
    await killing;
    // A refresh that was on its way when the program died is finished by the service.
    await sleep(40);
    storm.reuses += simulator.oauth.reuses;
    if (!alive(simulator, machine, round)) {
      const before = machine.kimi?.refresh_token;
      // A successor may finish what the dead one had written. It need not wait here until the locks are stale.
      for (const lock of [machine.lockPath, `${machine.authPath}.lock`]) if (existsSync(lock)) utimesSync(lock, 1, 1);
      const { text: next } = await machine.nodeTurn();
      if (next === "ok") storm.recovered += 1;
      // The files are whole and hold the login from before: the answer never reached a living program.
      else if (before === login.refresh) storm.unsaveable += 1;
      else storm.lost += 1;
      simulator.oauth.reuses = 0;
    }
    storm.temporaryFilesLeft += readdirSync(dirname(machine.kimiPath)).length - 1;
    if (existsSync(machine.lockPath)) storm.locksLeft += 1;
    machine.remove();
  }
  await simulator.close();
  return storm;
}

/** Whether any file still holds a login that the service knows. */
function alive({ oauth }: Simulator, machine: Machine, round: number): boolean {
  const { kimi } = machine;
  if (kimi !== undefined && oauth.isAlive(kimi.refresh_token)) return true;
  return round % 2 === 0 && oauth.isAlive(machine.pi?.refresh ?? "");
}

if (process.argv[1] === import.meta.filename) {
  console.log(await killStorm(Number(process.argv[2] ?? 1000)));
}
