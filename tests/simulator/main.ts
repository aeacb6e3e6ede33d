// The simulator as a process: `node tests/simulator/main.ts --port 8787`. Prints one line to put into an
// environment and runs until SIGINT or SIGTERM.

import { parseArgs } from "node:util";
import { isLoopback, startSimulator } from "./index.ts";

const { values } = parseArgs({
  options: {
    port: { type: "string", default: "8787" },
    host: { type: "string", default: "127.0.0.1" },
    "identity-gate": { type: "string", default: "off" },
    "no-validation": { type: "boolean", default: false },
  },
});

function fail(message: string): never {
  process.stderr.write(`${message}\n`);
  process.exit(2);
}

const port = Number(values.port);
if (!Number.isInteger(port) || port < 0 || port > 65535) fail(`not a port: ${values.port}`);
if (!isLoopback(values.host)) fail(`the simulator listens on loopback only, not on ${values.host}`);
const gate = values["identity-gate"];
if (gate !== "agent" && gate !== "off") fail(`--identity-gate is agent or off, not ${gate}`);

const simulator = await startSimulator({
  port,
  host: values.host,
  identityGate: gate,
  validation: !values["no-validation"],
});
process.stdout.write(
  `KIMI_CODE_BASE_URL=${simulator.baseUrl} KIMI_CODE_OAUTH_HOST=${simulator.oauthHost} ` +
    `KIMI_API_KEY=${simulator.apiKey}\n`,
);

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    void simulator.close().then(() => process.exit(0));
  });
}
