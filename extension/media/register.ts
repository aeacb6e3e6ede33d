/** Looks for images and videos in prompts. The code for that is loaded after Pi's first frame, or by the first prompt. */
import type { ExtensionAPI } from "@earendil-works/pi-coding-agent";
import type { PiCredentials } from "../credential.ts";
import { defer, lazyImport } from "../lazy.ts";
import type { Addon } from "../native/addon.ts";
import type { Caller } from "../native/call.ts";
import type { MediaFiles } from "./files.ts";
import type { Prompts } from "./prompt.ts";
import type { UserPaths } from "./user-paths.ts";

/** A prompt without any of these holds no path: most prompts are not looked at any further. */
const MAY_HOLD_A_PATH = /[/\\@]|\.\w{3,4}\b/;

interface LoadedMedia {
  files: MediaFiles;
  userPaths: UserPaths;
  prompts: Prompts;
}

/** Registers the handlers. Returns a function that loads the files for the tool. */
export function registerMedia(
  pi: ExtensionAPI,
  addon: Addon,
  caller: Caller,
  credentials: PiCredentials,
): () => Promise<MediaFiles> {
  let loading: Promise<LoadedMedia> | undefined;
  const load = (): Promise<LoadedMedia> => (loading ??= loadMedia(addon, caller, credentials));
  pi.on("session_start", async (_event, { hasUI }) => {
    if (loading !== undefined) (await loading).userPaths.clear();
    if (hasUI) defer(load);
  });
  pi.on("input", async (event, context) => {
    if (!MAY_HOLD_A_PATH.test(event.text)) return undefined;
    return (await load()).prompts.rewrite(event, context);
  });
  return async () => (await load()).files;
}

async function loadMedia(addon: Addon, caller: Caller, credentials: PiCredentials): Promise<LoadedMedia> {
  const { UserPaths } = await lazyImport(() => import("./user-paths.ts"));
  const { MediaFiles } = await lazyImport(() => import("./files.ts"));
  const { Prompts } = await lazyImport(() => import("./prompt.ts"));
  const userPaths = new UserPaths();
  const files = new MediaFiles(addon, caller, credentials, userPaths);
  return { files, userPaths, prompts: new Prompts(files, userPaths) };
}
