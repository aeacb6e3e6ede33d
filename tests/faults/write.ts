/**
 * `npm run reliability`: runs the fault matrix through the client and inside Pi, and writes the tables of docs/reliability.md.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { catalogue } from "./cases.ts";
import { playWithClient } from "./client.ts";
import { inDocument, RELIABILITY, withoutProxies } from "./document.ts";
import { cellsOf, expected, expectedInPi, isInPi, type Played, table, tableInPi } from "./matrix.ts";
import { playInPi } from "./pi.ts";
import { startForeignHost } from "./foreign-host.ts";
import { broken, slow, unexpected } from "./checks.ts";

function report(where: string, played: Played[], wanted: typeof expected): void {
  console.log(`${where}: ${played.length} cells`);
  for (const line of [...broken(played), ...unexpected(played, wanted), ...slow(played)]) console.log(`  ${line}`);
}

withoutProxies();
const foreign = await startForeignHost();
const faults = catalogue(foreign.origin);
const client = await playWithClient(cellsOf(faults));
report("client", client, expected);
const pi = await playInPi(cellsOf(faults).filter(isInPi));
report("Pi", pi, expectedInPi);
await foreign.close();
const document = inDocument(readFileSync(RELIABILITY, "utf8"), "client", table(faults, client));
writeFileSync(RELIABILITY, inDocument(document, "pi", tableInPi(pi)));
