// What the release scripts ask an npm registry, and how they publish to it. Publishing itself is left to the npm client.
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { gunzipSync } from "node:zlib";
import { filesIn } from "./tar.mjs";

export const NPM = "https://registry.npmjs.org/";

/** Limit for a single request to the registry, in milliseconds. */
const REQUEST_TIMEOUT_MS = 30_000;

/** Longest wait for a published version to be listed; npm's own copies lag behind by seconds. In milliseconds. */
const LISTED_TIMEOUT_MS = 120_000;

/** An expected failure: its message is all that the user needs. */
export class ReleaseError extends Error {}

/** Returns the package.json inside a tarball. */
export function manifestIn(tarball) {
  return JSON.parse(
    filesIn(gunzipSync(readFileSync(tarball)))
      .get("package.json")
      .toString(),
  );
}

/** Number of requests for the same address while the connection fails. */
const ATTEMPTS = 3;

/** Requests an address of the registry. Broken connections are retried, as a kept-alive one may be closed at any time. */
export async function get(url) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      const signal = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
      return await fetch(url, { signal, headers: { "cache-control": "no-cache" } });
    } catch (error) {
      if (attempt < ATTEMPTS) continue;
      throw new ReleaseError(`The registry cannot be reached at ${url}: ${error.cause?.message ?? error.message}`);
    }
  }
}

/** Returns everything the registry knows of a package; `undefined` if it does not exist. */
export async function packument(registry, name) {
  const response = await get(new URL(name.replace("/", "%2f"), registry));
  if (response.status === 404) return undefined;
  if (!response.ok)
    throw new ReleaseError(`The registry ${registry} answered ${response.status} when asked for ${name}.`);
  return response.json();
}

/** Fails unless the npm client can publish: with a trusted publisher of GitHub, or signed in. */
export async function requireLogin(registry) {
  if (process.env.ACTIONS_ID_TOKEN_REQUEST_URL) return;
  const { code } = await npm(["whoami", "--registry", registry]);
  if (code !== 0) {
    throw new ReleaseError(
      `Not signed in to ${registry}. Run this in the release workflow, whose trusted publisher needs no token, or run \`npm login\`.`,
    );
  }
}

/** Publishes a tarball or folder. A failure counts only if the registry does not list the version afterwards. */
export async function publish(registry, { name, version }, source, options) {
  const { code, output } = await npm(["publish", source, "--registry", registry, "--access", "public", ...options]);
  if (code === 0) return;
  const stored = await packument(registry, name).catch(() => undefined);
  if (stored?.versions?.[version] !== undefined) return;
  const reasons = output.split("\n").filter((line) => /^npm error (?!A complete log)/.test(line));
  throw new ReleaseError(`${name}@${version} could not be published.\n${reasons.join("\n") || output}`);
}

/** Makes npm warn about a version when it is installed. */
export async function deprecate(registry, { name, version }, note) {
  const { code, output } = await npm(["deprecate", `${name}@${version}`, note, "--registry", registry]);
  if (code !== 0) throw new ReleaseError(`${name}@${version} could not be deprecated.\n${output}`);
}

/** Waits until the registry lists a version. Its errors are retried too, because a release has begun by then. */
export async function waitUntilListed(registry, { name, version }, timeoutMs = LISTED_TIMEOUT_MS) {
  for (const end = Date.now() + timeoutMs; ; await sleep(1000)) {
    let reason = `${registry} does not list ${name}@${version} after ${timeoutMs / 1000} s.`;
    try {
      if ((await packument(registry, name))?.versions?.[version] !== undefined) return;
    } catch (error) {
      if (!(error instanceof ReleaseError)) throw error;
      reason = error.message;
    }
    if (Date.now() > end) throw new ReleaseError(reason);
  }
}

/** Runs npm and returns its exit code and output. */
function npm(args) {
  const child = spawn("npm", args, { stdio: ["ignore", "pipe", "pipe"], shell: process.platform === "win32" });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text) => (output += text));
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, output }));
  });
}

/** Runs a release script: prints expected failures as one message and exits with 1. */
export async function main(work) {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof ReleaseError)) throw error;
    console.error(error.message);
    process.exitCode = 1;
  }
}
