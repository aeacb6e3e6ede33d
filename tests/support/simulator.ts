/** Set-up shared by test files: one simulator per file, reset before each test, closed at the end. */
import { after, before, beforeEach } from "node:test";
import { type RequestRecord, type Simulator, type SimulatorOptions, startSimulator } from "../simulator/index.ts";
import { useOwnHome } from "./own-home.ts";

useOwnHome();

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

/**
 * The requests for answers so far. A test that counts or indexes requests of turns uses this, because the plan's limit may be asked
 * for in between: the slot of a turn is held until its response ends, and the next turn may begin before (docs/architecture.md#slots).
 */
export function answerRequests({ requests }: Simulator): RequestRecord[] {
  return requests.filter(({ endpoint }) => endpoint === "chat" || endpoint === "messages");
}
