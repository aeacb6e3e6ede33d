/**
 * Starts all turns of this thread through one hub of the addon, so that one wake-up serves every stream, and tells it how often frames
 * may come.
 */
import { FramePace } from "./frame-pace.ts";
import { type Addon, type EncodedContext, type MediaHandle, type Op, OpCode, type TurnHandle } from "./addon.ts";

/** The hub as the addon exports it. Every call passes the same `onFrame`, which receives the ops of all turns. */
interface NativeHub {
  startTurn(
    turn: number,
    request: string,
    context: EncodedContext,
    media: MediaHandle[],
    onFrame: (frames: [turn: number, ops: Op[]][]) => void,
  ): TurnHandle;
  /** Sets the time between frames. */
  setFrameInterval(ms: number): void;
}

/** What the addon exports in place of `startTurn`. */
interface NativeExports extends Omit<Addon, "startTurn"> {
  TurnHub: new () => NativeHub;
}

class TurnHub {
  readonly #hub: NativeHub;
  readonly #pace: FramePace;
  readonly #receivers = new Map<number, (ops: Op[]) => void>();
  #last = 0;

  constructor(hub: NativeHub) {
    this.#hub = hub;
    this.#pace = new FramePace((ms) => hub.setFrameInterval(ms));
  }

  start(request: string, context: EncodedContext, media: MediaHandle[], onOps: (ops: Op[]) => void): TurnHandle {
    // The addon keeps the number in 32 bits.
    this.#last = (this.#last + 1) >>> 0;
    const handle = this.#hub.startTurn(this.#last, request, context, media, this.#onFrame);
    this.#receivers.set(this.#last, onOps);
    return handle;
  }

  readonly #onFrame = (frames: [turn: number, ops: Op[]][]): void => {
    this.#pace.frame();
    for (const [turn, ops] of frames) {
      const receive = this.#receivers.get(turn);
      const last = ops.at(-1)?.[0];
      if (last === OpCode.Done || last === OpCode.Failed) this.#receivers.delete(turn);
      receive?.(ops);
    }
  };
}

/** Returns the addon with `startTurn`, which shares one hub. */
export function withTurnHub(exports: object): Addon {
  const { TurnHub: Native, ...rest } = exports as NativeExports;
  let hub: TurnHub | undefined;
  return {
    ...rest,
    startTurn: (request, context, media, onOps) => {
      hub ??= new TurnHub(new Native());
      return hub.start(request, context, media, onOps);
    },
  };
}
