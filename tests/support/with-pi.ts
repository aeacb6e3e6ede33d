/** Set-up shared by tests of real Pi: one simulator per file, and per test a fresh home whose Pi processes end with it. */
import { afterEach, beforeEach } from "node:test";
import type { Simulator } from "../simulator/index.ts";
import { Home, type PiOptions, RpcPi } from "./pi.ts";
import { withSimulator } from "./simulator.ts";

/** Starts a Pi in RPC mode that ends with the test. */
export type Opener = (args: string[], options: PiOptions) => RpcPi;

/** Gives each test its simulator and home; returns a function that starts a Pi. */
export function withPi(use: (simulator: Simulator, home: Home) => void): Opener {
  let simulator: Simulator;
  let home: Home;
  const open: RpcPi[] = [];
  withSimulator((given) => (simulator = given));
  beforeEach(() => {
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
