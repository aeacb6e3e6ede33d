//! Logins for JavaScript: signing in, refreshing, finding. Tokens cross only where Pi stores them.

use std::collections::HashMap;
use std::sync::Arc;

use napi::bindgen_prelude::Function;
use napi::threadsafe_function::ThreadsafeFunctionCallMode;
use napi_derive::napi;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::error::{answer, thrown, with_error};
use super::node_runtime::spawn;
use super::read;
use crate::auth::Account;
use crate::auth::credential::register_oauth_token;
use crate::auth::device_flow::{Step, sign_in};
use crate::auth::kimi_auth_file::Stored;
use crate::auth::pi_auth_file::to_pi_entry;
use crate::auth::refresh;
use crate::auth::region::check_region;
use crate::blocking::in_background;
use crate::client::Kimi;
use crate::config::{Config, Environment, RequestAddresses};
use crate::endpoint::{DEFAULT_BASE_URL, Region};
use crate::error::{Error, ErrorKind, Result};
use crate::http::recording::Recorder;
use crate::http::user_agent::Host;
use crate::process_state::ProcessState;

/// What JavaScript sends with every call.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AccountRequest {
    environment: HashMap<String, String>,
    #[serde(default)]
    host: Host,
    /// The region that the user has chosen for this login.
    #[serde(default)]
    region: Option<String>,
    /// Where the service is; `base_url` is the API base that Pi's credential says it belongs to.
    #[serde(flatten)]
    addresses: RequestAddresses,
}

impl AccountRequest {
    fn config(&self) -> Result<Config> {
        Config::from_environment(&Environment::new(self.environment.clone()), &self.addresses)
    }

    /// Returns the account that is meant.
    fn account(&self) -> Result<Account> {
        let config = self.config()?;
        let has_custom_hosts = config.settings.base_url.is_some() || config.oauth_host.is_some();
        let account = Kimi::new(config, self.host.clone())?.account()?;
        account.in_chosen_region(self.region.as_deref().and_then(Region::from_id), has_custom_hosts)
    }

    fn ignores_marker(&self) -> bool {
        self.environment.get("KIMI_CODE_REGION_MARKER").is_some_and(|value| value == "off")
    }
}

/// Builds the account off the async worker: certificates are read the first time.
async fn account(request: String) -> Result<Account> {
    in_background(move || read::<AccountRequest>(&request)?.account()).await
}

#[napi(catch_unwind)]
pub fn login_options(request: String) -> String {
    answer((|| {
        let request: AccountRequest = read(&request)?;
        let config = request.config()?;
        let region = match config.settings.region.region() {
            _ if !config.region_is_open => config.login_endpoint.region(),
            chosen => chosen.or_else(|| request.account().ok()?.preferred_region(request.ignores_marker())),
        };
        Ok(json!({ "ask": config.region_is_open && region.is_none(), "region": region.map(Region::id) }))
    })())
}

#[napi(catch_unwind)]
pub fn base_of(request: String) -> napi::Result<String> {
    let base = || {
        let request: AccountRequest = read(&request)?;
        let Config { endpoint, login_endpoint, .. } = request.config()?;
        // A login of the default deployment records no hosts.
        check_region(request.addresses.base_url.as_deref().unwrap_or(DEFAULT_BASE_URL), &login_endpoint)?;
        Ok(endpoint.root().to_owned())
    };
    base().map_err(thrown)
}

#[napi(catch_unwind)]
pub fn register_login(access: String) {
    register_oauth_token(&access);
}

#[napi(catch_unwind)]
pub async fn renew_login(request: String, credential: String) -> String {
    let renew = async {
        let entry: Map<String, Value> = serde_json::from_str(&credential)
            .map_err(|_| Error::new(ErrorKind::Internal, "the credential is not a JSON object"))?;
        Ok(json!({ "credential": account(request).await?.renew(entry).await? }))
    };
    answer(renew.await)
}

#[napi(catch_unwind)]
pub async fn reuse_login(request: String) -> String {
    let reuse = async {
        let account = account(request).await?;
        let current = account.pi().read().map(|entry| entry.stored).unwrap_or(Stored::Absent);
        let used = |access: &str| current.tokens().is_some_and(|tokens| tokens.access == access);
        match account.cli_login().await? {
            Some((tokens, scope)) if !used(&tokens.access) => Ok(json!({ "credential": to_pi_entry(&tokens, &scope) })),
            _ => Ok(json!({})),
        }
    };
    answer(reuse.await)
}

#[napi(catch_unwind)]
pub async fn cli_login(request: String) -> String {
    let login = async {
        Ok(match account(request).await?.cli_login().await? {
            Some((tokens, scope)) => {
                register_oauth_token(&tokens.access);
                json!({ "access": tokens.access, "baseUrl": scope.base_url() })
            }
            None => json!({}),
        })
    };
    answer(login.await)
}

#[napi(catch_unwind)]
pub fn has_cli_login(request: String) -> bool {
    let look = || read::<AccountRequest>(&request)?.account()?.has_cli_login();
    look().unwrap_or(false)
}

#[napi(catch_unwind)]
pub fn has_login(request: String) -> bool {
    let look = || read::<AccountRequest>(&request)?.account()?.has_login();
    look().unwrap_or(false)
}

/// Signs the machine out: `{signedOut}`.
#[napi(catch_unwind)]
pub async fn logout(request: String) -> String {
    let logout = async { Ok(json!({ "signedOut": account(request).await?.sign_out().await? })) };
    answer(logout.await)
}

#[napi(catch_unwind)]
pub fn shutdown() {
    refresh::shutdown();
    ProcessState::shared().get::<Recorder>().flush();
}

/// A login that waits for the user.
#[napi]
pub struct LoginHandle {
    cancel: CancellationToken,
}

#[napi]
impl LoginHandle {
    /// Aborts; the last step still arrives.
    #[napi(catch_unwind)]
    pub fn cancel(&self) {
        self.cancel.cancel();
    }
}

/// Starts the device flow. `on_step` receives JSON texts, the last one of type `done` or `failed`.
#[napi(catch_unwind)]
pub fn start_login(request: String, on_step: Function<'_, String, ()>) -> napi::Result<LoginHandle> {
    let tell = on_step
        .build_threadsafe_function::<String>()
        .callee_handled::<false>()
        .build_callback(|context| Ok(context.value))?;
    let tell = Arc::new(move |step: String| {
        // Err means that JavaScript is shutting down.
        let _ = tell.call(step, ThreadsafeFunctionCallMode::NonBlocking);
    });
    let cancel = CancellationToken::new();
    let cancelled = cancel.clone();
    spawn(async move {
        let report = |step: Value| tell(step.to_string());
        let last = tokio::select! {
            biased;
            () = cancelled.cancelled() => Err(Error::new(ErrorKind::Cancelled, "Login cancelled")),
            result = login(request, &report) => result,
        };
        tell(match last {
            Ok(credential) => json!({ "type": "done", "credential": credential }).to_string(),
            Err(error) => with_error(json!({ "type": "failed" }), &error),
        });
    })?;
    Ok(LoginHandle { cancel })
}

async fn login(request: String, tell: &(impl Fn(Value) + Sync)) -> Result<Value> {
    let account = in_background(move || {
        let request: AccountRequest = read(&request)?;
        request.account()?.to_sign_in(request.ignores_marker())
    })
    .await?;
    let scope = account.scope(None)?;
    let tokens = sign_in(&account.oauth.at(scope.oauth_host()), |step| {
        tell(match step {
            Step::Code(code) => json!({
                "type": "code",
                "userCode": code.user_code,
                "url": code.url,
                "intervalSeconds": code.interval.as_secs(),
                "expiresInSeconds": code.expires_in.as_secs(),
            }),
            Step::Expired => json!({ "type": "progress", "message": "The code has expired, here is a new one." }),
            Step::Trouble(why) => {
                json!({ "type": "progress", "message": format!("Still waiting for confirmation ({why}).") })
            }
        });
    })
    .await?;
    if let Err(error) = account.share(&scope, &tokens).await {
        tracing::warn!(%error, "the login could not be shared with the kimi CLI");
    }
    register_oauth_token(&tokens.access);
    Ok(to_pi_entry(&tokens, &scope))
}
