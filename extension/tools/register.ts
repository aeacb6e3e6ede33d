/**
 * Registers Kimi's own tools in Pi and activates those that the settings enable.
 *
 * A tool is registered when it is enabled for the first time, so that a disabled one never reaches a prompt or the list of
 * another extension. Disabled again, it stays registered but inactive. A change of the active tools invalidates the prompt
 * cache, so only real changes are passed to Pi.
 */
import { tmpdir } from "node:os";
import type { ExtensionAPI, ExtensionContext, ToolDefinition } from "@earendil-works/pi-coding-agent";
import type { PiCredentials } from "../credential.ts";
import { lazyImport } from "../lazy.ts";
import type { MediaFiles } from "../media/files.ts";
import { takesMedia } from "../models.ts";
import type { PiModules } from "../pi-modules.ts";
import type { AddonQueries } from "../queries.ts";
import type { KimiServices } from "../services.ts";
import type { ToolParts } from "./render.ts";

/** The settings of one tool. */
export interface ToolSetting {
  enabled: boolean;
  /** Results start collapsed on the screen. The model always gets the whole result. */
  default_collapsed: boolean;
  /** `deferred`: found by Pi's tool_search instead of declared in every request. Pi before 1.3 ignores it. */
  exposure: "direct" | "deferred";
}

/** The tool that is offered only while the selected model takes media. */
const READ_MEDIA = "kimi_read_media";

/** Settings by tool name; a tool without settings is disabled. */
export type ToolSettings = Readonly<Record<string, ToolSetting | undefined>>;

const NAMES = ["moonshot_search", "moonshot_fetch", "kimi_datasource", READ_MEDIA];

/** What the tools work with; each part is made when a tool is enabled. */
export interface ToolSources {
  services(): Promise<KimiServices>;
  mediaFiles(): Promise<MediaFiles>;
  credentials: PiCredentials;
  /** Pi's packages, for what the tools show. */
  modules: Pick<PiModules, "agent" | "tui">;
}

/** The tools of one extension. */
export class KimiTools {
  readonly #pi: ExtensionAPI;
  readonly #sources: ToolSources;
  /** How each tool was registered last. */
  readonly #registered = new Map<string, "direct" | "deferred" | "hidden">();
  #definitions: ToolDefinition[] | undefined;
  #settings: ToolSettings = {};
  #modelTakesMedia = false;
  /** The last change, which the next one waits for. */
  #last: Promise<void> = Promise.resolve();

  constructor(pi: ExtensionAPI, sources: ToolSources) {
    this.#pi = pi;
    this.#sources = sources;
  }

  /** Applies settings to the running session, one change after the other. Do not call it before `session_start`. */
  apply(settings: ToolSettings, modelTakesMedia: boolean): Promise<void> {
    this.#settings = settings;
    this.#modelTakesMedia = modelTakesMedia;
    const done = this.#last.then(() => this.#apply());
    this.#last = done.catch(() => undefined);
    return done;
  }

  async #apply(): Promise<void> {
    const isWanted = (name: string): boolean =>
      this.#settings[name]?.enabled === true && (name !== READ_MEDIA || this.#modelTakesMedia);
    // Without enabled tools their code is not loaded.
    if (!NAMES.some(isWanted) && this.#registered.size === 0) return;
    this.#definitions ??= await this.#define();
    // The settings may have changed while the code was loaded.
    const wanted = NAMES.filter(isWanted);
    const exposures = knowsExposure(this.#pi) ? this.#settings : {};
    for (const definition of this.#definitions) {
      const { name } = definition;
      const before = this.#registered.get(name);
      // A deferred tool stays callable from scripts until it is hidden; a direct one is not once it is inactive.
      const exposure = wanted.includes(name)
        ? (exposures[name]?.exposure ?? "direct")
        : before === "direct"
          ? before
          : "hidden";
      if (before === exposure || (before === undefined && exposure === "hidden")) continue;
      this.#registered.set(name, exposure);
      this.#pi.registerTool(exposure === "direct" ? definition : withExposure(definition, exposure));
    }
    const direct = wanted.filter((name) => this.#registered.get(name) === "direct");
    const before = this.#pi.getActiveTools();
    // A deferred tool that was found is active too, and stays so.
    const after = before.filter((name) => !this.#registered.has(name) || wanted.includes(name));
    after.push(...direct.filter((name) => !after.includes(name)));
    if (after.length !== before.length || after.some((name, index) => name !== before[index])) {
      this.#pi.setActiveTools(after);
    }
  }

  async #define(): Promise<ToolDefinition[]> {
    const services = await this.#sources.services();
    const mediaFiles = await this.#sources.mediaFiles();
    const { piParts } = await lazyImport(() => import("./pi-helpers.ts"));
    const { searchTool } = await lazyImport(() => import("./search.ts"));
    const { fetchTool } = await lazyImport(() => import("./fetch.ts"));
    const { datasourceTool } = await lazyImport(() => import("./datasource.ts"));
    const { mediaTool } = await lazyImport(() => import("./media.ts"));
    const parts = piParts(this.#sources.modules);
    const shared: ToolParts = {
      services,
      parts,
      collapsed: (name) => this.#settings[name]?.default_collapsed ?? true,
      session: async ({ modelRegistry }) => {
        // Pi refreshes an expiring login here, under its lock.
        const { apiKey, ...addresses } = await this.#sources.credentials.current({ modelRegistry });
        const limit = { bytes: parts.maxBytes, lines: parts.maxLines, directory: tmpdir() };
        return { credential: apiKey, ...addresses, limit };
      },
    };
    return [searchTool(shared), fetchTool(shared), datasourceTool(shared), mediaTool(shared, mediaFiles)];
  }
}

/** Returns whether this version of Pi lets a tool choose how the model reaches it. */
function knowsExposure(pi: ExtensionAPI): boolean {
  return pi.getAllTools().some((tool) => "exposure" in tool);
}

/** Adds a member that the types of Pi before 1.3 do not have. */
function withExposure(definition: ToolDefinition, exposure: "deferred" | "hidden"): ToolDefinition {
  const exposed: ToolDefinition & { exposure?: typeof exposure } = { ...definition, exposure };
  return exposed;
}

/** Makes the tools follow settings and model during each session. */
export function registerTools(pi: ExtensionAPI, queries: AddonQueries, sources: ToolSources): void {
  const tools = new KimiTools(pi, sources);
  let leave = (): void => undefined;
  /** Counts the starts and ends of sessions. */
  let sessions = 0;
  /** The last change of settings. */
  let switched = Promise.resolve();
  const follow = async (
    context: ExtensionContext,
    model: ExtensionContext["model"],
    settings?: ToolSettings,
  ): Promise<void> => {
    const begun = sessions;
    try {
      await tools.apply(settings ?? queries.settings().settings.tools, takesMedia(model));
    } catch (error) {
      // Pi's objects throw after the end of their session, which may come while the tools are loaded. The next one begins anew.
      if (begun !== sessions) return;
      const reason = error instanceof Error ? error.message : String(error);
      context.ui.notify(`Kimi's tools could not be switched: ${reason}`, "warning");
    }
  };
  pi.on("session_start", async (_event, context) => {
    leave();
    sessions += 1;
    leave = queries.onChange((settings) => {
      switched = follow(context, context.model, settings.tools);
    });
    await follow(context, context.model);
  });
  // A change that the start of a turn has brought (session-settings.ts) counts in its first request.
  pi.on("before_agent_start", () => switched);
  pi.on("model_select", ({ model }, context) => follow(context, model));
  pi.on("session_shutdown", () => {
    leave();
    sessions += 1;
  });
}
