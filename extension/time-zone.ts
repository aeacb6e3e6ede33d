/** Finds out the user's time zone. */
import { fs } from "./node-fs.ts";

let zone: string | undefined;

/**
 * Returns the name of the user's time zone, for example `Europe/Berlin`. Loading `Intl` takes tens of milliseconds, so the
 * variable and the link that most systems have are tried first.
 */
export function timeZone(): string {
  const named = process.env["TZ"];
  if (named !== undefined && /^(UTC|[A-Z]\w+(\/[\w+-]+)+)$/.test(named)) return named;
  zone ??= (named ? undefined : linkedZone()) ?? Intl.DateTimeFormat().resolvedOptions().timeZone;
  return zone;
}

function linkedZone(): string | undefined {
  return /\/zoneinfo\/(?:posix\/)?(\w+(?:\/[\w+-]+)*)$/.exec(localtime())?.[1];
}

/** Returns where the link leads; an empty text where there is none. */
function localtime(): string {
  try {
    return fs.readlinkSync("/etc/localtime");
  } catch {
    return "";
  }
}
