/**
 * What the whole repository keeps to, read as text: citations resolve, retired words stay away, and imports between folders point down.
 * Needs neither the addon nor a compiler.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, normalize, relative } from "node:path";
import { test } from "node:test";

const ROOT = join(import.meta.dirname, "..", "..");

/** Every text file under version control, and new ones that are not ignored. */
const FILES = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard"], {
  cwd: ROOT,
  encoding: "utf8",
})
  .split("\n")
  .filter((file) => file !== "" && existsSync(join(ROOT, file)));

const texts = new Map<string, string>();
function read(file: string): string {
  let text = texts.get(file);
  if (text === undefined) texts.set(file, (text = readFileSync(join(ROOT, file), "utf8")));
  return text;
}

const SELF = relative(ROOT, import.meta.filename);
const isSource = (file: string): boolean => /\.(rs|ts|mts|mjs|cjs|toml|yml|sh)$/.test(file) && file !== SELF;
const isDocument = (file: string): boolean => /^[^/]*\.md$|^(docs|tests)\/.*\.md$/.test(file);
const isData = (file: string): boolean => /^tests\/(fixtures|fuzz\/corpus)\//.test(file);
const CHECKED = FILES.filter((file) => (isSource(file) || isDocument(file)) && !isData(file));

/** Fails with one line per finding, so that an editor can jump to it. */
function none(findings: string[]): void {
  assert.equal(findings.length, 0, `\n${findings.join("\n")}\n`);
}

/** Calls `visit` for every line of a file. */
function lines(file: string, visit: (line: string, number: number) => void): void {
  read(file)
    .split("\n")
    .forEach((line, index) => visit(line, index + 1));
}

/** GitHub's anchor of a heading. */
function anchor(heading: string): string {
  return heading
    .replace(/\[([^\]]*)\]\([^)]*\)/g, "$1")
    .trim()
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\p{M} _-]/gu, "")
    .replaceAll(" ", "-");
}

const anchors = new Map<string, Set<string>>();
function anchorsOf(file: string): Set<string> {
  let known = anchors.get(file);
  if (known !== undefined) return known;
  known = new Set();
  const text = read(file).replace(/^```[\s\S]*?^```/gm, "");
  for (const [, heading] of text.matchAll(/^#{1,6} +(.+?) *#*$/gm)) {
    const base = anchor(heading ?? "");
    let name = base;
    for (let count = 1; known.has(name); count += 1) name = `${base}-${count}`;
    known.add(name);
  }
  for (const [, id] of text.matchAll(/<a (?:id|name)="([^"]+)"/g)) if (id !== undefined) known.add(id);
  anchors.set(file, known);
  return known;
}

/** Reports a link from `file` to `target` (relative to `base`) that leads nowhere. */
function dangling(target: string, base: string): string | undefined {
  const [path = "", fragment] = target.split("#", 2);
  const file = path === "" ? base : normalize(join(dirname(base), path));
  if (file.startsWith("..")) return "points out of the repository";
  if (!existsSync(join(ROOT, file))) return "no such file";
  if (fragment && file.endsWith(".md") && !anchorsOf(file).has(fragment)) return "no such heading";
  return undefined;
}

test("citations: in code → name a document and heading of this repository", () => {
  const findings: string[] = [];
  for (const file of CHECKED.filter(isSource)) {
    lines(file, (line, number) => {
      for (const [cited] of line.matchAll(
        /\b(?:docs\/[\w/-]+|README|SECURITY|CONTRIBUTING|CHANGELOG)\.md(?:#[\p{L}\p{N}_-]+)?/gu,
      )) {
        const why = dangling(cited, "x");
        if (why !== undefined) findings.push(`${file}:${number}: ${cited}: ${why}`);
      }
      // A section sign belongs to a document that a reader of the repository does not have.
      if (line.includes("§")) findings.push(`${file}:${number}: cites a section of another document`);
    });
  }
  none(findings);
});

test("citations: links of documents → lead to a file and heading that exist", () => {
  const findings: string[] = [];
  for (const file of CHECKED.filter(isDocument)) {
    lines(file, (line, number) => {
      for (const [, target = ""] of line.matchAll(/\]\(([^()\s]+)\)/g)) {
        if (/^[a-z]+:/.test(target)) continue;
        const why = dangling(target, file);
        if (why !== undefined) findings.push(`${file}:${number}: ${target}: ${why}`);
      }
      if (line.includes("§")) findings.push(`${file}:${number}: cites a section of another document`);
    });
  }
  none(findings);
});

/** Type names that were replaced; the glossary in docs/architecture.md has the words that are used now. */
const RETIRED_TYPES = [
  "Asker", "Surroundings", "TurnLine", "Bell", "Wishes", "Letterbox", "Supplied", "Desk", "TurnDesk", "Office", "Inset",
  "Filling", "Wanted", "Passed", "Spending", "Places", "FirstMeaning", "Substance", "Culprit", "Remedy", "Outlook", "Settled",
]; // prettier-ignore

/** Words of any case that were replaced. */
const RETIRED_WORDS = [
  "hoisted", "film", "films", "discreet", "ambient", "lineage", "lineages", "excuse", "seams", "somebody", "whoever", "nobody",
]; // prettier-ignore

/** "picture" is a screenshot; an image of a conversation is an image. */
const RETIRED_IN_CODE = ["picture", "pictures"];

test("words: retired names → appear nowhere in source and documents", () => {
  const types = new RegExp(`\\b(?:${RETIRED_TYPES.join("|")})\\b`, "g");
  const words = new RegExp(`\\b(?:${RETIRED_WORDS.join("|")})\\b`, "gi");
  const inCode = new RegExp(`\\b(?:${RETIRED_IN_CODE.join("|")})\\b`, "gi");
  // Patience is a word of the language; as a name it hides what is limited.
  const names = /\bPATIENCE\b|\b(?:let|const|fn|pub) patience\b|\bpatience\s*[:=(]/g;
  const findings: string[] = [];
  for (const file of CHECKED) {
    const code = /^(src|extension)\/|^index\.ts$/.test(file);
    lines(file, (line, number) => {
      // Ordinary English at the start of a sentence is no type name.
      const prose = isDocument(file)
        ? line.replace(/(^|[.:!?|*–-] +|^[#>*-]+ +)[A-Z][a-z]+/g, "$1")
        : line.replace(/(\/\/[/!]? |\* |\. )[A-Z][a-z]+/g, "$1");
      const found = [
        ...prose.matchAll(types),
        ...line.matchAll(words),
        ...(isDocument(file) ? [] : line.matchAll(names)),
      ];
      if (code) found.push(...line.matchAll(inCode));
      for (const [word] of found) findings.push(`${file}:${number}: ${word}`);
    });
  }
  none(findings);
});

/** Folders and files of the crate, bottom to top; a module imports only from itself and from rows before its own. */
const RUST_ORDER = [
  ["display_text"],
  ["error"],
  ["blocking", "json", "endpoint", "process_state"],
  ["storage"],
  ["config"],
  ["runtime", "http"],
  ["logging"],
  ["auth"],
  ["client"],
  ["services"],
  ["models"],
  ["files"],
  ["plan"],
  ["chat"],
  ["doctor", "recording"],
  ["bindings"],
];

/** Row numbers of an order of imports. */
function ranksOf(order: string[][]): Map<string, number> {
  return new Map(order.flatMap((row, index) => row.map((name) => [name, index] as const)));
}

/** Everything in front of a file's own unit tests, without comments. */
function productRust(file: string): string {
  return (read(file).split(/^#\[cfg\(test\)\]\nmod tests \{/m)[0] ?? "").replace(/^\s*\/\/.*$|\s\/\/ .*$/gm, "");
}

test("imports: between folders of src → point down", () => {
  const ranks = ranksOf(RUST_ORDER);
  const findings: string[] = [];
  for (const file of FILES.filter((name) => /^src\/.*\.rs$/.test(name) && !/\/(tests|samples)\.rs$/.test(name))) {
    const own = file.split("/")[1]?.replace(/\.rs$/, "") ?? "";
    if (own === "lib") continue;
    const rank = ranks.get(own);
    if (rank === undefined) {
      findings.push(`${file}:1: ${own} has no place in the order of imports`);
      continue;
    }
    productRust(file)
      .split("\n")
      .forEach((line, index) => {
        const names = [...line.matchAll(/\bcrate::(?:\{([^}]*)\}|(\w+))/g)].flatMap(([, group, one]) =>
          group === undefined ? [one ?? ""] : group.split(",").map((part) => part.trim().split("::")[0] ?? ""),
        );
        for (const name of names.filter((candidate) => candidate !== own)) {
          const theirs = ranks.get(name);
          if (theirs !== undefined && theirs >= rank) findings.push(`${file}:${index + 1}: ${own} imports ${name}`);
        }
      });
  }
  none(findings);
});

/** Folders of the extension and the files beside them, bottom to top; a part imports only from itself and from rows before its own. */
const EXTENSION_ORDER = [
  ["node-fs", "project-file"],
  [
    "agent-directory",
    "browser",
    "command-output",
    "environment",
    "ids",
    "lazy",
    "loop-guard",
    "messages",
    "overrides",
    "pi-arguments",
    "pi-modules",
    "priority",
    "project-trust",
    "replay",
    "time-zone",
    "versions",
    "warning",
  ],
  ["errors", "loop-brake"],
  ["native"],
  ["queries", "services"],
  ["credential"],
  ["models"],
  ["login", "media", "preconnect", "quota"],
  ["auth", "cache", "doctor", "plan", "settings", "tools", "turn"],
  ["client", "provider", "session"],
  ["register"],
  ["ai-sdk", "cli", "pi"],
];

test("imports: between parts of extension → point down", () => {
  const ranks = ranksOf(EXTENSION_ORDER);
  const part = (file: string): string => relative("extension", file).split("/")[0]?.replace(/\.ts$/, "") ?? "";
  const findings: string[] = [];
  for (const file of FILES.filter((name) => /^extension\/.*\.ts$/.test(name))) {
    const own = part(file);
    const rank = ranks.get(own);
    if (rank === undefined) {
      findings.push(`${file}:1: ${own} has no place in the order of imports`);
      continue;
    }
    lines(file, (line, number) => {
      const target = /(?:from|import\() ?"(\.[^"]+)"/.exec(line)?.[1];
      if (target === undefined) return;
      const name = part(normalize(join(dirname(file), target)));
      const theirs = ranks.get(name);
      if (name !== own && theirs !== undefined && theirs >= rank)
        findings.push(`${file}:${number}: ${own} imports ${name}`);
    });
  }
  none(findings);
});
