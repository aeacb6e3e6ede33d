/**
 * Authenticates Pi (docs/pi-contract.md#native-provider): API keys, the login, and the login of another program on this machine.
 *
 * Pi stores the credential and asks for a refresh before it expires. The addon does the refresh, with its files and locks.
 */
import type { Provider } from "@earendil-works/pi-ai";
import type { OAuthCredential, PiCredentials } from "./credential.ts";
import { lazyImport } from "./lazy.ts";
import type { Addon } from "./native/addon.ts";
import { type Caller, parseAnswer, requestText } from "./native/call.ts";

type Auth = Provider["auth"];
type ApiKeyAuth = NonNullable<Auth["apiKey"]>;
type OAuthAuth = NonNullable<Auth["oauth"]>;

const KEY_VARIABLE = "KIMI_API_KEY";
/** Shown by Pi as the source of the credential. */
const SHARED_SOURCE = "Kimi Code login of this machine";

/** What authentication works with. */
export interface AuthOptions extends Caller {
  /** A key that outranks every other credential. */
  key?: string | undefined;
  /** Learns the API base of every login that Pi uses. */
  credentials: PiCredentials;
  /** Called after a login and each refresh, because the account's models may have changed. */
  onCredential?: (credential: OAuthCredential) => void;
}

/** Builds the provider's `auth` member. */
export function kimiAuth(addon: Addon, options: AuthOptions): Auth {
  return { apiKey: keyAuth(addon, options), oauth: loginAuth(addon, options) };
}

function keyAuth(addon: Addon, options: AuthOptions): ApiKeyAuth {
  type Input = Parameters<ApiKeyAuth["resolve"]>[0];
  const key = async ({ ctx, credential }: Pick<Input, "ctx" | "credential">): Promise<string | undefined> =>
    options.key ||
    credential?.key?.trim() ||
    credential?.env?.[KEY_VARIABLE]?.trim() ||
    (await ctx.env(KEY_VARIABLE))?.trim() ||
    undefined;
  return {
    name: "Kimi API key",
    async login(interaction) {
      return { type: "api_key", key: await interaction.prompt({ type: "secret", message: "Enter your Kimi API key" }) };
    },
    async check(input) {
      if ((await key(input)) !== undefined) return { type: "api_key", source: KEY_VARIABLE };
      return addon.hasCliLogin(requestText(options)) ? { type: "oauth", source: SHARED_SOURCE } : undefined;
    },
    async resolve(input) {
      const apiKey = await key(input);
      if (apiKey !== undefined)
        return {
          auth: { apiKey },
          source: options.key ? "KimiCode()" : input.credential?.key ? "stored key" : KEY_VARIABLE,
        };
      const { access, baseUrl } = parseAnswer<{ access?: string; baseUrl?: string }>(
        await addon.cliLogin(requestText(options)),
      );
      if (access === undefined || baseUrl === undefined) return undefined;
      options.credentials.registerLogin(access, baseUrl);
      return { auth: { apiKey: access }, source: SHARED_SOURCE };
    },
  };
}

function loginAuth(addon: Addon, options: AuthOptions): OAuthAuth {
  return {
    name: "Kimi Code (subscription)",
    isSubscription: true,
    loginLabel: "Sign in with Kimi Code",
    async login(interaction) {
      const { login } = await lazyImport(() => import("./login.ts"));
      const credential = await login(addon, options, interaction);
      options.onCredential?.(credential);
      return credential;
    },
    // Pi holds its lock and stores the result. Its signal is not passed on: a refresh token is used up once it was sent, and
    // only the answer replaces it.
    async refresh(credential) {
      const answer = await addon.renewLogin(
        requestText(options, { baseUrl: credential["baseUrl"] }),
        JSON.stringify(credential),
      );
      const renewed = parseAnswer<{ credential: OAuthCredential }>(answer).credential;
      options.onCredential?.(renewed);
      return renewed;
    },
    async toAuth(credential) {
      const { access, baseUrl } = credential;
      addon.registerLogin(access);
      options.credentials.registerLogin(access, addon.baseOf(requestText(options, { baseUrl })));
      return { apiKey: access };
    },
  };
}
