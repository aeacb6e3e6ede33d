/** Pi's packages, as the extension gets them. */

export interface PiModules {
  piAi: typeof import("@earendil-works/pi-ai");
  agent: typeof import("@earendil-works/pi-coding-agent");
  tui: typeof import("@earendil-works/pi-tui");
}

/** Imports them. Dynamically, because Node programs load our files without Pi. */
export type ImportPi = () => Promise<PiModules>;
