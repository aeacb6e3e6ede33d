//! The models: what the service lists, what it listed last time, and a table for the time before.
//!
//! Pi's list comes from disk, at once and offline. The service is asked in the background, and its answer replaces the list.

pub mod cache;
mod fallback;
mod family_prices;
pub mod list;
mod model;
pub mod prompt_cache_hints;
mod refresh;
mod thinking_levels;
pub mod user_overrides;

use std::time::Duration;

use serde::Serialize;

pub use self::fallback::fallback;
pub use self::model::{Compat, Model, Prices, PromptCacheLifetime};
pub use self::refresh::{TURN_WAIT, refresh};
pub use self::thinking_levels::ON;
pub use self::user_overrides::{ModelFacts, OfferedModels};

use self::cache::{StoredList, UnsavedLists};
use self::user_overrides::with_overrides;
use crate::auth::{Credential, SuppliedKey};
use crate::client::Kimi;
use crate::config::{CacheKeeper, Config, Environment};
use crate::error::Result;
use crate::process_state::ProcessState;

/// Pi's provider id. Other extensions look Kimi credentials up under it.
pub const PROVIDER_ID: &str = "kimi-coding";

/// A list of models and its date.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listing {
    /// In the service's order, with the user's settings applied.
    pub models: Vec<Model>,
    /// When the service sent it, in milliseconds since 1970; absent (0 in JSON) for the fallback table.
    #[serde(serialize_with = "or_zero")]
    pub fetched_at: Option<i64>,
}

fn or_zero<S: serde::Serializer>(fetched_at: &Option<i64>, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_i64(fetched_at.unwrap_or(0))
}

/// Returns the list as known without a network: the last one of this account, else the fallback table.
///
/// Reads two small files. `credential` is what Pi or the caller supplied.
pub fn known(process: &ProcessState, environment: &Environment, config: &Config, credential: Option<&str>) -> Listing {
    let credential = match SuppliedKey::new(credential) {
        SuppliedKey::Token(token) => Some(token),
        SuppliedKey::Variable | SuppliedKey::Nothing => config.api_key.as_deref(),
    };
    let unsaved = process.get::<UnsavedLists>();
    let stored = cache::read(&unsaved, config.state_directory.as_deref(), config.endpoint.root(), credential);
    let listing = listing(stored, environment, config);
    process.get::<OfferedModels>().record(&listing.models);
    listing
}

/// Returns the list for a turn. A missing one is asked for, which takes at most `max_wait`; an old one is renewed in the background.
/// Nothing is asked for without `max_wait`, and with `KIMI_CODE_MODEL_LIST=off`.
pub async fn current(
    kimi: &Kimi,
    environment: &Environment,
    credential: &Credential,
    max_wait: Option<Duration>,
) -> Result<Listing> {
    let stored = match max_wait.filter(|_| environment.get("KIMI_CODE_MODEL_LIST") != Some("off")) {
        Some(max_wait) => refresh::ensure(kimi, credential, max_wait).await?,
        None => refresh::stored(kimi, credential).await?,
    };
    Ok(listing(Some(stored), environment, &kimi.config))
}

fn listing(stored: Option<StoredList>, environment: &Environment, config: &Config) -> Listing {
    let (models, fetched_at) = match stored.filter(|stored| !stored.models.is_empty()) {
        Some(stored) => (stored.offered(), stored.fetched_at),
        None => (fallback(), None),
    };
    let mut models = with_overrides(models, &config.settings, environment.get("KIMI_MODEL_CAPABILITIES"));
    // Pi's warmer works for every model with a lifetime, also where caching is switched off (docs/caching.md#keeping-it-alive).
    if config.settings.cache.keeper == CacheKeeper::Pi && !config.without_cache_key {
        for model in &mut models {
            model.prompt_cache =
                model.cache_duration.map(|seconds| PromptCacheLifetime { short: seconds, long: seconds });
        }
    }
    Listing { models, fetched_at }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::AccountId;

    /// Old versions of Pi pass the name of the variable (docs/pi-contract.md#key-syntax).
    #[test]
    fn stored_list_is_found_in_whichever_form_the_key_is_passed() {
        let home = tempfile::tempdir().unwrap();
        let map = [("HOME", home.path().to_string_lossy().into_owned()), ("KIMI_API_KEY", "sk-1".to_owned())];
        let environment = Environment::new(map.map(|(name, value)| (name.to_owned(), value)).into_iter().collect());
        let config = Config::from_environment(&environment, &Default::default()).unwrap();
        let models = list::parse(br#"[{"id": "k3"}]"#).unwrap();
        let root = config.endpoint.root().to_owned();
        let (state, process) = (config.state_directory.as_deref(), ProcessState::default());
        let account = AccountId::new(&root, "sk-1", state);
        let list = StoredList { root, fetched_at: Some(7), models, ..StoredList::default() };
        cache::store(&UnsavedLists::default(), state, &account, list);
        for passed in [None, Some(""), Some(" sk-1\n"), Some("$KIMI_API_KEY"), Some(" ${KIMI_API_KEY}")] {
            assert_eq!(known(&process, &environment, &config, passed).fetched_at, Some(7), "{passed:?}");
        }
        assert_eq!(known(&process, &environment, &config, Some("sk-2")).fetched_at, None);
    }
}
