/**
 * The provider's way to a turn, whose code (turn.ts) is loaded behind Pi's first frame, or by the first turn if that is earlier.
 */
import type { AssistantMessageEventStream, Model, SimpleStreamOptions, TranscriptContext } from "@earendil-works/pi-ai";
import type { Host, Surroundings } from "../environment.ts";
import type { Addon } from "../native/addon.ts";
import { emptyAnswer } from "./empty-message.ts";
import type { Notices, StatusLine } from "./notices.ts";
import { part } from "../lazy.ts";
import type { runTurn } from "./turn.ts";

interface Loaded {
  runTurn: typeof runTurn;
  notices: Notices;
}

export class Turns {
  readonly #addon: Addon;
  readonly #host: Host;
  readonly #surroundings: Surroundings;
  #loaded: Loaded | undefined;
  #line: StatusLine | undefined;

  constructor(addon: Addon, host: Host, surroundings: Surroundings) {
    this.#addon = addon;
    this.#host = host;
    this.#surroundings = surroundings;
  }

  /** Where turns say what they wait for; Pi hands it out anew for every session. */
  attach(line: StatusLine): void {
    this.#line = line;
    this.#loaded?.notices.attach(line);
  }

  /** Loads what turns need. */
  async load(): Promise<Loaded> {
    if (this.#loaded === undefined) {
      const { runTurn } = await part(() => import("./turn.ts"));
      const { Notices } = await part(() => import("./notices.ts"));
      this.#loaded ??= { runTurn, notices: new Notices() };
      if (this.#line !== undefined) this.#loaded.notices.attach(this.#line);
    }
    return this.#loaded;
  }

  /** Runs one turn into `events`, which the caller has handed out. */
  run(
    events: AssistantMessageEventStream,
    model: Model<string>,
    context: TranscriptContext,
    options: SimpleStreamOptions = {},
  ): void {
    const given = { ...options, env: this.#surroundings.variables(options.env) as Record<string, string> };
    const start = ({ runTurn, notices }: Loaded): void =>
      runTurn(this.#addon, this.#host, events, model, context, given, notices);
    if (this.#loaded !== undefined) return start(this.#loaded);
    this.load()
      .then(start)
      .catch((error: unknown) => {
        const reason = error instanceof Error ? error.message : String(error);
        const errorMessage = `Kimi Code could not be loaded, after an update please restart Pi: ${reason}`;
        events.push({
          type: "error",
          reason: "error",
          error: { ...emptyAnswer(model), stopReason: "error", errorMessage },
        });
        events.end();
      });
  }
}
