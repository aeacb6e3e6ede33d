/**
 * Runs one load in a process of its own: `child.ts streams 64 600` prints a line of JSON. The service comes from the environment.
 */
import { aborts, streams, turns, workers } from "./loads.ts";

const LOADS = { streams, turns, aborts, workers };
const [name = "", ...numbers] = process.argv.slice(2);
const load = LOADS[name as keyof typeof LOADS] as (...numbers: number[]) => Promise<unknown>;
process.stdout.write(`${JSON.stringify(await load(...numbers.map(Number)))}\n`);
