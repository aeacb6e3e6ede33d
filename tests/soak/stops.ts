/**
 * `npm run stops [-- --streams 50]`
 *
 * Stops processes with healthy streams for 1 to 300 s and counts the streams that do not go on afterwards. Every process has its own
 * length of stop and keeps the default timeouts; heads and text arrive before, during and after the stop. Exits with 1 if a stream
 * was lost.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text as textOf } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { repeat } from "../simulator/scenario.ts";
import { type Simulator, startSimulator } from "../simulator/index.ts";
import { DIALECTS } from "../support/turn.ts";

/** How long a process is stopped, in seconds. */
const STOPS = [1, 2, 5, 10, 20, 45, 90, 150, 220, 300];

/** Text of a stream: chunks and chunks per second, 20 s in all. */
const [CHUNKS, PER_SECOND] = [40, 2];

/** Latest head of a stream, and latest beginning of the stop, in milliseconds. */
const LATEST_HEAD_MS = 6000;
const LATEST_STOP_MS = 20_000;

const { values: flags } = parseArgs({ options: { streams: { type: "string", default: "50" } } });
const streams = Number(flags.streams);

/** Runs a process, stops it once, and returns what became of its streams: text, or the error. */
async function stopped(simulator: Simulator, home: string, protocol: string, seconds: number): Promise<string[]> {
  const child = spawn(process.execPath, [join(import.meta.dirname, "stopped-streams.ts")], {
    env: {
      ...process.env,
      HOME: home,
      KIMI_CODE_PROTOCOL: protocol,
      STREAMS: JSON.stringify({ baseUrl: simulator.baseUrl, apiKey: simulator.apiKey, streams }),
    },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const output = textOf(child.stdout);
  const end = once(child, "close");
  await sleep(1000 + Math.random() * LATEST_STOP_MS);
  child.kill("SIGSTOP");
  await sleep(seconds * 1000);
  child.kill("SIGCONT");
  await end;
  return JSON.parse(await output) as string[];
}

const simulator = await startSimulator({ identityGate: "off" });
const home = mkdtempSync(join(tmpdir(), "kimi-stops-"));
try {
  for (let count = streams * STOPS.length; count > 0; count -= 1) {
    const headersDelayMs = Math.random() * LATEST_HEAD_MS;
    simulator.enqueue({ headersDelayMs, steps: [repeat("text", CHUNKS, "word ", PER_SECOND)] });
  }
  const whole = "word ".repeat(CHUNKS);
  const rows = await Promise.all(
    STOPS.map(async (seconds, at) => {
      const protocol = DIALECTS[at % DIALECTS.length] as string;
      const ends = await stopped(simulator, home, protocol, seconds);
      return { seconds, protocol, ends, lost: ends.filter((end) => end !== whole) };
    }),
  );
  console.log("| stopped for | dialect | streams | lost |\n|---:|---|---:|---:|");
  for (const { seconds, protocol, ends, lost } of rows) {
    console.log(`| ${seconds} s | ${protocol} | ${ends.length} | ${lost.length} |`);
    for (const end of lost) console.error(end.slice(0, 200));
  }
  process.exitCode = rows.some(({ lost }) => lost.length > 0) ? 1 : 0;
} finally {
  rmSync(home, { recursive: true, force: true });
  await simulator.close();
}
