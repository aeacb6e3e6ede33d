/** An npm registry on the loopback that knows only our packages. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { json } from "node:stream/consumers";
import { manifestIn } from "../../npm/registry.mjs";
import { platformManifest } from "../../npm/manifests.mjs";
import { PLATFORMS } from "../../npm/platforms.mjs";
import { manifest } from "./packages.ts";

interface Manifest {
  name: string;
  version: string;
  [member: string]: unknown;
}

/** What `npm publish` and `npm deprecate` send. */
interface Publication {
  versions: Record<string, Manifest>;
  _attachments?: Record<string, { data: string }>;
}

export class Registry {
  /** Paths of all requests that read. */
  readonly requests: string[] = [];
  /** Token of the only user. */
  readonly token = "npm_token_of_the_test_user";
  /** Decides about a publication: refuse it with a status, store it and still answer with the status, or accept it. */
  fault: (name: string) => { status: number; stored: boolean } | undefined = () => undefined;
  /** Status of the answer to a read, for a registry that is in trouble; `undefined` answers it. */
  readFault: (path: string) => number | undefined = () => undefined;
  readonly #manifests = new Map<string, Manifest[]>();
  readonly #tarballs = new Map<string, Buffer>();
  readonly #server = createServer((request, response) => void this.#answer(request, response));

  /** Base URL; nothing answers there after `close`. */
  url = "";

  async listen(): Promise<void> {
    await new Promise<void>((listening) => this.#server.listen(0, "127.0.0.1", listening));
    this.url = `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/`;
  }

  /** Variables that sign the npm client in. */
  login(): Record<string, string> {
    return { [`npm_config_//${new URL(this.url).host}/:_authToken`]: this.token };
  }

  /** Returns the versions of a package, oldest first. */
  versions(name: string): string[] {
    return (this.#manifests.get(name) ?? []).map(({ version }) => version);
  }

  /** Publishes a tarball as the latest version of what it holds. */
  publish(file: string): void {
    this.#store(manifestIn(file) as Manifest, readFileSync(file));
  }

  /** Lists the platform packages of this version that cannot be built here, as npm sees and skips them. */
  listOtherPlatforms(): void {
    for (const platform of Object.keys(PLATFORMS)) {
      const other = platformManifest(platform, manifest()) as Manifest;
      if (!this.#manifests.has(other.name)) this.#manifests.set(other.name, [other]);
    }
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((closed) => this.#server.close(closed));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = decodeURIComponent((request.url ?? "").split("?")[0] ?? "").slice(1);
    const reply = (status: number, body: object): void => {
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    };
    const signedIn = request.headers.authorization === `Bearer ${this.token}`;
    if (path === "-/whoami")
      return signedIn ? reply(200, { username: "tester" }) : reply(401, { error: "Unauthorized" });
    if (request.method === "PUT") {
      const publication = (await json(request)) as Publication;
      if (!signedIn) return reply(401, { error: "Unauthorized" });
      const fault = this.fault(path);
      if (fault === undefined || fault.stored) this.#accept(path, publication);
      return fault === undefined ? reply(201, { ok: true }) : reply(fault.status, { error: "Internal error" });
    }
    this.requests.push(path);
    const status = this.readFault(path);
    if (status !== undefined) return reply(status, { error: "Internal error" });
    const tarball = this.#tarballs.get(path);
    if (tarball) return void response.end(tarball);
    const versions = this.#manifests.get(path);
    return versions ? reply(200, this.#packument(path, versions)) : reply(404, { error: "Not found" });
  }

  #accept(name: string, { versions, _attachments = {} }: Publication): void {
    for (const held of Object.values(versions)) {
      const known = this.#manifests.get(name)?.find(({ version }) => version === held.version);
      if (known !== undefined) Object.assign(known, { deprecated: held["deprecated"] });
      for (const { data } of known === undefined ? Object.values(_attachments) : []) {
        this.#store(held, Buffer.from(data, "base64"));
      }
    }
  }

  #store(held: Manifest, tarball: Buffer): void {
    this.#tarballs.set(`${held.name}/-/${held.version}.tgz`, tarball);
    this.#manifests.set(held.name, [...(this.#manifests.get(held.name) ?? []), held]);
  }

  #packument(name: string, versions: Manifest[]): object {
    const entries = versions.map((held) => {
      const path = `${name}/-/${held.version}.tgz`;
      const tarball = this.#tarballs.get(path) ?? Buffer.alloc(0);
      const integrity = `sha512-${createHash("sha512").update(tarball).digest("base64")}`;
      const shasum = createHash("sha1").update(tarball).digest("hex");
      return [held.version, { ...held, dist: { tarball: this.url + path, integrity, shasum } }] as const;
    });
    const latest = versions.at(-1)?.version;
    return { _id: name, name, "dist-tags": { latest }, versions: Object.fromEntries(entries), time: {} };
  }
}
