// Licenses and bill of materials (SBOM) of the crates that are linked into the addon of one platform.
//
// Both are made from `cargo metadata` and the sources that Cargo has downloaded, so they match Cargo.lock and are the same for the
// same commit.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";

const ROOT = join(import.meta.dirname, "..");
const LICENSE_FILE = /^(licen[cs]e|copying|copyright|notice|unlicense)/i;

/** Text of the MIT license for crates that name it but carry no copy. */
const MIT = readFileSync(join(ROOT, "LICENSE"), "utf8").replace(/^Copyright.*\n\n?/m, "");

const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

/** Returns the crates that an addon for this Rust target is built from, our own first. */
export function linkedCrates(target) {
  const args = ["metadata", "--locked", "--format-version", "1", "--filter-platform", target];
  const { status, stdout, stderr, error } = spawnSync("cargo", args, {
    cwd: ROOT,
    encoding: "utf8",
    maxBuffer: 256 * 1024 * 1024,
  });
  if (status !== 0) throw new Error(`cargo metadata failed: ${error?.message ?? stderr}`);
  const { packages, resolve } = JSON.parse(stdout);
  const byId = new Map(packages.map((one) => [one.id, one]));
  const nodes = new Map(resolve.nodes.map((node) => [node.id, node]));
  const needed = (id) =>
    nodes
      .get(id)
      .deps.filter(({ dep_kinds: kinds }) => kinds.some(({ kind }) => kind === null))
      .map(({ pkg }) => pkg);
  const found = new Map();
  const visit = (id) => {
    if (found.has(id)) return;
    found.set(id, { ...byId.get(id), needs: needed(id) });
    for (const next of needed(id)) visit(next);
  };
  visit(resolve.root);
  const [own, ...others] = found.values();
  return [own, ...others.sort((a, b) => compare(a.name, b.name) || compare(a.version, b.version))];
}

/** Returns the license texts of the linked crates; crates with the same text share it. */
export function licenseTexts([, ...crates]) {
  const users = new Map();
  for (const crate of crates) {
    const folder = dirname(crate.manifest_path);
    const texts = readdirSync(folder)
      .filter((name) => LICENSE_FILE.test(name))
      .sort(compare)
      .map((name) => readFileSync(join(folder, name), "utf8").replaceAll("\r\n", "\n").trim());
    if (texts.length === 0) {
      if (crate.license !== "MIT")
        throw new Error(`${crate.name} has no license file, and ${crate.license} has no template.`);
      texts.push(`${MIT.trim()}\n\nCopyright: ${crate.authors.join(", ") || `the authors of ${crate.repository}`}`);
    }
    for (const text of texts) users.set(text, [...(users.get(text) ?? []), `${crate.name} ${crate.version}`]);
  }
  const list = crates.map(({ name, version, license }) => `${name} ${version}: ${license}`);
  const sections = [...users].map(([text, names]) => `${"=".repeat(80)}\n${names.join(", ")}\n\n${text}\n`);
  return `The native part of this package is linked from these crates.\n\n${list.join("\n")}\n\n${sections.join("\n")}`;
}

/** Returns the bill of materials as CycloneDX JSON. It has no time stamp, so that the same commit gives the same bytes. */
export function billOfMaterials(crates, { name, version }) {
  const checksums = lockedChecksums();
  const reference = (crate) => `pkg:cargo/${crate.name}@${crate.version}`;
  const names = new Map(crates.map((crate) => [crate.id, reference(crate)]));
  const [own, ...others] = crates;
  const document = {
    bomFormat: "CycloneDX",
    specVersion: "1.6",
    version: 1,
    metadata: {
      component: { type: "library", "bom-ref": reference(own), name, version, licenses: [{ expression: own.license }] },
    },
    components: others.map((crate) => ({
      type: "library",
      "bom-ref": reference(crate),
      name: crate.name,
      version: crate.version,
      purl: reference(crate),
      licenses: [{ expression: crate.license.replaceAll("/", " OR ") }],
      hashes: [{ alg: "SHA-256", content: checksums.get(`${crate.name} ${crate.version}`) }],
    })),
    dependencies: crates.map((crate) => ({
      ref: reference(crate),
      dependsOn: [...new Set(crate.needs.map((id) => names.get(id)))].sort(compare),
    })),
  };
  const hash = createHash("sha256").update(JSON.stringify(document)).digest("hex");
  const uuid = hash.replace(/^(.{8})(.{4}).(.{3}).(.{3})(.{12}).*$/, "$1-$2-5$3-8$4-$5");
  return `${JSON.stringify({ ...document, serialNumber: `urn:uuid:${uuid}` }, null, 1)}\n`;
}

/** Returns the SHA-256 of every crate in Cargo.lock, by name and version. */
function lockedChecksums() {
  const lock = readFileSync(join(ROOT, "Cargo.lock"), "utf8");
  const entries = lock.matchAll(/name = "(.*)"\nversion = "(.*)"\nsource = .*\nchecksum = "(.*)"/g);
  return new Map([...entries].map(([, name, version, checksum]) => [`${name} ${version}`, checksum]));
}
