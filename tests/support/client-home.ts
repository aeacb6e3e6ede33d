/** Set-up of tests of the client for Node programs. */
import { after, before } from "node:test";
import type { Simulator } from "../simulator/index.ts";
import { Home } from "./pi.ts";
import { withSimulator } from "./simulator.ts";

/**
 * Registers a simulator, which each test finds empty, and a home that the process environment names. The identity gate of the
 * service accepts known agents only, so it is off. Call it before hooks that use the simulator.
 */
export function withClientHome(use: (simulator: Simulator) => void): Home {
  const home = new Home();
  before(() => {
    Object.assign(process.env, { HOME: home.home, USERPROFILE: home.home, PI_CODING_AGENT_DIR: home.agent });
  });
  withSimulator(use, { identityGate: "off" });
  after(() => home.remove());
  return home;
}
