/**
 * Registers Kimi's own tools in Pi and activates those that the settings enable.
 *
 * A tool is registered when it is enabled for the first time, so that a disabled one never reaches a prompt or the list of
 * another extension. Disabled again, it stays registered but inactive. A change of the active tools invalidates the prompt
 * cache, so only real changes are passed to Pi.
 */
import { tmpdir } from "node:os";
import type { ExtensionAPI, ToolDefinition } from "@earendil-works/pi-coding-agent";
import type { PiCredentials } from "../credential.ts";
import { lazyImport } from "../lazy.ts";
import type { AddonQueries } from "../queries.ts";
import type { KimiServices } from "../services.ts";
import type { ToolParts } from "./render.ts";

/** The settings of one tool. */
export interface ToolSetting {
  enabled: boolean;
  /** Results start collapsed on the screen. The model always gets the whole result. */
  default_collapsed: boolean;
}

/** Settings by tool name; a tool without settings is disabled. */
export type ToolSettings = Readonly<Record<string, ToolSetting | undefined>>;

const NAMES = ["moonshot_search", "moonshot_fetch", "kimi_datasource"];

/** The tools of one extension. */
export class KimiTools {
  readonly #pi: ExtensionAPI;
  readonly #services: () => Promise<KimiServices>;
  readonly #credentials: PiCredentials;
  readonly #registered = new Set<string>();
  #definitions: ToolDefinition[] | undefined;
  #settings: ToolSettings = {};
  /** The last change, which the next one waits for. */
  #last: Promise<void> = Promise.resolve();

  constructor(pi: ExtensionAPI, services: () => Promise<KimiServices>, credentials: PiCredentials) {
    this.#pi = pi;
    this.#services = services;
    this.#credentials = credentials;
  }

  /** Applies settings to the running session, one change after the other. Do not call it before `session_start`. */
  apply(settings: ToolSettings): Promise<void> {
    this.#settings = settings;
    const done = this.#last.then(() => this.#apply());
    this.#last = done.catch(() => undefined);
    return done;
  }

  async #apply(): Promise<void> {
    const isWanted = (name: string): boolean => this.#settings[name]?.enabled === true;
    // Without enabled tools their code is not loaded.
    if (!NAMES.some(isWanted) && this.#registered.size === 0) return;
    this.#definitions ??= await this.#define();
    // The settings may have changed while the code was loaded.
    const wanted = NAMES.filter(isWanted);
    for (const definition of this.#definitions) {
      if (!wanted.includes(definition.name) || this.#registered.has(definition.name)) continue;
      this.#registered.add(definition.name);
      this.#pi.registerTool(definition);
    }
    const before = this.#pi.getActiveTools();
    const after = before.filter((name) => !this.#registered.has(name) || wanted.includes(name));
    after.push(...wanted.filter((name) => !after.includes(name)));
    if (after.length !== before.length || after.some((name, index) => name !== before[index])) {
      this.#pi.setActiveTools(after);
    }
  }

  async #define(): Promise<ToolDefinition[]> {
    const services = await this.#services();
    const { piParts } = await lazyImport(() => import("./pi-helpers.ts"));
    const { searchTool } = await lazyImport(() => import("./search.ts"));
    const { fetchTool } = await lazyImport(() => import("./fetch.ts"));
    const { datasourceTool } = await lazyImport(() => import("./datasource.ts"));
    const parts = await piParts();
    const shared: ToolParts = {
      services,
      parts,
      collapsed: (name) => this.#settings[name]?.default_collapsed ?? true,
      session: async ({ modelRegistry }) => {
        // Pi refreshes an expiring login here, under its lock.
        const { apiKey, ...addresses } = await this.#credentials.current({ modelRegistry });
        const limit = { bytes: parts.maxBytes, lines: parts.maxLines, directory: tmpdir() };
        return { credential: apiKey, ...addresses, limit };
      },
    };
    return [searchTool(shared), fetchTool(shared), datasourceTool(shared)];
  }
}

/** Makes the tools follow the settings during each session. */
export function registerTools(
  pi: ExtensionAPI,
  queries: AddonQueries,
  services: () => Promise<KimiServices>,
  credentials: PiCredentials,
): void {
  const tools = new KimiTools(pi, services, credentials);
  let leave = (): void => undefined;
  pi.on("session_start", async (_event, context) => {
    const follow = async (settings = (): ToolSettings => queries.settings().settings.tools): Promise<void> => {
      try {
        await tools.apply(settings());
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        context.ui.notify(`Kimi's tools could not be switched: ${reason}`, "warning");
      }
    };
    leave();
    leave = queries.onChange((settings) => void follow(() => settings.tools));
    await follow();
  });
  // Pi's objects throw after the end of their session.
  pi.on("session_shutdown", () => leave());
}
