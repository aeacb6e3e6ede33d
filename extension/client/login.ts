/**
 * Signing in without Pi: the device flow, whose result the addon keeps where Pi and the official client look for it too.
 */
import type { Addon } from "../native/addon.ts";
import { kimiError, type KimiErrorCode } from "./errors.ts";

/** What a person has to do: open `url` and confirm `userCode`. */
export interface LoginCode {
  userCode: string;
  url: string;
  expiresInSeconds: number;
}

export interface LoginOptions {
  /** Shows the code to a person. Called again with a new one if nobody confirms in time. */
  onCode: (code: LoginCode) => void;
  /** Hears of trouble that does not end the login. */
  onProgress?: (message: string) => void;
  /** `mainland-cn` is kimi.com, `global` is kimi.ai. Without it the region of an earlier login counts, then kimi.com. */
  region?: "mainland-cn" | "global";
  /** Gives up. */
  signal?: AbortSignal;
}

type Step =
  | ({ type: "code" } & LoginCode)
  | { type: "progress"; message: string }
  | { type: "done" }
  | { type: "failed"; code: KimiErrorCode; message: string };

/** Runs the device flow; `request` says where and who asks. */
export function login(addon: Addon, request: object, options: LoginOptions): Promise<void> {
  const { onCode, onProgress, region, signal } = options;
  return new Promise((resolve, reject) => {
    const loginRequest = JSON.stringify({ ...request, ...(region === undefined ? {} : { region }) });
    const handle = addon.startLogin(loginRequest, (text) => {
      const step = JSON.parse(text) as Step;
      try {
        if (step.type === "code") {
          const { userCode, url, expiresInSeconds } = step;
          return onCode({ userCode, url, expiresInSeconds });
        }
        if (step.type === "progress") return onProgress?.(step.message);
      } catch (error) {
        handle.cancel();
        return reject(error);
      }
      signal?.removeEventListener("abort", abort);
      if (step.type === "done") return resolve();
      return reject(kimiError(step, step.code === "cancelled" ? { cause: signal?.reason } : {}));
    });
    const abort = (): void => handle.cancel();
    signal?.addEventListener("abort", abort, { once: true });
    if (signal?.aborted) abort();
  });
}
