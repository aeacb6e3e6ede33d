/**
 * Shares one simulator per test file, and gives each test a new home. Every Pi of a test ends with it.
 */
import { after, afterEach, before, beforeEach } from "node:test";
import { type Simulator, startSimulator } from "../simulator/index.ts";
import { Home, type PiOptions, RpcPi } from "./pi.ts";

/** Starts a Pi in RPC mode that ends with the test. */
export type Opener = (args: string[], options: PiOptions) => RpcPi;

/** Passes simulator and home to each test; returns the function that opens a Pi. */
export function withPi(use: (simulator: Simulator, home: Home) => void): Opener {
  let simulator: Simulator;
  let home: Home;
  const open: RpcPi[] = [];
  before(async () => {
    simulator = await startSimulator();
  });
  after(() => simulator.close());
  beforeEach(() => {
    simulator.reset();
    home = new Home();
    use(simulator, home);
  });
  afterEach(async () => {
    await Promise.all(open.splice(0).map((pi) => pi.close()));
    await simulator.quiet();
    home.remove();
  });
  return (args, options) => {
    const pi = new RpcPi(args, options);
    open.push(pi);
    return pi;
  };
}
