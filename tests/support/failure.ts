import assert from "node:assert/strict";
import { KimiError } from "../../index.ts";

/** Waits for a call that has to fail with a `KimiError`, and returns it. */
export async function failure(call: Promise<unknown>): Promise<KimiError> {
  const error: unknown = await call.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof KimiError, `a KimiError, not ${String(error)}`);
  return error;
}
