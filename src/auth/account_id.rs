//! Whose something is that we keep on disk: an opaque name made of API root and account.
//!
//! Lists, quotas and uploads of two accounts or two regions must never meet, and must survive the access tokens, which rotate every
//! few minutes. The credential itself never touches our files.

use std::path::Path;

use super::jwt::Claims;
use super::token_aliases;

/// 32 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AccountId(String);

impl AccountId {
    /// `credential` is a static key or an access token: one that names its user, or one whose `lineage` tells. `state` is our
    /// state folder; a small file in it may be read.
    pub fn new(root: &str, credential: &str, state: Option<&Path>) -> Self {
        let identity = match Claims::of(credential).and_then(|claims| claims.subject()) {
            Some(user) => format!("user\0{user}"),
            None => format!("key\0{}", token_aliases::first(state, credential)),
        };
        Self(token_aliases::hash(&format!("1\0{root}\0{identity}")))
    }

    /// The name, fit for a file.
    pub fn name(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::samples::jwt;
    use serde_json::json;

    fn owner(root: &str, credential: &str) -> AccountId {
        AccountId::new(root, credential, None)
    }

    #[test]
    fn a_rotated_token_is_the_same_account_and_another_key_or_region_is_not() {
        // {"sub":"sim-user"} and {"sub":"sim-user","jti":"2"}
        let (first, second) = ("x.eyJzdWIiOiJzaW0tdXNlciJ9.y", "x.eyJzdWIiOiJzaW0tdXNlciIsImp0aSI6IjIifQ.z");
        assert_eq!(owner("https://a", first), owner("https://a", second));
        assert_ne!(owner("https://a", first), owner("https://b", first));
        assert_ne!(owner("https://a", "sk-1"), owner("https://a", "sk-2"));
        assert!(!owner("https://a", "sk-secret").name().contains("secret"));
    }

    #[test]
    fn tokens_that_name_nobody_share_nothing_unless_one_was_exchanged_for_the_other() {
        let nameless = |id: u8| jwt(&json!({ "sub": null, "jti": id }));
        assert_ne!(owner("https://a", &nameless(1)), owner("https://a", &nameless(2)));
        token_aliases::succeed(None, &nameless(3), &nameless(4));
        assert_eq!(owner("https://a", &nameless(3)), owner("https://a", &nameless(4)));
        assert_ne!(owner("https://a", &nameless(3)), owner("https://b", &nameless(4)));
    }
}
