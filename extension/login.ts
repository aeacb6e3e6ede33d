/**
 * Signs in with Kimi Code inside Pi: adopts a login that is already on this machine, or runs the device flow. Loaded on demand.
 */
import type { Provider } from "@earendil-works/pi-ai";
import { openBrowser } from "./browser.ts";
import type { OAuthCredential } from "./credential.ts";
import type { Addon } from "./native/addon.ts";
import { type Caller, parseAnswer, requestText } from "./native/call.ts";
import { deviceLogin } from "./native/device-login.ts";
import { isAtLeast } from "./versions.ts";

type Interaction = Parameters<NonNullable<Provider["auth"]["oauth"]>["login"]>[0];

const REGIONS = [
  { id: "mainland-cn", label: "kimi.com (mainland China)" },
  { id: "global", label: "kimi.ai (global)" },
] as const;

/** Signs in and returns the credential, which Pi stores. */
export async function login(addon: Addon, caller: Caller, interaction: Interaction): Promise<OAuthCredential> {
  const options = parseAnswer<{ ask: boolean; region?: string | null }>(addon.loginOptions(requestText(caller)));
  const region = options.ask
    ? await interaction.prompt({ type: "select", message: "Which Kimi account is yours?", options: REGIONS })
    : (options.region ?? undefined);
  const request = requestText(caller, region === undefined ? {} : { region });
  // Errors are ignored: a login that cannot be reused is replaced by a new one.
  const reused = JSON.parse(await addon.reuseLogin(request)) as { credential?: OAuthCredential };
  interaction.signal.throwIfAborted();
  if (reused.credential !== undefined) {
    interaction.notify({ type: "progress", message: "Using the Kimi Code login that is already on this machine." });
    return reused.credential;
  }
  return signIn(addon, caller, request, interaction);
}

async function signIn(
  addon: Addon,
  { host }: Caller,
  request: string,
  interaction: Interaction,
): Promise<OAuthCredential> {
  // From 1.5 on, Pi's dialog opens the page when the user presses Enter.
  let opensPage = !isAtLeast(host.piVersion, 1, 5);
  const credential = await deviceLogin(addon, request, {
    signal: interaction.signal,
    onCode: ({ userCode, url, intervalSeconds, expiresInSeconds }) => {
      interaction.notify({ type: "device_code", userCode, verificationUri: url, intervalSeconds, expiresInSeconds });
      if (opensPage) openBrowser(url);
      // Only the first code: a new page for each would bury the one that the user is looking at.
      opensPage = false;
    },
    onProgress: (message) => interaction.notify({ type: "progress", message }),
  });
  return credential as OAuthCredential;
}
