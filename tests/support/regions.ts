/** Both regions under their official names, each a simulator of its own. */
import { after, before, beforeEach } from "node:test";
import { type Simulator, startSimulator } from "../simulator/index.ts";
import { mapOfficialHosts, OFFICIAL, type OfficialHosts, type RegionId } from "../simulator/official-hosts.ts";

export const REGIONS = ["mainland-cn", "global"] as const;

export type Simulators = Record<RegionId, Simulator>;

/** Starts both regions for the tests of a file. Before each test nothing has been asked, and every prompt has the region's answer. */
export function withRegions(
  answer: (region: RegionId) => string,
  started: (simulators: Simulators, hosts: OfficialHosts) => void,
): void {
  let simulators: Simulators;
  let hosts: OfficialHosts;
  before(async () => {
    simulators = { "mainland-cn": await startSimulator(), global: await startSimulator() };
    hosts = await mapOfficialHosts(simulators);
    started(simulators, hosts);
  });
  after(async () => {
    await hosts.close();
    for (const region of REGIONS) await simulators[region].close();
  });
  beforeEach(() => {
    for (const region of REGIONS) {
      simulators[region].reset();
      simulators[region].setDefault({ steps: [{ text: answer(region) }] });
    }
    hosts.asked.length = 0;
  });
}

/** Returns the hosts that were asked and do not belong to this region. */
export function askedElsewhere({ asked }: OfficialHosts, region: RegionId): string[] {
  const names: readonly string[] = Object.values(OFFICIAL[region]);
  return asked.filter((host) => !names.includes(host));
}
