/** Prepares a file for a session in a process of its own: `prepare-media-child.ts <path>` prints its text. */
import { host } from "../../extension/environment.ts";
import { addon } from "./turn.ts";

const { TEST_URL: baseUrl, TEST_KEY: apiKey, HOME, PI_CODING_AGENT_DIR } = process.env;
const environment = { HOME, PI_CODING_AGENT_DIR, KIMI_CODE_BASE_URL: baseUrl };
const request = JSON.stringify({ environment, host: host("0.87.1"), apiKey, path: process.argv[2] });
const { text, error } = JSON.parse(await addon().prepareMedia(request).result()) as { text?: string; error?: object };
console.log(text ?? JSON.stringify(error));
