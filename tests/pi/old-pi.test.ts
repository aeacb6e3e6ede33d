/** A Pi that is too old for a provider object. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { isAtLeast } from "../../extension/versions.ts";
import { Home, ROOT } from "../support/pi.ts";
import { piCli, piInstallation } from "../support/pi-versions.ts";

const OLD = "0.80.10";

test(`Pi ${OLD}: start → one sentence that names the needed version, and Pi goes on`, () => {
  const home = new Home();
  try {
    // Bundles came later than this version.
    const bundle = piCli(OLD);
    const cli = existsSync(bundle) ? bundle : join(bundle, "..", "..", "cli.js");
    assert.ok(piInstallation(OLD));
    const args = [cli, "-ne", "-e", ROOT, "-p", "--model", "kimi-coding/kimi-for-coding", "hi"];
    const { stderr } = spawnSync(process.execPath, args, {
      cwd: home.cwd,
      env: home.env(),
      encoding: "utf8",
      input: "",
    });
    assert.match(
      stderr,
      /^Warning: Kimi Code needs Pi 0\.81 or newer, and this is Pi 0\.80\.10\. Please update Pi\.$/m,
    );
    assert.match(stderr, /No API key found for kimi-coding/);
    assert.doesNotMatch(stderr, /undefined/);
  } finally {
    home.remove();
  }
});

test("versions: compared by major and minor number → older, equal, newer, unknown", () => {
  const cases = [
    ["0.80.10", false],
    ["0.81.0", true],
    ["0.9.0", false],
    ["1.0.0", true],
    [undefined, true],
  ] as const;
  for (const [version, expected] of cases) assert.equal(isAtLeast(version, 0, 81), expected, version);
});
