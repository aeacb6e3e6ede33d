/**
 * Kimi's own tools in Pi: which there are, and which of them the model may use now.
 *
 * A tool that was never enabled is never registered, so that nothing of it reaches a prompt or another extension's list. One
 * that is switched off again stays registered, but inactive. Every change of the active tools costs the prompt cache,
 * hence only a real change is passed on.
 */
import { tmpdir } from "node:os";
import type { ExtensionAPI, ToolDefinition } from "@earendil-works/pi-coding-agent";
import { lazyImport } from "../lazy.ts";
import type { AddonQueries } from "../queries.ts";
import type { KimiServices } from "../services.ts";
import type { ToolParts } from "./render.ts";

export interface ToolSetting {
  enabled: boolean;
  /** The screen shows a preview until it is expanded; the model always gets everything. */
  default_collapsed: boolean;
}

/** By tool name; a tool that is not named is off. */
export type ToolSettings = Readonly<Record<string, ToolSetting | undefined>>;

const NAMES = ["moonshot_search", "moonshot_fetch", "kimi_datasource"];

export class KimiTools {
  readonly #pi: ExtensionAPI;
  readonly #services: () => Promise<KimiServices>;
  readonly #providerId: string;
  readonly #registered = new Set<string>();
  #definitions: ToolDefinition[] | undefined;
  #settings: ToolSettings = {};
  /** The change under way. */
  #last: Promise<void> = Promise.resolve();

  constructor(pi: ExtensionAPI, services: () => Promise<KimiServices>, providerId: string) {
    this.#pi = pi;
    this.#services = services;
    this.#providerId = providerId;
  }

  /** Makes the running session follow the settings, one change after the other. Not to be called before `session_start`. */
  apply(settings: ToolSettings): Promise<void> {
    this.#settings = settings;
    const done = this.#last.then(() => this.#apply());
    this.#last = done.catch(() => undefined);
    return done;
  }

  async #apply(): Promise<void> {
    const isWanted = (name: string): boolean => this.#settings[name]?.enabled === true;
    // Who uses none of this pays for none of it.
    if (!NAMES.some(isWanted) && this.#registered.size === 0) return;
    this.#definitions ??= await this.#define();
    // The settings may have changed while the tools were loaded.
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
        // Pi refreshes a login on this occasion, under its own lock.
        const auth = (await modelRegistry.getProviderAuth?.(this.#providerId))?.auth;
        const limit = { bytes: parts.maxBytes, lines: parts.maxLines, directory: tmpdir() };
        return { credential: auth?.apiKey, baseUrl: auth?.baseUrl, limit };
      },
    };
    return [searchTool(shared), fetchTool(shared), datasourceTool(shared)];
  }
}

/** The tools follow the settings from the start of a session to its end. */
export function registerTools(
  pi: ExtensionAPI,
  queries: AddonQueries,
  services: () => Promise<KimiServices>,
  providerId: string,
): void {
  const tools = new KimiTools(pi, services, providerId);
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
  // Pi's objects of a session that is over refuse to be used.
  pi.on("session_shutdown", () => leave());
}
