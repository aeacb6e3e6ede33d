//! Whether a request that waits for a quota window still belongs to the account that is signed in.

use crate::auth::Credential;
use crate::client::Kimi;
use crate::error::{Error, ErrorKind, Result};

/// Fails if the credential of a request that waits no longer counts: its user has signed out, or in with another account. `passed` is
/// what the caller passed; `is_stored_key`: it is the key in Pi's file.
pub async fn check_signed_in(
    kimi: &Kimi,
    credential: &Credential,
    account: &str,
    passed: Option<&str>,
    is_stored_key: bool,
) -> Result<()> {
    let mut kimi = kimi.clone();
    // Pi passes its credential with the request, and it would go on counting here after a logout.
    let found = if credential.is_login() {
        kimi.stored_login().await
    } else if is_stored_key {
        match kimi.stored_key().await {
            // A file that cannot be read says nothing about the key.
            Ok(key) if key.as_deref() != passed => match kimi.stored_login().await {
                Err(error) if key.is_none() => Err(error),
                _ => return Err(another_account()),
            },
            _ => return Ok(()),
        }
    } else {
        kimi.authorize(passed).await
    };
    let credential = found.map_err(|error| match error.kind {
        ErrorKind::LoginRequired => {
            Error { message: format!("Signed out while waiting for the quota window. {}", error.message), ..error }
        }
        _ => error,
    })?;
    let id = kimi.account_id(&credential).await.map(|id| id.name().to_owned()).unwrap_or_default();
    if id == account { Ok(()) } else { Err(another_account()) }
}

fn another_account() -> Error {
    let message = "Another account is signed in now, so the request that waited for a quota window was not sent";
    Error::new(ErrorKind::QuotaExhausted, message)
}
