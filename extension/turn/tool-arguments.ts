/**
 * Updates a tool call's `arguments` object while its text arrives.
 *
 * The addon parses the text incrementally and sends changes, which are applied to the object that Pi shows. At the end the
 * object gets the value of a strict parse of the whole text.
 */

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
type Container = Json[] | { [key: string]: Json };

/** A change: `[0,key]` object, `[1,key]` array, `[2]` close, `[3,key,value]` scalar, `[4,key,text]` string, `[5,text]` append. */
type Change = [number, (string | null)?, Json?];

/** The members of a tool call that change. */
export interface LiveCall {
  arguments: { [key: string]: Json };
  argumentsError?: string;
}

/** The arguments of one call. */
export class LiveArguments {
  readonly #call: LiveCall;
  readonly #path: Container[];
  #lastKey: string | null = null;
  #text = "";

  constructor(call: LiveCall) {
    this.#call = call;
    this.#path = [call.arguments];
  }

  /** Adds a delta and the changes it makes (JSON values separated by commas). */
  append(delta: string, changes: string | null | undefined): void {
    this.#text += delta;
    if (!changes) return;
    for (const change of JSON.parse(`[${changes}]`) as Change[]) this.#apply(change);
  }

  /** Sets the final arguments; `outcome` is the text of the ToolEnd op. */
  finish(outcome: string): void {
    const { text, error } = (outcome === "" ? {} : JSON.parse(outcome)) as { text?: string; error?: string };
    const live = this.#call.arguments;
    for (const key of Object.keys(live)) delete live[key];
    if (error === undefined) {
      const value = JSON.parse(text ?? this.#text) as { [key: string]: Json };
      for (const key of Object.keys(value)) put(live, key, value[key] as Json);
    } else {
      this.#call.argumentsError = `${error}\n\nReceived arguments:\n${clipped(this.#text)}`;
    }
  }

  #apply(change: Change): void {
    const container = this.#path.at(-1);
    if (container === undefined) return;
    const [code, key = null, value = null] = change;
    switch (code) {
      case 0:
      case 1: {
        const opened: Container = code === 0 ? {} : [];
        put(container, key, opened);
        this.#path.push(opened);
        break;
      }
      case 2:
        this.#path.pop();
        break;
      case 3:
      case 4:
        put(container, key, value);
        this.#lastKey = key;
        break;
      case 5:
        if (Array.isArray(container)) container.push(`${String(container.pop() ?? "")}${key ?? ""}`);
        else if (this.#lastKey !== null) {
          put(container, this.#lastKey, `${String(container[this.#lastKey] ?? "")}${key ?? ""}`);
        }
        break;
    }
  }
}

/** Longest text of unusable arguments that goes back to the model, in characters; of it, those from the end. */
const MAX_RECEIVED = 10_000;
const RECEIVED_END = 2000;

function clipped(text: string): string {
  if (text.length <= MAX_RECEIVED) return text;
  const left = text.length - MAX_RECEIVED;
  return `${text.slice(0, MAX_RECEIVED - RECEIVED_END)}\n… ${left} characters …\n${text.slice(-RECEIVED_END)}`;
}

/** Sets a member. Like JSON.parse, it makes `__proto__` an ordinary member. */
function put(container: Container, key: string | null, value: Json): void {
  if (Array.isArray(container)) container.push(value);
  else if (key === "__proto__") {
    Object.defineProperty(container, key, { value, writable: true, enumerable: true, configurable: true });
  } else if (key !== null) container[key] = value;
}
