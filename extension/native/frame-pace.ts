/**
 * Decides how often frames may come, by what they cost this thread.
 *
 * Pi lays the whole message out again for each frame, which takes tens of milliseconds once an answer is long. Frames come every 33 ms
 * while the thread is mostly idle; where it is busy for more than a fifth of the time between them, they come less often, down to four
 * times a second.
 */

/** Shortest and longest time between frames, in milliseconds. The addon keeps to them as well. */
const SHORTEST = 33;
const LONGEST = 250;

/** Share of the thread that frames may take. */
const SHARE = 0.2;

/** Weight of the latest frame in the average cost: a single slow one, for example for a garbage collection, should not count. */
const WEIGHT = 0.25;

/** A pause after which the time between two frames says nothing about their cost, in milliseconds. */
const PAUSE = 1000;

/** Milliseconds for which a thread was busy and idle. */
export interface Utilization {
  active: number;
  idle: number;
}

export class FramePace {
  readonly #setInterval: (ms: number) => void;
  readonly #utilization: (() => Utilization) | undefined;
  #interval = SHORTEST;
  /** Average time that the thread was busy for a frame, in milliseconds. */
  #cost = 0;
  #last: Utilization | undefined;

  constructor(setInterval: (ms: number) => void, utilization = threadUtilization()) {
    this.#setInterval = setInterval;
    this.#utilization = utilization;
  }

  /** Notes that a frame has arrived, before it is handled. */
  frame(): void {
    if (this.#utilization === undefined) {
      const start = performance.now();
      setTimeout(() => this.#note(performance.now() - start), 0);
      return;
    }
    const last = this.#last;
    const now = this.#utilization();
    this.#last = now;
    // Everything between two frames counts as the cost of the first one.
    if (last !== undefined && now.idle - last.idle <= PAUSE) this.#note(now.active - last.active);
  }

  #note(busy: number): void {
    this.#cost += WEIGHT * (busy - this.#cost);
    const interval = Math.round(Math.min(LONGEST, Math.max(SHORTEST, this.#cost / SHARE)));
    // Small changes are not worth a call, but the way back to the shortest interval is never left half-way.
    const change = Math.abs(interval - this.#interval);
    if (change < Math.max(4, this.#interval / 10) && (interval > SHORTEST || change === 0)) return;
    this.#interval = interval;
    this.#setInterval(interval);
  }
}

/** Returns Node's measurement of this thread. Bun has none, there the time until the thread is free after a frame has to do. */
function threadUtilization(): (() => Utilization) | undefined {
  try {
    performance.eventLoopUtilization();
    return () => performance.eventLoopUtilization();
  } catch {
    return undefined;
  }
}
