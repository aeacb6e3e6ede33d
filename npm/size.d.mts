/** Largest stripped addon of linux-x64-gnu, in bytes. */
export const LIMIT: number;

/** Returns the bytes of code per crate, by the names that `nm --demangle` prints, largest first. */
export function codeByCrate(symbols: string): [crate: string, bytes: number][];
