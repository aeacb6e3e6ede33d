/** The AI SDK's `streamText` over our provider, and over the one for any OpenAI-compatible service, on the same stream. */
import type { Bench } from "./bench.ts";
import { AI_SDK_SUBJECTS, cases } from "./cases.ts";
import type { Measured } from "./child.ts";

/** Main thread time of our provider, in percent of the other one's. */
const GOAL = 10;

export interface AiSdkRow extends Measured {
  subject: (typeof AI_SDK_SUBJECTS)[number];
}

/** Measures both providers in one run. */
export async function aiSdk(bench: Bench): Promise<AiSdkRow[]> {
  const text = cases(bench.quick ? 0.05 : 1).find(({ name }) => name === "text");
  if (text === undefined) throw new Error("there is no case with text");
  const rows: AiSdkRow[] = [];
  for (const subject of AI_SDK_SUBJECTS) rows.push({ subject, ...(await bench.measure(text.scenario, { subject })) });
  const peer = rows.find(({ subject }) => subject === "ai-sdk-openai-compatible")?.main ?? Number.NaN;
  bench.report.say(`**AI SDK**: \`streamText\`, ${text.what}`, "");
  bench.report.table(
    ["provider", "wall ms", "main thread ms", "% of the peer's", "CPU ms", "parts"],
    rows.map(({ subject, wall, main, cpu, events }) => [
      subject.replace("ai-sdk-", ""),
      wall.toFixed(0),
      main.toFixed(1),
      // A quick look is too short to compare: the first parts cost the same everywhere.
      bench.report.bar(
        "AI SDK: main thread, ours of openai-compatible",
        (main / peer) * 100,
        "%",
        subject === "ai-sdk-ours" && !bench.quick ? GOAL : undefined,
      ),
      cpu.toFixed(0),
      String(events),
    ]),
  );
  return rows;
}
