/**
 * Signs in without Pi. The addon stores the login where Pi and the official client look for it.
 */
import type { Addon } from "../native/addon.ts";
import { deviceLogin } from "../native/device-login.ts";

/** What the user has to do: open `url` and confirm `userCode`. */
export interface LoginCode {
  userCode: string;
  url: string;
  expiresInSeconds: number;
}

export interface LoginOptions {
  /** Shows the code to the user. Called again with a new one when a code expires. */
  onCode: (code: LoginCode) => void;
  /** Receives problems that do not end the login. */
  onProgress?: (message: string) => void;
  /** `mainland-cn` is kimi.com, `global` is kimi.ai. Default: the region of an earlier login, else kimi.com. */
  region?: "mainland-cn" | "global";
  /** Cancels the login. */
  signal?: AbortSignal;
}

/** Runs the device flow for an account request. */
export async function login(addon: Addon, account: object, options: LoginOptions): Promise<void> {
  const { onCode, onProgress, region, signal } = options;
  const request = JSON.stringify({ ...account, region });
  await deviceLogin(addon, request, {
    onCode: ({ userCode, url, expiresInSeconds }) => onCode({ userCode, url, expiresInSeconds }),
    onProgress,
    signal,
  });
}
