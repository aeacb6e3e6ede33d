/**
 * Decides which tests run in which versions of Pi. npm/test.mjs reads this table.
 *
 * Tests run in every version where Pi's own code decides the outcome and has changed between versions: composing providers,
 * running modes, drawing screens, declaring tools. They run in one version where our code decides it and Pi is only the way in.
 */
export interface MatrixRow {
  /** Test file, relative to tests/. */
  file: string;
  versions: "all" | "one";
  reason: string;
}

export const MATRIX: readonly MatrixRow[] = [
  { file: "pi/headless.test.ts", versions: "all", reason: "print, JSON and RPC mode, hooks and reload are Pi's" },
  {
    file: "pi/media.test.ts",
    versions: "all",
    reason: "prompts, sessions and tools are Pi's; each version inlines files",
  },
  { file: "pi/models-json.test.ts", versions: "all", reason: "each version composes models.json in another way" },
  { file: "pi/models.test.ts", versions: "all", reason: "Pi chooses model and level before our first request" },
  { file: "pi/preconnect.test.ts", versions: "all", reason: "Pi tells which keys are typed" },
  { file: "pi/provider.test.ts", versions: "all", reason: "pins what each version asks our provider object for" },
  { file: "pi/regions.test.ts", versions: "all", reason: "dialogs, and `pi auth login`, are Pi's" },
  { file: "pi/subagent.test.ts", versions: "all", reason: "the example comes with Pi" },
  { file: "install/tarball.test.ts", versions: "all", reason: "Pi's own installer reads the specifier" },
  {
    file: "install/npm.test.ts",
    versions: "one",
    reason: "what is published is ours; tarball.test.ts installs everywhere",
  },
  { file: "pi/rows.test.ts", versions: "all", reason: "one short test for each thing that users do" },
  { file: "pi/cache.test.ts", versions: "one", reason: "the records are ours; Pi shows a text and asks one question" },
  { file: "pi/warmer.test.ts", versions: "one", reason: "runs the newest complete version, whatever the run's is" },
  { file: "pi/tui.test.ts", versions: "all", reason: "the screen was rewritten in 1.0" },
  { file: "pi/waiting.test.ts", versions: "all", reason: "working line and footer are Pi's" },
  { file: "pi/loop.test.ts", versions: "all", reason: "hooks around tools, and what ends a run, are Pi's" },
  { file: "pi/many-agents.test.ts", versions: "one", reason: "who waits is decided by the addon" },
  { file: "pi/browser.test.ts", versions: "all", reason: "whether Pi opens the browser itself depends on the version" },
  { file: "pi/trust.test.ts", versions: "all", reason: "each version decides about trust in its own code" },
  { file: "auth/pi.test.ts", versions: "one", reason: "refresh and locks are ours; rows.test.ts signs in everywhere" },
  { file: "auth/regions.test.ts", versions: "one", reason: "regions are chosen by the addon" },
  { file: "auth/interop.test.ts", versions: "one", reason: "is about the official client" },
  {
    file: "chat/stream-pi.test.ts",
    versions: "one",
    reason: "compares events with Pi's own types; headless covers the rest",
  },
  {
    file: "doctor/report.test.ts",
    versions: "one",
    reason: "the doctor is ours; Pi shows its text and asks one question",
  },
  { file: "faults/reliability-pi.test.ts", versions: "one", reason: "faults are of the service and the network" },
  { file: "files/pi.test.ts", versions: "one", reason: "uploads are ours; rows.test.ts sends an image everywhere" },
  { file: "files/large-video.test.ts", versions: "one", reason: "memory and uploads are ours" },
  { file: "plan/costs-pi.test.ts", versions: "one", reason: "costs and advice are ours; Pi shows a status line" },
  { file: "plan/pi.test.ts", versions: "one", reason: "parking is ours; Pi only shows a dialog and its status line" },
  { file: "security/secrets.test.ts", versions: "one", reason: "looks for credentials in what we write" },
  { file: "services/pi.test.ts", versions: "one", reason: "answers are ours; rows.test.ts calls the tools everywhere" },
  {
    file: "services/tui.test.ts",
    versions: "one",
    reason: "rendering is ours; rows.test.ts shows the tools everywhere",
  },
  { file: "settings/screen.test.ts", versions: "one", reason: "the screen is ours; rows.test.ts opens it everywhere" },
  { file: "settings/settings.test.ts", versions: "one", reason: "settings are read by the addon" },
];
