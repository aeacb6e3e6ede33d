/** Returns the files of an uncompressed archive, by their path below its folder. */
export function filesIn(tar: Buffer): Map<string, Buffer>;
/** Renames the folder "package" of an uncompressed archive in place, and returns the archive. */
export function renameFolder(tar: Buffer, folder: string): Buffer;
