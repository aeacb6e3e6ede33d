//! Remembers for a while which models take no videos, beside the index of an account.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};

use super::Index;
use crate::storage::private_file::replace;

/// How long a refusal of videos counts: the service may learn to take them.
const REFUSAL_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

impl Index {
    /// Whether the service has refused videos for this model during the last week.
    pub fn refuses_videos(&self, model: &str) -> bool {
        if self.known.without_videos.get(&(self.account.clone(), model.to_owned())).is_some() {
            return true;
        }
        let recorded = self.refusal_path(model).and_then(|path| fs::metadata(path).ok()?.modified().ok());
        recorded.is_some_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age < REFUSAL_AGE))
    }

    /// Records that the service refuses videos for this model.
    pub fn record_video_refusal(&self, model: &str) {
        self.known.without_videos.insert((self.account.clone(), model.to_owned()), ());
        if let Some(path) = self.refusal_path(model)
            && let Err(error) = replace(&path, model.as_bytes())
        {
            tracing::info!(%error, "the refusal of videos cannot be written");
        }
    }

    fn refusal_path(&self, model: &str) -> Option<PathBuf> {
        let hash: [u8; 32] = Sha256::digest(model).into();
        self.directory.as_ref().map(|directory| directory.join(format!("no-video-{}", hex::encode(&hash[..16]))))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::sync::Arc;

    use tempfile::tempdir;

    use super::*;
    use crate::auth::AccountId;

    #[test]
    fn refusal_of_videos_counts_for_one_account_and_model_and_for_a_week() {
        let home = tempdir().unwrap();
        // An index as another process opens it.
        let open = |account| Index::new(Some(home.path()), AccountId::new("r", account, None), Arc::default());
        let index = open("k");
        index.record_video_refusal("k3-256k");
        assert!(index.refuses_videos("k3-256k") && !index.refuses_videos("k3"));
        assert!(open("k").refuses_videos("k3-256k"));
        assert!(!open("other").refuses_videos("k3-256k"));
        let old = SystemTime::now() - REFUSAL_AGE - Duration::from_secs(60);
        let path = index.refusal_path("k3-256k").unwrap();
        File::options().append(true).open(path).unwrap().set_modified(old).unwrap();
        assert!(!open("k").refuses_videos("k3-256k"));
        assert!(Index::new(None, AccountId::new("r", "k", None), Arc::default()).refusal_path("k3").is_none());
    }
}
