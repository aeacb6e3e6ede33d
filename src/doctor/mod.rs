//! Examines the machine: settings, logins, locks, the connection phase by phase, and what the service says.
//!
//! Every check is one line: ok, warning or fault, with the one command or setting that cures it. All checks together end within
//! [`TIME_LIMIT`], whatever hangs; a step that has no time left says where it was waiting.

mod clock;
mod connection;
mod login;
mod machine;
mod service;

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::auth::Credential;
use crate::blocking::in_background;
use crate::client::Kimi;
use crate::config::{Config, Environment, RequestAddresses};
use crate::error::{Error, ErrorKind};
use crate::http::user_agent::Host;

/// Limit for everything but the request of `live`. Starting Node takes some of the 3 s that users are promised.
const TIME_LIMIT: Duration = Duration::from_millis(2300);

/// How serious a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Works, but not as the user expects.
    Warning,
    /// Requests fail, or will.
    Fault,
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Stable name, `connection.dns`.
    pub id: &'static str,
    /// How serious it is.
    pub status: Status,
    /// What was found.
    pub message: String,
    /// The command or setting that cures it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cure: Option<String>,
}

impl Check {
    fn ok(id: &'static str, message: impl Into<String>) -> Self {
        Self { id, status: Status::Ok, message: message.into(), cure: None }
    }

    fn warning(id: &'static str, message: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { id, status: Status::Warning, message: message.into(), cure: Some(cure.into()) }
    }

    fn fault(id: &'static str, message: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { id, status: Status::Fault, message: message.into(), cure: Some(cure.into()) }
    }
}

/// What is examined.
#[derive(Debug)]
pub struct Examination {
    /// Variables of the caller.
    pub environment: Environment,
    /// The calling program.
    pub host: Host,
    /// Addresses that Pi knows.
    pub addresses: RequestAddresses,
    /// Key or token that Pi resolved.
    pub api_key: Option<String>,
    /// Sends one tiny request to a model as well.
    pub live: bool,
}

impl Examination {
    /// Runs all checks.
    pub async fn run(self) -> Vec<Check> {
        let deadline = Instant::now() + TIME_LIMIT;
        let Self { environment, host, addresses, api_key, live } = self;
        let (local, origin) = {
            let (environment, addresses) = (environment.clone(), addresses.clone());
            let looked = in_background(move || {
                Ok((machine::checks(&environment), machine::AddressOrigin::find(&environment, &addresses)))
            });
            match tokio::time::timeout_at(deadline, looked).await {
                Ok(Ok(found)) => found,
                _ => return vec![unreadable_home()],
            }
        };
        let mut checks = local;
        let building = in_background(move || Kimi::new(Config::from_environment(&environment, &addresses)?, host));
        let mut kimi = match tokio::time::timeout_at(deadline, building).await {
            Ok(Ok(kimi)) => kimi,
            Ok(Err(error)) => {
                checks.push(origin.unusable(&error));
                return checks;
            }
            Err(_) => {
                checks.push(unreadable_home());
                return checks;
            }
        };
        let logins = match login::Logins::read(&mut kimi, deadline).await {
            Ok(logins) => logins,
            Err(check) => {
                checks.push(check);
                return checks;
            }
        };
        // At the same time, so that a refresh that takes long leaves time for the connection. A wrong credential is no fault of it.
        let reached = kimi.clone();
        let ((login_checks, credential), connected) = tokio::join!(
            login::checks(&mut kimi, api_key.as_deref(), &logins, deadline),
            connection::checks(&reached, &origin, deadline)
        );
        checks.extend(login_checks);
        checks.push(Check::ok("service", format!("requests go to {} ({})", kimi.config.endpoint.root(), origin.name)));
        checks.extend(connected.checks);
        if let Some(ahead) = connected.clock_ahead {
            checks.push(clock::check(ahead));
        }
        if let (true, Some(credential)) = (connected.is_service, &credential) {
            let (found, model) = service::checks(&kimi, credential, &origin, deadline).await;
            checks.extend(found);
            if live {
                checks.push(service::live(&kimi, credential, model).await);
            }
        }
        checks.push(machine::cache(&kimi).await);
        checks.push(machine::uploads(&kimi, credential.as_ref().map(Credential::token)).await);
        checks
    }
}

fn unreadable_home() -> Check {
    Check::fault(
        "home",
        "files in the home directory could not be read in time",
        "Check that the disk or network share of your home directory answers: `ls ~/.pi`",
    )
}

/// The cure for an error of a request that has no better one.
fn cure_of(error: &Error) -> String {
    match error.kind {
        ErrorKind::LoginRequired | ErrorKind::Unauthorized => SIGN_IN.to_owned(),
        ErrorKind::Tls => "Correct the variable that the message names".to_owned(),
        ErrorKind::Io => "Correct the owner of the file: `sudo chown -R \"$USER\" ~/.pi ~/.kimi-code`".to_owned(),
        ErrorKind::Entitlement => "Look at your plan: https://www.kimi.com/code".to_owned(),
        ErrorKind::ClientRefused => "Try it in Pi, which the service is known to accept".to_owned(),
        ErrorKind::QuotaExhausted => "Wait until the window opens again: `/kimi-usage`".to_owned(),
        _ => "Try again in a minute".to_owned(),
    }
}

/// Where a user signs in.
const SIGN_IN: &str = "Sign in: `/login kimi-coding` in Pi, or `kimi login`";
