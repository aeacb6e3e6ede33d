//! Whether compacting a session saves quota: every request pays for reading the whole context again, compacting pays once.

use serde::Serialize;

use super::ledger::TokenCounts;
use super::token_costs::Weight;

/// Prompt tokens after a compaction: Pi keeps about 20,000 recent ones, and the system prompt, the tools and a summary come before.
const COMPACTED_TOKENS: f64 = 32_000.0;

/// Answer tokens of the summary.
const SUMMARY_TOKENS: f64 = 2_000.0;

/// Requests of the session that its costs are taken from, the last ones.
pub const RECENT: usize = 8;

/// Requests below which a session has no pace yet.
const MIN_RECENT: usize = 3;

/// Part of the costs that reading the context must have before it dominates.
const DOMINATES: f64 = 0.5;

/// A compaction that pays back later than this is no advice: the session may be over before.
const MAX_REQUESTS: f64 = 12.0;

/// When a compaction has saved as much as it costs.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Advice {
    /// Requests until then.
    pub requests: u32,
    /// The window that the percents are of, `5h`.
    pub window: &'static str,
    /// Prompt tokens of the last request.
    pub context_tokens: u64,
    /// Percent that reading the context costs with each request.
    pub per_request: f64,
    /// Percent that compacting costs once.
    pub once: f64,
    /// All of this in a sentence, for users.
    pub text: String,
}

/// Returns the advice for a session with these last requests, the newest last; `None` where compacting does not pay.
pub fn compaction(window: &'static str, weight: &Weight, session: &[TokenCounts]) -> Option<Advice> {
    let recent = &session[session.len().saturating_sub(RECENT)..];
    if recent.len() < MIN_RECENT {
        return None;
    }
    let last = recent.last()?;
    let context_tokens = last.uncached.saturating_add(last.cached);
    let context = context_tokens as f64;
    let total: f64 = recent.iter().map(|tokens| weight.cost(tokens)).sum();
    let reading: f64 =
        recent.iter().map(|tokens| weight.cost(&TokenCounts { output: 0, reasoning: 0, ..*tokens })).sum();
    let prompts: f64 = recent.iter().map(|tokens| tokens.uncached.saturating_add(tokens.cached) as f64).sum();
    if total <= 0.0 || prompts <= 0.0 || reading < DOMINATES * total || context <= COMPACTED_TOKENS {
        return None;
    }
    // What a token of the context costs with each request, as often as this session misses the cache.
    let per_token = reading / prompts;
    let saved = (context - COMPACTED_TOKENS) * per_token;
    // The summary is written from the whole context, in a prompt of its own, and the next request reads the new context.
    let once = (context + COMPACTED_TOKENS) * weight.uncached + SUMMARY_TOKENS * weight.output;
    let requests = (once / saved).ceil();
    if !(1.0..=MAX_REQUESTS).contains(&requests) {
        return None;
    }
    let (per_request, once) = (round(context * per_token), round(once));
    let plural = if requests > 1.0 { "s" } else { "" };
    let text = format!(
        "/compact pays back after {requests} request{plural}: reading {} tokens again costs {per_request} % of {window} each \
         time, compacting about {once} % once.",
        thousands(context_tokens)
    );
    // The cast is exact, see MAX_REQUESTS.
    Some(Advice { requests: requests as u32, window, context_tokens, per_request, once, text })
}

fn round(percent: f64) -> f64 {
    (percent * 100.0).round() / 100.0
}

/// Formats `182000` as `182,000`.
fn thousands(number: u64) -> String {
    match number {
        0..1000 => number.to_string(),
        _ => format!("{},{:03}", thousands(number / 1000), number % 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEIGHT: Weight = Weight { uncached: 1e-5, cached: 1e-6, output: 4e-5 };

    fn session(uncached: u64, cached: u64, output: u64) -> Vec<TokenCounts> {
        vec![TokenCounts { uncached, cached, output, reasoning: 0 }; 5]
    }

    #[test]
    fn advice_a_session_that_misses_the_cache_is_told_the_numbers() {
        let advice = compaction("5h", &WEIGHT, &session(182_000, 0, 300)).unwrap();
        // (182,000 + 32,000) × 1e-5 + 2,000 × 4e-5 = 2.22 once, 1.5 saved with each request.
        assert_eq!(
            advice.text,
            "/compact pays back after 2 requests: reading 182,000 tokens again costs 1.82 % of 5h each time, compacting about \
             2.22 % once."
        );
        assert_eq!((advice.requests, advice.context_tokens), (2, 182_000));
    }

    #[test]
    fn advice_the_dearer_the_cache_the_earlier_it_pays_back() {
        let requests = |cached: f64| {
            let weight = Weight { cached, ..WEIGHT };
            compaction("5h", &weight, &session(2_000, 300_000, 300)).map(|advice| advice.requests)
        };
        assert_eq!((requests(5e-7), requests(4e-6), requests(1e-5)), (None, Some(4), Some(2)));
    }

    #[test]
    fn advice_is_silent_about_small_contexts_long_answers_and_new_sessions() {
        assert_eq!(compaction("5h", &WEIGHT, &session(30_000, 0, 10)), None);
        assert_eq!(compaction("5h", &WEIGHT, &session(100_000, 0, 30_000)), None, "answers dominate");
        assert_eq!(compaction("5h", &WEIGHT, &session(182_000, 0, 300)[..2]), None);
        assert_eq!(compaction("5h", &Weight::default(), &session(182_000, 0, 300)), None, "costs are not known");
    }
}
