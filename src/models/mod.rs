//! The models: what the service lists, what it listed last time, and a table for the time before.
//!
//! Pi's list comes from disk, at once and offline. The service is asked in the background, and its answer replaces the list.

pub mod cache;
mod fallback;
pub mod list;
mod model;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

pub use self::fallback::fallback;
pub use self::model::{Compat, Model, ON, Prices};

use self::cache::{StoredList, UnsavedLists};
use self::list::{ListedModel, with_overrides};
use crate::auth::{Credential, SuppliedKey};
use crate::blocking::in_background;
use crate::client::Kimi;
use crate::config::{Config, Environment};
use crate::error::Result;
use crate::process_state::ProcessState;

/// Pi's provider id. Other extensions look Kimi credentials up under it.
pub const PROVIDER_ID: &str = "kimi-coding";

/// Limit for the whole `GET /models` request.
const MODELS_TIMEOUT: Duration = Duration::from_secs(8);

/// Longest model list that is read, in bytes. Generous, because one entry with an absurd name must not cost the others.
const MAX_LIST: usize = 32 << 20;

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
    let stored = |state| cache::read(&unsaved, state, config.endpoint.root(), credential);
    let stored = config.state_directory.as_deref().and_then(stored);
    let (models, fetched_at) = match &stored {
        Some(stored) => (stored.models.iter().map(ListedModel::model).collect(), Some(stored.fetched_at)),
        None => (fallback(), None),
    };
    let models = with_overrides(models, &config.settings, environment.get("KIMI_MODEL_CAPABILITIES"));
    Listing { models, fetched_at }
}

/// Asks the service and stores the answer for [`known`]. After an error the last list stays.
pub async fn refresh(kimi: &Kimi, credential: &Credential) -> Result<()> {
    let url = format!("{}/models", kimi.config.endpoint.v1());
    let body = kimi.get(&url, credential, MODELS_TIMEOUT, MAX_LIST).await?;
    let state = kimi.config.state_directory.clone();
    let root = kimi.config.endpoint.root().to_owned();
    let token = credential.token();
    let unsaved = kimi.process.get::<UnsavedLists>();
    in_background(move || {
        let models = list::parse(&body)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        let Some(state) = state else { return Ok(()) };
        cache::store(&unsaved, &state, &token, StoredList { root, fetched_at: now, models });
        Ok(())
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Old versions of Pi pass the name of the variable (docs/pi-contract.md#key-syntax).
    #[test]
    fn stored_list_is_found_in_whichever_form_the_key_is_passed() {
        let home = tempfile::tempdir().unwrap();
        let map = [("HOME", home.path().to_string_lossy().into_owned()), ("KIMI_API_KEY", "sk-1".to_owned())];
        let environment = Environment::new(map.map(|(name, value)| (name.to_owned(), value)).into_iter().collect());
        let config = Config::from_environment(&environment, &Default::default()).unwrap();
        let models = list::parse(br#"[{"id": "k3"}]"#).unwrap();
        let list = StoredList { root: config.endpoint.root().to_owned(), fetched_at: 7, models };
        let process = ProcessState::default();
        cache::store(&UnsavedLists::default(), config.state_directory.as_deref().unwrap(), "sk-1", list);
        for passed in [None, Some(""), Some(" sk-1\n"), Some("$KIMI_API_KEY"), Some(" ${KIMI_API_KEY}")] {
            assert_eq!(known(&process, &environment, &config, passed).fetched_at, Some(7), "{passed:?}");
        }
        assert_eq!(known(&process, &environment, &config, Some("sk-2")).fetched_at, None);
    }
}
