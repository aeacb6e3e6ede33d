// The archives that `npm pack` writes: plain files in a folder called "package".

/** Calls `visit` with the header and the content of every entry of an uncompressed archive. */
function entries(tar, visit) {
  for (let at = 0; at + 512 <= tar.length && tar[at] !== 0;) {
    const header = tar.subarray(at, at + 512);
    const size = Number.parseInt(header.toString("latin1", 124, 136), 8);
    visit(header, header.toString("latin1", 0, 100).replace(/\0.*$/s, ""), tar.subarray(at + 512, at + 512 + size));
    at += 512 + Math.ceil(size / 512) * 512;
  }
}

/** Returns the files of an uncompressed archive, by their path below its folder. */
export function filesIn(tar) {
  const files = new Map();
  entries(tar, (_header, path, content) => files.set(path.slice(path.indexOf("/") + 1), content));
  return files;
}

/** Renames the folder "package" of an uncompressed archive in place, and returns the archive. */
export function renameFolder(tar, folder) {
  entries(tar, (header, path) => {
    const renamed = path.replace(/^package(?=\/)/, folder);
    if (renamed === path || renamed.length > 100) throw new Error(`${path} cannot be moved into ${folder}/`);
    header.fill(0, 0, 100);
    header.write(renamed, 0, "latin1");
    // The checksum counts its own field as blanks.
    header.fill(" ", 148, 156);
    const sum = header.reduce((total, byte) => total + byte, 0);
    header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  });
  return tar;
}
