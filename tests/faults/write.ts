/** `npm run reliability`: plays the fault matrix and writes its table into docs/reliability.md. */
import { readFileSync, writeFileSync } from "node:fs";
import { catalogue } from "./cases.ts";
import { inDocument, RELIABILITY, withoutProxies } from "./document.ts";
import { playAll, table } from "./matrix.ts";
import { startThief } from "./thief.ts";

withoutProxies();
const thief = await startThief();
const faults = catalogue(thief.origin);
const cells = await playAll(faults);
await thief.close();
writeFileSync(RELIABILITY, inDocument(readFileSync(RELIABILITY, "utf8"), table(faults, cells)));
console.log(`${cells.length} cells, ${cells.filter(({ seen }) => seen.problems.length > 0).length} with problems`);
