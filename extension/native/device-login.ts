/**
 * Signs in with the device flow: the addon polls the service and stores the tokens, the caller shows the code.
 */
import { type Failure, kimiError } from "../errors.ts";
import type { Addon, LoginHandle } from "./addon.ts";
import { withAbort } from "./call.ts";

/** The code that the user confirms at `url`. */
export interface DeviceCode {
  userCode: string;
  url: string;
  expiresInSeconds: number;
  /** Time between two questions whether the user has confirmed. */
  intervalSeconds: number;
}

export interface DeviceLoginEvents {
  /** Shows the code. Called again with a new one when a code expires. */
  onCode: (code: DeviceCode) => void;
  /** Receives problems that do not end the login. */
  onProgress?: ((message: string) => void) | undefined;
  signal?: AbortSignal | undefined;
}

type Step =
  | ({ type: "code" } & DeviceCode)
  | { type: "progress"; message: string }
  | { type: "done"; credential: unknown }
  | ({ type: "failed" } & Failure);

/** Runs the device flow for an account request and returns the credential in Pi's form. */
export function deviceLogin(addon: Addon, request: string, events: DeviceLoginEvents): Promise<unknown> {
  const { onCode, onProgress, signal } = events;
  let handle: LoginHandle | undefined;
  const cancel = (): void => handle?.cancel();
  const finished = new Promise<unknown>((resolve, reject) => {
    handle = addon.startLogin(request, (text) => {
      const step = JSON.parse(text) as Step;
      try {
        if (step.type === "code") onCode(step);
        else if (step.type === "progress") onProgress?.(step.message);
        else if (step.type === "done") resolve(step.credential);
        else reject(kimiError(step, step.code === "cancelled" ? { cause: signal?.reason } : {}));
      } catch (error) {
        // What a callback throws ends the login.
        cancel();
        reject(error);
      }
    });
  });
  return withAbort(signal, cancel, () => finished);
}
