/**
 * Runs turns for the provider. Their code (turn.ts) is loaded after Pi's first frame, or by the first turn if that is earlier.
 */
import type { AssistantMessageEventStream, Model, SimpleStreamOptions, TranscriptContext } from "@earendil-works/pi-ai";
import type { ExtensionEnvironment, Host } from "../environment.ts";
import type { Priority } from "../priority.ts";
import { lazyImport } from "../lazy.ts";
import type { Addon } from "../native/addon.ts";
import { emptyMessage } from "./empty-message.ts";
import type { NoticePlace, Notices, StatusLine } from "./notices.ts";
import type { runTurn } from "./turn.ts";

interface LoadedTurn {
  runTurn: typeof runTurn;
  notices: Notices;
}

/** The turns of one extension. */
export class TurnRunner {
  readonly #addon: Addon;
  readonly #host: Host;
  readonly #extensionEnvironment: ExtensionEnvironment;
  #loaded: LoadedTurn | undefined;
  #line: [StatusLine, NoticePlace] | undefined;
  /** Priority of the session's requests. */
  priority: Priority = "batch";
  /** Returns why a request is not sent but answered with an error. */
  refusal: (context: TranscriptContext) => string | undefined = () => undefined;

  constructor(addon: Addon, host: Host, extensionEnvironment: ExtensionEnvironment) {
    this.#addon = addon;
    this.#host = host;
    this.#extensionEnvironment = extensionEnvironment;
  }

  /** Sets the status line of the session. */
  attach(line: StatusLine, place: NoticePlace): void {
    this.#line = [line, place];
    this.#loaded?.notices.attach(line, place);
  }

  /** Loads the code of turns. */
  async load(): Promise<LoadedTurn> {
    if (this.#loaded === undefined) {
      const { runTurn } = await lazyImport(() => import("./turn.ts"));
      const { Notices } = await lazyImport(() => import("./notices.ts"));
      this.#loaded ??= { runTurn, notices: new Notices() };
      if (this.#line !== undefined) this.#loaded.notices.attach(...this.#line);
    }
    return this.#loaded;
  }

  /** Runs one turn, whose events go to `events`. */
  run(
    events: AssistantMessageEventStream,
    model: Model<string>,
    context: TranscriptContext,
    options: SimpleStreamOptions = {},
  ): void {
    const fail = (errorMessage: string): void => {
      events.push({
        type: "error",
        reason: "error",
        error: { ...emptyMessage(model), stopReason: "error", errorMessage },
      });
      events.end();
    };
    const refusal = this.refusal(context);
    if (refusal !== undefined) return fail(refusal);
    const env = this.#extensionEnvironment.variables(options.env) as Record<string, string>;
    const given = { ...options, env, priority: this.priority };
    const start = ({ runTurn, notices }: LoadedTurn): void => {
      runTurn(this.#addon, this.#host, events, model, context, given, notices);
    };
    if (this.#loaded !== undefined) return start(this.#loaded);
    this.load()
      .then(start)
      .catch((error: unknown) => {
        const reason = error instanceof Error ? error.message : String(error);
        fail(`Kimi Code could not be loaded, after an update please restart Pi: ${reason}`);
      });
  }
}
