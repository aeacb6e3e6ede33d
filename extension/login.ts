/**
 * How Pi signs in and stays signed in (pi-extension §2.5): keys, the login, and a login that another program left here.
 *
 * Pi keeps the credential and asks for a new one in good time; what that takes – locks, files, one refresh per machine – is the
 * addon's business.
 */
import type { Credential, Provider } from "@earendil-works/pi-ai";
import { environment, type Host } from "./environment.ts";
import type { Addon } from "./native.ts";

type Auth = Provider["auth"];
type ApiKeyAuth = NonNullable<Auth["apiKey"]>;
type OAuthAuth = NonNullable<Auth["oauth"]>;
type OAuthCredential = Extract<Credential, { type: "oauth" }>;
type Interaction = Parameters<OAuthAuth["login"]>[0];

interface Failure {
  error?: { code: string; message: string };
}

type Step =
  | { type: "code"; userCode: string; url: string; intervalSeconds: number; expiresInSeconds: number }
  | { type: "progress"; message: string }
  | { type: "done"; credential: OAuthCredential }
  | { type: "failed"; code: string; message: string };

const KEY_VARIABLE = "KIMI_API_KEY";
const SHARED_SOURCE = "Kimi Code login of this machine";

const REGIONS = [
  { id: "mainland-cn", label: "kimi.com (mainland China)" },
  { id: "global", label: "kimi.ai (global)" },
] as const;

/** For whom we sign in. */
export interface Who {
  host: Host;
  /** A key that outranks everything else. */
  key?: string | undefined;
}

/** The provider's `auth` member. */
export function kimiAuth(addon: Addon, who: Who): Auth {
  return { apiKey: keyAuth(addon, who), oauth: loginAuth(addon, who) };
}

function request({ host }: Who, more: { region?: string; baseUrl?: unknown } = {}): string {
  return JSON.stringify({ environment: environment(), host, ...more });
}

/** An answer of the addon, or its error as an exception. */
function parsed<T>(text: string): T {
  const answer = JSON.parse(text) as T & Failure;
  if (answer.error !== undefined) throw new Error(answer.error.message);
  return answer;
}

function keyAuth(addon: Addon, who: Who): ApiKeyAuth {
  type Input = Parameters<ApiKeyAuth["resolve"]>[0];
  const key = async ({ ctx, credential }: Pick<Input, "ctx" | "credential">): Promise<string | undefined> =>
    who.key ||
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
      return addon.hasAmbientLogin(request(who)) ? { type: "oauth", source: SHARED_SOURCE } : undefined;
    },
    async resolve(input) {
      const apiKey = await key(input);
      if (apiKey !== undefined)
        return {
          auth: { apiKey },
          source: who.key ? "KimiCode()" : input.credential?.key ? "stored key" : KEY_VARIABLE,
        };
      const { access, baseUrl } = parsed<{ access?: string; baseUrl?: string }>(await addon.ambientLogin(request(who)));
      if (access === undefined || baseUrl === undefined) return undefined;
      return { auth: { apiKey: access, baseUrl }, source: SHARED_SOURCE };
    },
  };
}

function loginAuth(addon: Addon, who: Who): OAuthAuth {
  return {
    name: "Kimi Code (subscription)",
    isSubscription: true,
    loginLabel: "Sign in with Kimi Code",
    login: (interaction) => login(addon, who, interaction),
    // Pi holds its lock and writes what comes back. Its signal is not passed on: a refresh token that has left is spent, and
    // only the answer replaces it.
    async refresh(credential) {
      const answer = await addon.renewLogin(
        request(who, { baseUrl: credential["baseUrl"] }),
        JSON.stringify(credential),
      );
      return parsed<{ credential: OAuthCredential }>(answer).credential;
    },
    async toAuth(credential) {
      addon.rememberLogin(credential.access);
      return { apiKey: credential.access, baseUrl: addon.baseOf(request(who, { baseUrl: credential["baseUrl"] })) };
    },
  };
}

async function login(addon: Addon, who: Who, interaction: Interaction): Promise<OAuthCredential> {
  const options = parsed<{ ask: boolean; region?: string | null }>(addon.loginOptions(request(who)));
  const region = options.ask
    ? await interaction.prompt({ type: "select", message: "Which Kimi account is yours?", options: REGIONS })
    : (options.region ?? undefined);
  const asked = request(who, region === undefined ? {} : { region });
  // A login that cannot be reused is no obstacle: a new one is what was asked for.
  const reused = JSON.parse(await addon.reuseLogin(asked)) as { credential?: OAuthCredential };
  interaction.signal.throwIfAborted();
  if (reused.credential !== undefined) {
    interaction.notify({ type: "progress", message: "Using the Kimi Code login that is already on this machine." });
    return reused.credential;
  }
  return signIn(addon, asked, interaction);
}

function signIn(addon: Addon, asked: string, interaction: Interaction): Promise<OAuthCredential> {
  const { signal } = interaction;
  return new Promise((resolve, reject) => {
    const handle = addon.startLogin(asked, (text) => {
      const step = JSON.parse(text) as Step;
      if (step.type === "code") {
        const { userCode, url, intervalSeconds, expiresInSeconds } = step;
        interaction.notify({ type: "device_code", userCode, verificationUri: url, intervalSeconds, expiresInSeconds });
        interaction.notify({ type: "progress", message: "Waiting for confirmation in the browser..." });
      } else if (step.type === "progress") {
        interaction.notify(step);
      } else {
        signal.removeEventListener("abort", abort);
        if (step.type === "done") resolve(step.credential);
        else reject(new Error(step.message));
      }
    });
    const abort = (): void => handle.cancel();
    signal.addEventListener("abort", abort, { once: true });
    if (signal.aborted) abort();
  });
}
