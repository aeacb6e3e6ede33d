/** How long a prompt waits for its connection where the service is 50 ms away. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Bench } from "./bench.ts";

const ROUND_TRIP_MS = 50;

/** Goal for the first words over an open connection: one round trip, and what everything else takes. */
const GOAL_MS = 75;

export async function preconnect(bench: Bench): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "kimi-bench-"));
  try {
    const [key, cert] = [join(folder, "key.pem"), join(folder, "cert.pem")];
    try {
      const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"];
      const output = ["-keyout", key, "-out", cert, ...subject];
      execFileSync("openssl", ["req", "-x509", "-newkey", "rsa:2048", "-nodes", ...output], { stdio: "ignore" });
    } catch {
      return bench.report.say("- First words over TLS: needs openssl.");
    }
    const rounds = bench.quick ? 3 : 15;
    const answer = await bench.program("preconnect-child.ts", [String(ROUND_TRIP_MS), String(rounds), key, cert]);
    const { coldMs, warmMs } = JSON.parse(answer) as { coldMs: number; warmMs: number };
    const warm = bench.report.bar("first words over TLS, connection opened before", warmMs, "ms", GOAL_MS);
    bench.report.say(
      `- First words over TLS with a round trip of ${ROUND_TRIP_MS} ms: ${coldMs.toFixed(0)} ms, over a connection that was opened ` +
        `before ${warm} ms.`,
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
