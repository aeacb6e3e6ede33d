/** The published packages: files, manifests, size, types. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { checkPackage, createPackageFromTarballData } from "@arethetypeswrong/core";
import { publint } from "publint";
import { PREBUILT } from "../../extension/native/platform.ts";
import { ENTRIES, PROGRAMS } from "../../npm/build.mjs";
import { packRoot } from "../../npm/pack.mjs";
import { packageName, platformManifest } from "../../npm/manifests.mjs";
import { PLATFORMS } from "../../npm/platforms.mjs";
import { manifest, run } from "../support/packages.ts";
import { ROOT } from "../support/pi.ts";

const TSC = join(ROOT, "node_modules", "typescript", "bin", "tsc");
let work: string;
let tarball: string;
/** The unpacked package. */
let root: string;

before(() => {
  work = mkdtempSync(join(tmpdir(), "kimi pack "));
  tarball = packRoot(work);
  root = join(work, "node_modules", "pi-provider-kimi-code");
  mkdirSync(root, { recursive: true });
  run("tar", ["-xzf", tarball, "-C", root, "--strip-components=1"], work);
});
after(() => rmSync(work, { recursive: true, force: true }));

interface Published {
  version: string;
  files: string[];
  optionalDependencies: Record<string, string>;
  [member: string]: unknown;
}

function published(): Published {
  return JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as Published;
}

describe("root package", () => {
  test("files → the extension for Pi, JavaScript and types for Node, documents, nothing else", () => {
    const files = readdirSync(root, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) =>
        join(entry.parentPath, entry.name)
          .slice(root.length + 1)
          .replaceAll("\\", "/"),
      );
    const known =
      /^(package\.json|[A-Z]+\.md|LICENSE|docs\/[\w/.-]+\.(md|svg|mjs|cjs|ts)|extension\/settings\.schema\.json|dist\/pi\.ts|dist\/[\w/-]+\.(c?js|d\.c?ts))$/;
    assert.deepEqual(
      files.filter((file) => !known.test(file)),
      [],
    );
    for (const file of ["dist/pi.ts", "extension/settings.schema.json", "README.md", "LICENSE"]) {
      assert.ok(files.includes(file), file);
    }
    const entries = Object.keys(ENTRIES).toSorted();
    for (const form of ["d.ts", "d.cts", "cjs"]) {
      for (const entry of entries) assert.ok(files.includes(`dist/${entry}.${form}`), `dist/${entry}.${form}`);
    }
    assert.deepEqual(
      files.filter((file) => /^dist\/(?!pi-).*\.js$/.test(file)).toSorted(),
      [...entries, ...Object.keys(PROGRAMS)].toSorted().map((entry) => `dist/${entry}.js`),
      "one file per entry, because Node takes a millisecond for each",
    );
  });

  test("extension for Pi → one file to translate, one of JavaScript named by its content, nothing else to load", () => {
    assert.deepEqual(published()["pi"], { extensions: ["./dist/pi.ts"] });
    const dist = join(root, "dist");
    const rest = readdirSync(dist).filter((file) => file.startsWith("pi-"));
    assert.equal(rest.length, 1);
    const imported = (file: string): string[] =>
      [...readFileSync(join(dist, file), "utf8").matchAll(/(?:\bfrom|\bimport)\s*\(?\s*"([^"]+)"/g)].map(
        ([, name = ""]) => name,
      );
    const ofPi = ["pi-ai", "pi-coding-agent", "pi-tui"].map((name) => `@earendil-works/${name}`);
    assert.deepEqual(imported("pi.ts"), [...ofPi, `./${rest[0]}`]);
    assert.deepEqual(
      imported("index.js"),
      ["./client.js", ...ofPi, `./${rest[0]}`],
      "programs load it when they use it",
    );
    // Node loads it, which knows neither Pi's packages nor TypeScript.
    assert.deepEqual(
      imported(rest[0] ?? "").filter((name) => !name.startsWith("node:")),
      [],
    );
    const hash = createHash("sha256")
      .update(readFileSync(join(dist, rest[0] ?? "")))
      .digest("hex");
    assert.equal(rest[0], `pi-${hash.slice(0, 16)}.js`);
  });

  test("documents → links lead to files of the package, except to tests and workflows", () => {
    const documents = readdirSync(root, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".md"));
    const missing = documents.flatMap((document) =>
      [
        ...readFileSync(join(root, document), "utf8").matchAll(
          /\]\((?![a-z]+:|#|\.\.\/(?:tests|\.github)\/)([^()\s#]+)/g,
        ),
      ]
        .filter(([, target = ""]) => !existsSync(join(root, dirname(document), target)))
        .map(([, target]) => `${document}: ${target}`),
    );
    assert.deepEqual(missing, []);
  });

  test("size → at most 400 KB", () => {
    assert.ok(statSync(tarball).size <= 400_000, `${statSync(tarball).size} bytes`);
  });

  test("dependencies → every platform package in exactly this version", () => {
    const { version, optionalDependencies } = published();
    const expected = Object.keys(PLATFORMS).map((platform) => [packageName(platform, manifest()), version]);
    assert.deepEqual(optionalDependencies, Object.fromEntries(expected));
  });

  test("scripts and dependencies → none", () => {
    const { scripts, dependencies, devDependencies, peerDependencies, peerDependenciesMeta } = published();
    assert.deepEqual([scripts, dependencies, devDependencies], [undefined, undefined, undefined]);
    const peers = Object.keys(peerDependencies as object);
    assert.deepEqual(peerDependenciesMeta, Object.fromEntries(peers.map((peer) => [peer, { optional: true }])));
  });

  test("publint → passes", async () => {
    const { messages } = await publint({ pkgDir: root, pack: false, strict: true });
    assert.deepEqual(messages, []);
  });

  test("are-the-types-wrong → passes", async () => {
    const result = await checkPackage(createPackageFromTarballData(readFileSync(tarball)));
    const problems = "problems" in result ? result.problems : [];
    // Only resolution before 2023 is not supported.
    assert.deepEqual(
      problems.filter((problem) => !("resolutionKind" in problem && problem.resolutionKind === "node10")),
      [],
    );
  });
});

describe("platform packages", () => {
  test("names → those the loader asks for", () => {
    assert.deepEqual(Object.keys(PLATFORMS).sort(), [...PREBUILT].sort());
  });

  test("manifests → platform filters, one addon, no exports, no scripts", () => {
    for (const platform of Object.keys(PLATFORMS)) {
      const made = platformManifest(platform, manifest());
      const [os, cpu] = platform.split("-");
      assert.deepEqual([made["os"], made["cpu"]], [[os], [cpu]]);
      assert.deepEqual(made["libc"], { gnu: ["glibc"], musl: ["musl"] }[platform.split("-")[2] ?? ""]);
      const files = ["kimi-code.node", "THIRD-PARTY-LICENSES.txt", "sbom.cdx.json"];
      assert.deepEqual([made["files"], made["main"]], [files, "kimi-code.node"]);
      assert.deepEqual([made["exports"], made["scripts"], made["version"]], [undefined, undefined, manifest().version]);
    }
  });

  test("release workflow → builds all of them", () => {
    const workflow = readFileSync(join(ROOT, ".github", "workflows", "release.yml"), "utf8");
    for (const [platform, { target }] of Object.entries(PLATFORMS)) {
      assert.match(workflow, new RegExp(`platform: ${platform}\\b`));
      assert.match(workflow, new RegExp(`target: ${target}\\b`));
    }
  });
});

test("versions: crate and package → equal, because the loader compares them", () => {
  const [, version] = /^version = "([^"]+)"/m.exec(readFileSync(join(ROOT, "Cargo.toml"), "utf8")) ?? [];
  assert.equal(version, manifest().version);
});

describe("types", () => {
  function check(source: string, compilerOptions: Record<string, unknown> = {}, file = "use.ts"): void {
    writeFileSync(join(work, file), source);
    const options = {
      ...{ strict: true, exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true, skipLibCheck: false },
      ...{ module: "nodenext", target: "es2023", lib: ["es2024"], noEmit: true },
      ...{ types: ["node"], typeRoots: [join(ROOT, "node_modules", "@types")], ...compilerOptions },
    };
    writeFileSync(join(work, "tsconfig.json"), JSON.stringify({ compilerOptions: options, files: [file] }));
    writeFileSync(join(work, "package.json"), '{"type":"module"}');
    run("node", [TSC, "-p", work], work);
  }

  const USE = `
    import register, { type AssistantMessage, type ChatEvent, Kimi, KimiCode, KimiError, KimiLimitError } from "pi-provider-kimi-code";
    const kimi = new Kimi({ apiKey: "k", baseUrl: "http://127.0.0.1:1" });
    const chat = kimi.chat([{ role: "user", content: "hi" }], { model: "k3", thinking: "high", signal: AbortSignal.timeout(1) });
    export async function use(): Promise<AssistantMessage> {
      for await (const event of chat) {
        const seen: ChatEvent = event;
        if (event.type === "text_delta") event.delta.trim();
        if (event.type === "toolcall_end") event.toolCall.arguments["x"];
        if (event.type === "retry") event.delayMs.toFixed();
        void seen;
      }
      return chat.final();
    }
    export function reason(error: unknown): string {
      if (error instanceof KimiLimitError) return String(error.retryAfterMs);
      return error instanceof KimiError && error.code === "login_required" ? error.message : "";
    }
    export const extensions = [register, KimiCode({ baseUrl: "http://127.0.0.1:1" })];
    // @ts-expect-error -- a role that does not exist
    kimi.chat([{ role: "robot", content: "hi" }]);
    // @ts-expect-error -- a code that does not exist
    if (new KimiError({ code: "internal", message: "" }).code === "nonsense") use();
  `;

  test("strict mode without Pi, our declarations checked → compiles", () => check(USE));

  test("CommonJS under node16 → compiles", () => {
    const source = `
      import { Kimi, KimiError } from "pi-provider-kimi-code/client";
      import kimi = require("pi-provider-kimi-code");
      export const clients: Kimi[] = [new Kimi(), new kimi.Kimi()];
      export const failed = (error: unknown): boolean => error instanceof KimiError;`;
    check(source, { module: "node16" }, "use.cts");
  });

  test("the client's own entry → compiles", () => {
    const client = USE.replace("register, {", "{")
      .replace("KimiCode, ", "")
      .replace(/export const extensions.*/, "");
    check(client.replace('-code";', '-code/client";'));
  });

  test("bundler resolution → compiles", () => check(USE, { module: "esnext", moduleResolution: "bundler" }));

  test("with Pi installed → assignable to Pi's types", () => {
    symlinkSync(
      join(ROOT, "node_modules", "@earendil-works"),
      join(work, "node_modules", "@earendil-works"),
      "junction",
    );
    check(
      `import type { ExtensionFactory } from "@earendil-works/pi-coding-agent";
       import type { Message } from "@earendil-works/pi-ai";
       import register, { type AssistantMessage, type ChatMessage, KimiCode } from "pi-provider-kimi-code";
       export const factories: ExtensionFactory[] = [register, KimiCode()];
       export function asked(transcript: Message[]): ChatMessage[] { return transcript; }
       export function answered(message: AssistantMessage): AssistantMessage { return message; }`,
      { skipLibCheck: true },
    );
  });
});
