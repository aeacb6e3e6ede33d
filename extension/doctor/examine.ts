/**
 * Examines this machine. The addon checks settings, logins and the service; what only JavaScript can see is added here: whether the
 * addon loads, versions, and the packages that Pi loads.
 */
import { agentDirectory } from "../agent-directory.ts";
import { type ExtensionEnvironment, host } from "../environment.ts";
import { parseAnswer, requestText } from "../native/call.ts";
import { loadAddon } from "../native/loader.ts";
import { platformName } from "../native/platform.ts";
import type { Credential } from "../queries.ts";
import { isAtLeast, OLDEST_NODE, OLDEST_PI } from "../versions.ts";
import { installedPi, providerPackages, type ProviderPackage } from "./pi-packages.ts";

/** One line of a report. */
export interface DoctorCheck {
  /** Stable name, for example `connection.dns`. */
  id: string;
  status: "ok" | "warning" | "fault";
  message: string;
  /** The command or setting that cures it. */
  cure?: string;
}

export interface DoctorReport {
  /** Neither warnings nor faults. */
  ok: boolean;
  checks: DoctorCheck[];
}

/** What is examined, and as whom. */
export interface Examination {
  /** Version of the Pi that asks. Without it, the Pi on the PATH is looked for. */
  piVersion?: string | undefined;
  credential?: Credential;
  extensionEnvironment?: ExtensionEnvironment | undefined;
  /** Sends a tiny request to a model. */
  live?: boolean;
}

/** Runs all checks. Takes at most 3 seconds, with `live` as long as the model needs. */
export async function examine(examination: Examination): Promise<DoctorReport> {
  const loaded = loadAddon();
  const checks: DoctorCheck[] = [];
  if (loaded.addon === undefined) {
    const message = loaded.problem.replace(` ${loaded.repair}`, "").replaceAll("\n", " ");
    checks.push({ id: "addon", status: "fault", message, cure: loaded.repair.replace(/^.*?Repair: /, "") });
  } else {
    checks.push({ id: "addon", status: "ok", message: `version ${loaded.addon.version()} for ${platformName()}` });
  }
  checks.push(runtime(), pi(examination.piVersion), packages());
  if (loaded.addon !== undefined) checks.push(...(await askAddon(loaded.addon, examination)));
  return { ok: checks.every(({ status }) => status === "ok"), checks };
}

async function askAddon(
  addon: { doctor(request: string, live: boolean): Promise<string> },
  { piVersion, credential = {}, extensionEnvironment, live = false }: Examination,
): Promise<DoctorCheck[]> {
  const request = requestText({ host: host(piVersion), extensionEnvironment }, credential);
  try {
    return parseAnswer<{ checks: DoctorCheck[] }>(await addon.doctor(request, live)).checks;
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    return [{ id: "doctor", status: "fault", message, cure: "Report this as a bug, with this line" }];
  }
}

function runtime(): DoctorCheck {
  const bun = process.versions["bun"];
  if (bun !== undefined) return { id: "node", status: "ok", message: `Bun ${bun}` };
  const message = `Node ${process.versions.node}`;
  if (isAtLeast(process.versions.node, ...OLDEST_NODE)) return { id: "node", status: "ok", message };
  const cure = `Install Node ${OLDEST_NODE.join(".")} or newer; Pi itself needs 22.19`;
  return { id: "node", status: "fault", message: `${message} is too old`, cure };
}

function pi(running: string | undefined): DoctorCheck {
  const version = running ?? installedPi();
  if (version === undefined) return { id: "pi", status: "ok", message: "Pi is not on the PATH" };
  if (isAtLeast(version, ...OLDEST_PI)) return { id: "pi", status: "ok", message: `Pi ${version}` };
  return {
    id: "pi",
    status: "fault",
    message: `Pi ${version} is too old for this package`,
    cure: "Update Pi: `npm install -g @earendil-works/pi-coding-agent`",
  };
}

/** Reports several packages that provide Kimi Code, for example the TypeScript extension beside this one. */
function packages(): DoctorCheck {
  const found = providerPackages(agentDirectory());
  const shown = ({ source, version }: ProviderPackage): string =>
    version === undefined ? source : `${source} (${version})`;
  const [first, ...others] = found;
  if (first === undefined) return { id: "packages", status: "ok", message: "Pi's settings name no Kimi provider" };
  // The oldest is the one to remove.
  const old = found.toSorted((a, b) => major(a) - major(b))[0] ?? first;
  const cure = old.removal ?? `Run \`pi remove ${old.source}\``;
  if (others.length > 0) {
    const message = `Pi loads several providers for Kimi Code, and only one can be kimi-coding: ${found.map(shown).join(", ")}`;
    return { id: "packages", status: "fault", message, cure };
  }
  if (major(first) < 1) {
    const message = `Pi loads the TypeScript extension: ${shown(first)}`;
    return {
      id: "packages",
      status: "warning",
      message,
      cure: `${cure}, then run \`pi install npm:pi-provider-kimi-code\``,
    };
  }
  return { id: "packages", status: "ok", message: `Pi loads ${shown(first)}` };
}

function major({ version }: ProviderPackage): number {
  return Number(version?.split(".")[0] ?? 0);
}
