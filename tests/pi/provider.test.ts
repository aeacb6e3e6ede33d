/**
 * The provider object that Pi gets. Newer versions of Pi ask it for more members; what we do not name, it must not answer, because
 * Pi believes every answer.
 */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { Simulator } from "../simulator/index.ts";
import { type Home, ROOT, runPi } from "../support/pi.ts";
import { withPi } from "../support/with-pi.ts";

let simulator: Simulator;
let home: Home;
withPi((...given) => ([simulator, home] = given));

const MEMBERS = [
  "auth",
  "filterAllModels",
  "filterModels",
  "getAllModels",
  "getModels",
  "id",
  "name",
  "refreshModels",
  "stream",
  "streamSimple",
];

/** What every version asks for and we leave to Pi. A new member has to be understood before it is added here. */
const LEFT_TO_PI = ["baseUrl"];

/** Hands Pi our provider in a proxy that writes down what is asked for. */
function spy(report: string): string {
  return `import { writeFileSync } from "node:fs";
import kimi from ${JSON.stringify(join(ROOT, "index.ts"))};
const asked = new Set();
export default (pi) => {
  const own = Object.create(pi, {
    registerProvider: {
      value: (...args) => {
        const [provider] = args.slice(-1);
        const shape = {
          members: Object.keys(provider).sort(),
          plain: Object.getPrototypeOf(provider) === Object.prototype,
          symbols: Object.getOwnPropertySymbols(provider).length,
        };
        const watched = new Proxy(provider, {
          get: (target, name) => { asked.add(String(name)); return target[name]; },
          has: (target, name) => { asked.add(String(name)); return name in target; },
        });
        pi.registerProvider(...args.slice(0, -1), watched);
        process.on("exit", () => writeFileSync(${JSON.stringify(report)}, JSON.stringify({ ...shape, asked: [...asked].sort() })));
      },
    },
  });
  return kimi(own);
};`;
}

test("provider object: what it answers → named members only; what Pi asks for → known", async () => {
  const report = join(home.path, "asked.json");
  const extension = join(home.path, "spy.ts");
  writeFileSync(extension, spy(report));
  simulator.enqueue({ steps: [{ text: "Hello." }] });
  const { stdout, stderr } = await runPi(["-p", "--no-session", "--model", "kimi-coding/k3", "hi"], {
    home,
    env: { KIMI_CODE_BASE_URL: simulator.baseUrl, KIMI_API_KEY: simulator.apiKey },
    extensions: [extension],
  });
  assert.equal(stdout.trim(), "Hello.", stderr);
  const { members, plain, symbols, asked } = JSON.parse(readFileSync(report, "utf8")) as {
    members: string[];
    plain: boolean;
    symbols: number;
    asked: string[];
  };
  assert.deepEqual(members, MEMBERS);
  assert.ok(plain && symbols === 0, "nothing is inherited");
  const unanswered = asked.filter((name) => !MEMBERS.includes(name));
  assert.deepEqual(unanswered, LEFT_TO_PI);
});
