/** An npm registry on the loopback that knows only our packages. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { gunzipSync } from "node:zlib";
import { PLATFORMS, platformManifest } from "../../npm/platforms.mjs";
import { manifest } from "./packages.ts";

interface Manifest {
  name: string;
  version: string;
  [member: string]: unknown;
}

export class Registry {
  /** Paths of all requests. */
  readonly requests: string[] = [];
  readonly #manifests = new Map<string, Manifest[]>();
  readonly #tarballs = new Map<string, Buffer>();
  readonly #server = createServer((request, response) => {
    const path = decodeURIComponent((request.url ?? "").split("?")[0] ?? "").slice(1);
    this.requests.push(path);
    const tarball = this.#tarballs.get(path);
    if (tarball) return response.end(tarball);
    const versions = this.#manifests.get(path);
    if (versions) return response.setHeader("content-type", "application/json").end(this.#packument(path, versions));
    return response.writeHead(404, { "content-type": "application/json" }).end('{"error":"Not found"}');
  });

  /** Base URL; nothing answers there after `close`. */
  url = "";

  async listen(): Promise<void> {
    await new Promise<void>((listening) => this.#server.listen(0, "127.0.0.1", listening));
    this.url = `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/`;
  }

  /** Publishes a tarball as the latest version of what it holds. */
  publish(file: string): void {
    const tarball = readFileSync(file);
    const held = JSON.parse(fileInTar(gunzipSync(tarball), "package/package.json")) as Manifest;
    this.#tarballs.set(`${held.name}/-/${held.version}.tgz`, tarball);
    this.#list(held);
  }

  /** Lists the platform packages of this version that cannot be built here, as npm sees and skips them. */
  listOtherPlatforms(): void {
    for (const platform of Object.keys(PLATFORMS)) {
      const other = platformManifest(platform, manifest()) as Manifest;
      if (!this.#manifests.has(other.name)) this.#list(other);
    }
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((closed) => this.#server.close(closed));
  }

  #list(held: Manifest): void {
    this.#manifests.set(held.name, [...(this.#manifests.get(held.name) ?? []), held]);
  }

  #packument(name: string, versions: Manifest[]): string {
    const entries = versions.map((held) => {
      const path = `${name}/-/${held.version}.tgz`;
      const tarball = this.#tarballs.get(path) ?? Buffer.alloc(0);
      const integrity = `sha512-${createHash("sha512").update(tarball).digest("base64")}`;
      const shasum = createHash("sha1").update(tarball).digest("hex");
      return [held.version, { ...held, dist: { tarball: this.url + path, integrity, shasum } }] as const;
    });
    const latest = versions.at(-1)?.version;
    return JSON.stringify({ name, "dist-tags": { latest }, versions: Object.fromEntries(entries), time: {} });
  }
}

/** Text of a file in an uncompressed tar archive. */
function fileInTar(tar: Buffer, wanted: string): string {
  for (let at = 0; at + 512 <= tar.length;) {
    const name = tar.toString("utf8", at, at + 100).replace(/\0.*$/s, "");
    const size = Number.parseInt(tar.toString("utf8", at + 124, at + 136), 8) || 0;
    if (name === wanted) return tar.toString("utf8", at + 512, at + 512 + size);
    at += 512 + Math.ceil(size / 512) * 512;
  }
  throw new Error(`the tarball holds no ${wanted}`);
}
