//! Amounts of money from the wallet, in whole cents without floating point (docs/protocol.md#wallet).

use serde::Serialize;
use serde_json::Value;

use super::members::member;
use crate::json::lenient::integer;

/// Wallet units in one cent.
const UNITS_PER_CENT: i128 = 1_000_000;

/// An amount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Money {
    /// ISO code.
    pub currency: String,
    /// Whole cents as text: amounts may exceed the exact range of a JavaScript number.
    pub cents: String,
    /// For users: `$12.35`, `¥7.66`, `12.34 EUR`.
    pub text: String,
}

impl Money {
    pub(super) fn new(cents: i128, currency: &str) -> Self {
        let sign = if cents < 0 { "-" } else { "" };
        let digits = cents.unsigned_abs();
        let amount = format!("{sign}{}.{:02}", digits / 100, digits % 100);
        let text = match currency {
            "USD" => format!("${amount}"),
            "CNY" => format!("¥{amount}"),
            other => format!("{amount} {other}"),
        };
        Self { currency: currency.to_owned(), cents: cents.to_string(), text }
    }
}

/// Credit bought on top of the plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Wallet {
    /// Remaining credit.
    pub balance: Money,
    /// Spent this month.
    pub used_this_month: Option<Money>,
    /// Monthly limit; `None` means unlimited.
    pub monthly_limit: Option<Money>,
    /// Share of the monthly limit that is spent, 1 is all of it.
    pub used_ratio: Option<f64>,
}

impl Wallet {
    /// Whether requests can go on being paid from it.
    pub fn has_credit(&self) -> bool {
        let positive = self.balance.cents.parse::<i128>().is_ok_and(|cents| cents > 0);
        positive && self.used_ratio.is_none_or(|used| used < 1.0)
    }
}

/// Reads the wallet; `None` unless it holds bought credit (docs/protocol.md#wallet).
pub fn wallet(value: &Value) -> Option<Wallet> {
    let balance = &value["balance"];
    if balance["type"].as_str() != Some("BOOSTER") || integer(balance.get("amount"))? <= 0 {
        return None;
    }
    let limit = member(value, "monthlyChargeLimit");
    let used = member(value, "monthlyUsed");
    let cents_of = |money: &Value| integer(Some(member(money, "priceInCents")));
    let currency = [limit, used]
        .iter()
        .find_map(|money| money["currency"].as_str())
        .filter(|code| code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase()))
        .unwrap_or("USD");
    let enabled = member(value, "monthlyChargeLimitEnabled");
    let is_enabled = enabled.as_bool() == Some(true) || enabled.as_str() == Some("true");
    let limit = cents_of(limit).filter(|cents| *cents > 0 && is_enabled);
    let used = cents_of(used).filter(|cents| *cents >= 0);
    Some(Wallet {
        balance: Money::new(cents(integer(Some(member(balance, "amountLeft"))).unwrap_or(0)), currency),
        used_this_month: used.map(|cents| Money::new(cents, currency)),
        monthly_limit: limit.map(|cents| Money::new(cents, currency)),
        used_ratio: limit.map(|limit| used.unwrap_or(0) as f64 / limit as f64),
    })
}

/// Converts wallet units to cents, rounded half up. A fraction of a cent counts as one cent, so that credit never reads as none.
fn cents(units: i128) -> i128 {
    if (1..UNITS_PER_CENT).contains(&units) {
        return 1;
    }
    units.saturating_add(UNITS_PER_CENT / 2).div_euclid(UNITS_PER_CENT)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn money_is_exact_at_any_size() {
        assert_eq!(cents(1_234_500_000), 1235);
        assert_eq!(cents(1), 1);
        assert_eq!(cents(1_499_999), 1);
        assert_eq!(cents(0), 0);
        assert_eq!(cents(-1_000_000), -1);
        assert_eq!(Money::new(cents(9_007_199_254_740_993_000_000), "USD").text, "$90071992547409.93");
        assert_eq!(Money::new(-100, "USD").text, "$-1.00");
        assert_eq!(Money::new(1234, "EUR").text, "12.34 EUR");
    }

    #[test]
    fn wallet_without_bought_credit_is_absent() {
        assert_eq!(wallet(&json!({"balance": {"type": "BOOSTER", "amount": "0"}})), None);
        assert_eq!(wallet(&json!({"balance": {"type": "GIFT", "amount": "5"}})), None);
        assert_eq!(wallet(&json!(null)), None);
    }

    #[test]
    fn wallet_with_a_disabled_limit_is_unlimited() {
        let value = json!({"balance": {"type": "BOOSTER", "amount": 5, "amountLeft": 3_000_000},
            "monthlyChargeLimitEnabled": false, "monthlyChargeLimit": {"currency": "CNY", "priceInCents": "5000"},
            "monthlyUsed": {"priceInCents": 766}});
        let wallet = wallet(&value).unwrap();
        assert_eq!((wallet.monthly_limit, wallet.used_ratio), (None, None));
        assert_eq!(wallet.balance.text, "¥0.03");
        assert_eq!(wallet.used_this_month.unwrap().text, "¥7.66");
    }
}
