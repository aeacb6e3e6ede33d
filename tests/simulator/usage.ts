// The plan: `GET /usages` and `GET /me` (docs/protocol.md#usages, docs/protocol.md#account). The default answer holds both views
// of the same facts, as live ones do; a test may set either document to anything. Slow and failing answers come from `intercept`.

import { accountOf } from "./files.ts";
import type { Json, JsonObject } from "./json.ts";
import type { PlanWindows } from "./plan-windows.ts";
import type { Route } from "./routes.ts";

const HOUR = 3_600_000;

function inHours(hours: number): string {
  return new Date(Date.now() + hours * HOUR).toISOString().replace(/\.\d+Z$/, "Z");
}

export interface QuotaShares {
  /** Used share of the 5-hour window, 1 is all of it. */
  fiveHours: number;
  week: number;
  month: number;
  /** The part of the month that the coding plan used. */
  code: number;
}

const DEFAULT_SHARES: QuotaShares = { fiveHours: 0.09, week: 0.13, month: 0.31, code: 0.21 };

/** The ratios that client 2.1.0 reads. */
export function ratioView(shares: Partial<QuotaShares> = {}): JsonObject {
  const { fiveHours, week, month, code } = { ...DEFAULT_SHARES, ...shares };
  return {
    usages: {
      limit_5h: { used_ratio: fiveHours, reset_time: inHours(3) },
      limit_7d: { used_ratio: week, reset_time: inHours(120) },
      limit_month_total: { used_ratio: month, reset_time: inHours(480) },
      limit_month_code: { used_ratio: code, reset_time: inHours(480) },
    },
  };
}

/** The counts that earlier clients read. */
export function countView(shares: Partial<QuotaShares> = {}): JsonObject {
  const { fiveHours, week } = { ...DEFAULT_SHARES, ...shares };
  const counts = (share: number, hours: number): JsonObject => ({
    limit: "100",
    used: `${Math.round(share * 100)}`,
    remaining: `${100 - Math.round(share * 100)}`,
    resetTime: inHours(hours),
  });
  return {
    user: { membership: { level: "LEVEL_INTERMEDIATE" } },
    usage: counts(week, 120),
    limits: [{ window: { duration: 300, timeUnit: "TIME_UNIT_MINUTE" }, detail: counts(fiveHours, 3) }],
  };
}

export function wallet(): JsonObject {
  return {
    boosterWallet: {
      balance: { type: "BOOSTER", amount: "2000000000", amountLeft: "1234500000", unit: "UNIT_CURRENCY" },
      monthlyChargeLimitEnabled: true,
      monthlyChargeLimit: { currency: "CNY", priceInCents: "5000" },
      monthlyUsed: { currency: "CNY", priceInCents: "766" },
    },
  };
}

/** Answers of every known form, by name. */
export const usageShapes = {
  both: (): Json => ({ ...ratioView(), ...wallet(), ...countView() }),
  ratiosOnly: (): Json => ratioView(),
  countsOnly: (): Json => countView(),
  /** A new account: no usage, no names. */
  empty: (): Json => ({}),
  textRatios: (): Json => ({ usages: { limit_5h: { used_ratio: "0.62", reset_time: `${Date.now() + HOUR}` } } }),
  unknownWindow: (): Json => ({
    usages: { limit_24h: { used_ratio: 0.5 }, limit_video_minutes: { used_ratio: 0.25 } },
  }),
  beyondDoubles: (): Json => ({ usage: { used: "9007199254740993", limit: "18014398509481986" } }),
  negative: (): Json => ({ usages: { limit_5h: { used_ratio: -1 } }, usage: { used: -3, limit: 100 } }),
  noObject: (): Json => ["maintenance"],
  exhausted: (): Json => ratioView({ fiveHours: 1 }),
};

function defaultProfile(): JsonObject {
  return {
    user_id: "sim-user",
    nickname: "Simulated User",
    status: "USER_STATUS_NORMAL",
    region: "REGION_CN",
    user_level: 20,
    user_level_name: "Allegretto",
    domain: 1,
    domain_name: "DOMAIN_EXAMPLE",
    global_id: "sim-user",
    email: "sim@example.invalid",
  };
}

export class Plan {
  usage: () => Json = usageShapes.both;
  profile: Json = defaultProfile();
  /** Windows that requests fill; then `usage` is not used. */
  windows: PlanWindows | undefined;

  reset(): void {
    this.windows = undefined;
    this.usage = usageShapes.both;
    this.profile = defaultProfile();
  }
}

function document(path: string, endpoint: string, read: (plan: Plan, account: string) => Json): Route {
  return {
    method: "GET",
    path: `/coding/v1/${path}`,
    endpoint,
    credential: true,
    identity: false,
    handle: (exchange) => {
      const { state, record } = exchange;
      const answer = read(state.plan, accountOf(state, record.headers));
      exchange.send(200, JSON.stringify(answer), JSON_TYPE);
    },
  };
}

const JSON_TYPE = { "content-type": "application/json; charset=utf-8" };

export const routes: Route[] = [
  document("usages", "usages", (plan, account) => plan.windows?.document(account) ?? plan.usage()),
  document("me", "me", (plan) => plan.profile),
];
