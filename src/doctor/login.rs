//! The credential: where it comes from, how long it lives, who holds the locks of the logins.

use tokio::time::{Instant, timeout_at};

use crate::auth::kimi_auth_file::Stored;
use crate::auth::pi_auth_file::PiEntry;
use crate::auth::token::Tokens;
use crate::auth::{Account, Credential, SuppliedKey};
use crate::blocking::in_background;
use crate::client::Kimi;
use crate::display_text::duration;
use crate::endpoint::{CredentialScope, Endpoint, Region};
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::storage::clock::now_ms;
use crate::storage::dir_lock::LockState;

use super::{Check, SIGN_IN, cure_of};

/// What the files of the logins hold.
pub struct Logins {
    account: Account,
    pi: Result<PiEntry>,
    /// Logins of the official client that this configuration may use.
    official: Vec<(CredentialScope, Result<Stored>)>,
    /// Regions that the official client is signed in to, but this configuration does not lead to.
    elsewhere: Vec<Region>,
    locks: Vec<LockState>,
}

impl Logins {
    /// Reads them, and makes `kimi` go where the login belongs, as requests do.
    pub async fn read(kimi: &mut Kimi, deadline: Instant) -> Result<Self, Check> {
        let fault = |error: Error| Check::fault("login", error.message.clone(), cure_of(&error));
        let account = kimi.account().map_err(fault)?;
        let logins = timeout_at(deadline, in_background(move || Self::of(account)));
        let logins = logins.await.map_err(|_| super::unreadable_home())?.map_err(fault)?;
        let recorded = logins.pi.as_ref().ok().filter(|entry| entry.stored.tokens().is_some());
        let scope = match recorded {
            Some(entry) => logins.account.scope(Some(entry)).ok(),
            None => logins
                .official
                .iter()
                .find(|(_, stored)| matches!(stored, Ok(Stored::Login(_))))
                .map(|(scope, _)| scope.clone()),
        };
        if kimi.config.region_is_open
            && kimi.config.api_key.is_none()
            && let Some(endpoint) = scope.and_then(|scope| Endpoint::from_base(scope.base_url()).ok())
        {
            kimi.config_mut().follow_login(&endpoint);
        }
        Ok(logins)
    }

    fn of(account: Account) -> Result<Self> {
        let scopes = account.cli_login_scopes()?;
        let elsewhere = Region::ALL.into_iter().filter(|region| {
            let scope = CredentialScope::of_region(*region);
            !scopes.contains(&scope) && matches!(account.kimi_code(&scope).read(), Ok(Stored::Login(_)))
        });
        let elsewhere = elsewhere.collect();
        let locks = account.locks(&scopes);
        let official = scopes.into_iter().map(|scope| (scope.clone(), account.shared_login(&scope))).collect();
        Ok(Self { pi: account.pi().read(), official, elsewhere, locks, account })
    }

    fn pi_tokens(&self) -> Option<&Tokens> {
        self.pi.as_ref().ok()?.stored.tokens()
    }

    fn official_tokens(&self) -> Option<&Tokens> {
        self.official.iter().find_map(|(_, stored)| stored.as_ref().ok()?.tokens())
    }
}

/// Checks logins and locks, and returns the credential with which requests are made.
pub async fn checks(
    kimi: &mut Kimi,
    key: Option<&str>,
    logins: &Logins,
    deadline: Instant,
) -> (Vec<Check>, Option<Credential>) {
    let account = &logins.account;
    let mut checks: Vec<Check> = logins.locks.iter().map(lock).collect();
    if checks.is_empty() {
        checks.push(Check::ok("locks", "no program holds the lock of a login"));
    }
    let (broken, mut foreign) = (unreadable(logins), region(logins));
    let supplied = SuppliedKey::new(key);
    let has_key = supplied != SuppliedKey::Nothing || kimi.config.api_key.is_some();
    // A login that belongs elsewhere is not tried, and neither is a refresh that another program is in the middle of.
    let is_tried = foreign.is_none() || has_key;
    let used =
        if has_key && logins.pi_tokens().is_none() { None } else { logins.pi_tokens().or(logins.official_tokens()) };
    if supplied == SuppliedKey::Nothing
        && used.is_some_and(Tokens::is_due)
        && logins.locks.iter().any(|lock| lock.is_alive)
    {
        checks.extend(broken);
        checks.push(Check::warning(
            "login",
            "the login is due for a refresh, and another program is in the middle of one",
            "Wait some seconds and run the doctor again",
        ));
        return (checks, None);
    }
    let found = if is_tried {
        timeout_at(deadline, kimi.find_credential(key)).await.unwrap_or_else(|_| {
            let host = account.scope(None).map(|scope| scope.oauth_host().to_owned()).unwrap_or_default();
            Err(Error::new(ErrorKind::Timeout(Phase::Headers), format!("{host} did not refresh the login in time")))
        })
    } else {
        Ok(None)
    };
    match found {
        Ok(Some(credential)) => {
            checks.push(Check::ok("login", source(kimi, supplied, &credential, logins)));
            checks.extend(shared(logins));
            checks.extend(broken);
            (checks, Some(credential))
        }
        Ok(None) => {
            let reported: Vec<Check> = foreign.take().into_iter().chain(broken).collect();
            if reported.iter().all(|check| check.status != super::Status::Fault) {
                checks.push(missing(logins));
            }
            checks.extend(reported);
            (checks, None)
        }
        Err(error) => {
            let cure = match error.kind {
                ErrorKind::Timeout(_) => {
                    format!("Run the doctor again. If it says the same: {SIGN_IN}")
                }
                _ => cure_of(&error),
            };
            checks.push(Check::fault("login", error.message, cure));
            checks.extend(broken);
            (checks, None)
        }
    }
}

/// Describes where the credential comes from and how long it lives.
fn source(kimi: &Kimi, supplied: SuppliedKey<'_>, credential: &Credential, logins: &Logins) -> String {
    let token = credential.token();
    let of = |tokens: Option<&Tokens>| tokens.is_some_and(|tokens| tokens.access == token);
    let (name, tokens) = match supplied {
        _ if of(logins.pi_tokens()) => ("the login in Pi's auth.json", logins.pi_tokens()),
        _ if of(logins.official_tokens()) => ("the login of the official client", logins.official_tokens()),
        _ if credential.is_login() => ("a login that was just refreshed", None),
        // Pi passes the variable's value on, so a key that was passed may still be the variable.
        _ if kimi.config.api_key.as_deref() == Some(token.as_str()) => ("KIMI_API_KEY", None),
        SuppliedKey::Token(_) => ("an API key that Pi or the program passed", None),
        _ => ("an API key", None),
    };
    let left = tokens.and_then(|tokens| u64::try_from(tokens.expires_at_ms?.saturating_sub(now_ms())).ok());
    match left {
        Some(left) => {
            let left = duration(std::time::Duration::from_millis(left));
            format!("{name}; its access token is valid for {left} and renewed by itself")
        }
        None => name.to_owned(),
    }
}

/// Tells which other program uses the same account.
fn shared(logins: &Logins) -> Option<Check> {
    let (pi, official) = (logins.pi_tokens()?, logins.official_tokens()?);
    let text = if pi.same_account(official) {
        "Pi and the official client share one login; each refresh is made once for both"
    } else {
        "Pi and the official client are signed in to different accounts"
    };
    Some(Check::ok("login.shared", text))
}

/// Reports files of logins that cannot be read or understood.
fn unreadable(logins: &Logins) -> Vec<Check> {
    let mut checks = Vec::new();
    let account = &logins.account;
    let pi = account.pi();
    let files = std::iter::once((pi.path().to_owned(), logins.pi.as_ref().map(|entry| &entry.stored))).chain(
        logins.official.iter().map(|(scope, stored)| (account.kimi_code(scope).path().to_owned(), stored.as_ref())),
    );
    for (path, stored) in files {
        let shown = path.display();
        match stored {
            Ok(Stored::Unusable(why)) => checks.push(Check::fault(
                "login.file",
                why.clone(),
                format!("Correct the file, or run `mv {shown} {shown}.bak` and sign in again"),
            )),
            Err(error) => checks.push(Check::fault(
                "login.file",
                error.message.clone(),
                format!("Correct the owner: `sudo chown \"$USER\" {shown}`"),
            )),
            _ => {}
        }
    }
    checks
}

/// Reports a login of another region than the one that requests go to.
fn region(logins: &Logins) -> Option<Check> {
    let fault = |message: String| {
        Some(Check::fault(
            "login.region",
            message,
            "Run `unset KIMI_CODE_REGION KIMI_CODE_BASE_URL` (or remove region and baseUrl from the settings), or sign in for \
             this region: `/login kimi-coding`",
        ))
    };
    let account = &logins.account;
    let asked = account.endpoint.region().filter(|_| !account.region_is_open)?;
    if let Ok(entry @ PiEntry { stored: Stored::Login(_), .. }) = &logins.pi {
        return account.check_region_of(entry).err().and_then(|error| fault(error.message));
    }
    let found = logins.elsewhere.first().filter(|_| logins.official_tokens().is_none())?;
    fault(format!("the login of this machine is for {}, but the settings ask for {}", found.id(), asked.id()))
}

fn missing(logins: &Logins) -> Check {
    let is_revoked = |stored: &Result<Stored>| matches!(stored, Ok(Stored::Revoked));
    let pi_revoked = logins.pi.as_ref().is_ok_and(|entry| entry.stored == Stored::Revoked);
    let message = if pi_revoked || logins.official.iter().any(|(_, stored)| is_revoked(stored)) {
        "the login of this machine was ended by the service"
    } else {
        "there is neither a login nor KIMI_API_KEY"
    };
    Check::fault("login", message, SIGN_IN)
}

/// Reports a lock, and who holds it.
fn lock(lock: &LockState) -> Check {
    let LockState { directory, age, holder, is_alive } = lock;
    let (shown, age) = (directory.display(), duration(*age));
    let who = match holder {
        Some(pid) => format!("process {pid}{}", program(*pid).map(|name| format!(" ({name})")).unwrap_or_default()),
        None => "Pi, the official client or another program".to_owned(),
    };
    if *is_alive {
        let message = format!("{who} holds {shown}, last touched {age} ago; refreshes wait for it");
        return Check::warning("locks", message, "Wait until it is done; if it hangs, end that program");
    }
    let message = format!("{shown} was left behind by {who}, last touched {age} ago");
    Check::warning("locks", message, format!("Run `rm -r {shown}`, or let the next refresh take it over"))
}

/// Returns the name of a running program, where the system tells it.
fn program(pid: u32) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}
