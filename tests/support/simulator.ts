/** Set-up shared by test files: one simulator per file, reset before each test, closed at the end. */
import { after, before, beforeEach } from "node:test";
import { type Simulator, type SimulatorOptions, startSimulator } from "../simulator/index.ts";

/** Starts a simulator for the tests of this file and passes it on. */
export function withSimulator(use: (simulator: Simulator) => void, options: SimulatorOptions = {}): void {
  let simulator: Simulator;
  before(async () => {
    simulator = await startSimulator(options);
    use(simulator);
  });
  beforeEach(() => simulator.reset());
  after(() => simulator.close());
}
