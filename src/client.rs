//! `Kimi`: one configured client. Every public operation starts here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT,
};
use reqwest::multipart::Form;
use reqwest::{Client, Response};
use serde::Deserialize;

use crate::auth::token_endpoint::OAuthClient;
use crate::auth::{Account, AccountId, Credential};
use crate::blocking::in_background;
use crate::config::{Config, NetworkSettings, ascii, is_of_connection, is_of_every_request};
use crate::error::{Error, ErrorKind, Phase, Result, explain_refused_client};
use crate::http::Pools;
use crate::http::body::read_whole;
use crate::http::device_id::{UnsavedDeviceIds, device_id};
use crate::http::error_answer::accepted;
use crate::http::recording::{Exchange, Recorder};
use crate::http::redact::KnownSecrets;
use crate::http::retry::send_until_read;
use crate::http::sent_signal::SentSignal;
use crate::http::timeout::within;
use crate::http::user_agent::Host;
use crate::process_state::ProcessState;

/// Limit for opening a connection ahead of a request.
const PRECONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Headers a caller adds; `None` removes one of ours.
pub type ExtraHeaders = Vec<(String, Option<String>)>;

/// Caller context sent with every request from JavaScript.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallerContext {
    /// Environment variables as JavaScript sees them now.
    #[serde(default)]
    pub environment: HashMap<String, String>,
    /// The program around us.
    #[serde(default)]
    pub host: Host,
    /// Key or token that Pi resolved or the caller passed; without one, the credential is searched for.
    #[serde(default)]
    pub api_key: Option<String>,
}

/// A configured client.
#[derive(Debug, Clone)]
pub struct Kimi {
    /// What it was configured with.
    pub config: Arc<Config>,
    /// Headers that identify the sender: built once, because a device id is a file.
    identity: Arc<HeaderMap>,
    /// Headers of the calling program. The OAuth host does not get them.
    program_headers: Arc<ExtraHeaders>,
    http: Client,
    /// What outlives this client: pools, refreshes under way, known uploads.
    pub process: Arc<ProcessState>,
}

impl Kimi {
    /// Builds or reuses a connection pool. Reads certificate files the first time and may read a device id, so it must not run on
    /// an async worker.
    pub fn new(config: Config, host: Host) -> Result<Self> {
        let process = ProcessState::shared();
        let http = process.get::<Pools>().client(&config.network)?;
        let NetworkSettings { http_proxy, https_proxy, all_proxy, .. } = &config.network;
        for proxy in [http_proxy, https_proxy, all_proxy].into_iter().flatten() {
            process.get::<KnownSecrets>().add_user_info(proxy);
        }
        let mut identity = HeaderMap::new();
        for (name, value) in host.headers(config.settings.identity, || {
            device_id(&config.paths.kimi_home, &process.get::<UnsavedDeviceIds>())
        }) {
            insert(&mut identity, name, &value)?;
        }
        let program_headers = host.extra_headers.into_iter().filter(|(name, _)| is_of_every_request(name));
        let program_headers = Arc::new(program_headers.collect());
        Ok(Self { config: Arc::new(config), identity: Arc::new(identity), program_headers, http, process })
    }

    /// Returns the same client on fresh connections.
    pub fn on_fresh_connection(&self) -> Result<Self> {
        Ok(Self { http: self.process.get::<Pools>().fresh_client(&self.config.network)?, ..self.clone() })
    }

    /// Returns the configuration to change it for this client.
    pub fn config_mut(&mut self) -> &mut Config {
        Arc::make_mut(&mut self.config)
    }

    /// Finds what authorizes a request, as [`Self::find_credential`] does; an error if there is nothing.
    pub async fn authorize(&mut self, passed: Option<&str>) -> Result<Credential> {
        self.find_credential(passed).await?.ok_or_else(Error::login_required)
    }

    /// Finds the login of this machine as it is stored now, or fails if there is none. Keys do not count.
    pub async fn stored_login(&self) -> Result<Credential> {
        let found = self.account()?.credential(None, None).await?;
        Ok(found.ok_or_else(Error::login_required)?.credential)
    }

    /// Reads the key in Pi's file; `None` if there is another kind of entry, or none.
    pub async fn stored_key(&self) -> Result<Option<String>> {
        let pi = self.account()?.pi();
        in_background(move || pi.key()).await
    }

    /// Finds what authorizes a request (docs/architecture.md#credential-order). A login decides the region for this client, where
    /// the user has not chosen one.
    pub async fn find_credential(&mut self, passed: Option<&str>) -> Result<Option<Credential>> {
        let Some(found) = self.account()?.credential(passed, self.config.api_key.as_deref()).await? else {
            return Ok(None);
        };
        if let Some(endpoint) = &found.endpoint {
            self.config_mut().follow_login(endpoint);
        }
        Ok(Some(found.credential))
    }

    /// Finds a login for requests that no key authorizes: what other requests are authorized with if that is a login, else a stored one.
    /// A login is never sent in place of a key to an address that the user named and that it does not belong to.
    pub async fn find_login(&mut self, passed: Option<&str>) -> Result<Login> {
        match self.find_credential(passed).await? {
            Some(credential) if credential.is_login() => return Ok(Login::Found(credential)),
            Some(_) => {}
            None => return Ok(Login::Missing),
        }
        let config = &self.config;
        let follows_login = config.region_is_open && config.endpoint == config.login_endpoint;
        let target = (!follows_login).then(|| config.endpoint.clone());
        let Some(found) = self.account()?.login_in_place_of_key(target).await? else { return Ok(Login::KeyOnly) };
        if let Some(endpoint) = &found.endpoint {
            self.config_mut().follow_login(endpoint);
        }
        Ok(Login::Found(found.credential))
    }

    /// Returns the logins that this configuration leads to.
    pub fn account(&self) -> Result<Account> {
        let config = &self.config;
        Ok(Account {
            paths: config.paths.clone(),
            endpoint: config.login_endpoint.clone(),
            oauth_host: config.oauth_host.clone(),
            region_is_open: config.region_is_open,
            oauth: OAuthClient { http: self.http.clone(), headers: HeaderMap::clone(&self.identity) },
            process: Arc::clone(&self.process),
        })
    }

    /// Returns the account behind a credential, under which its state is kept. Blocks on a small file in the background.
    pub async fn account_id(&self, credential: &Credential) -> Result<AccountId> {
        let (root, token) = (self.config.endpoint.root().to_owned(), credential.token());
        let state = self.config.state_directory.clone();
        in_background(move || Ok(AccountId::new(&root, &token, state.as_deref()))).await
    }

    /// Posts JSON and returns the response once its head says success. Sets `signal` when the request is really sent.
    pub async fn post_json(
        &self,
        url: &str,
        credential: &Credential,
        body: Bytes,
        extra: &ExtraHeaders,
        signal: &SentSignal,
    ) -> Result<Response> {
        self.with_reauth(credential, extra, |token| {
            let headers = self.headers(&token, extra);
            let body = body.clone();
            async move {
                let headers = headers?;
                let recording = self.record("POST", url, &headers, Some(&body));
                let request = || self.http.post(url).headers(headers.clone()).body(signal.body(body.clone()));
                accepted(recording.answered(send_until_read(signal, request).await)).await
            }
        })
        .await
    }

    /// Posts a form, built again for each attempt, and returns the response once its head says success. Headers of the caller
    /// that describe a JSON body are ignored.
    pub async fn post_form(
        &self,
        url: &str,
        credential: &Credential,
        form: impl Fn() -> Result<Form>,
        extra: &ExtraHeaders,
    ) -> Result<Response> {
        self.with_reauth(credential, extra, |token| {
            let request = self.headers(&token, extra).and_then(|mut headers| {
                headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
                headers.remove(CONTENT_TYPE);
                headers.remove(CONTENT_LENGTH);
                let recording = self.record("POST", url, &headers, None);
                Ok((self.http.post(url).headers(headers).multipart(form()?), recording))
            });
            async {
                let (request, recording) = request?;
                accepted(recording.answered(request.send().await)).await
            }
        })
        .await
    }

    /// Sends, and answers a 401 with a fresh token. Headers of the caller that authorize the request themselves are sent as they
    /// are.
    async fn with_reauth<F: Future<Output = Result<Response>>>(
        &self,
        credential: &Credential,
        extra: &ExtraHeaders,
        send: impl Fn(String) -> F,
    ) -> Result<Response> {
        let result = if self.own_authorization(extra).is_some() {
            send(String::new()).await
        } else {
            credential.send_with_reauth(send).await
        };
        result.map_err(|error| self.explain_refusal(extra, error))
    }

    /// Adds advice to the refusal of this client.
    pub fn explain_refusal(&self, extra: &ExtraHeaders, error: Error) -> Error {
        explain_refused_client(error, self.own_header(extra, USER_AGENT.as_str()).flatten())
    }

    /// Posts JSON and returns the response whatever its status is. `token` is sent as it is.
    pub async fn send_json(&self, url: &str, token: &str, body: Bytes, extra: &ExtraHeaders) -> Result<Response> {
        let headers = self.headers(token, extra)?;
        let recording = self.record("POST", url, &headers, Some(&body));
        let sending = self.http.post(url).headers(headers).body(body).send();
        recording.answered(sending.await).map_err(|error| Error::from_reqwest(error, Phase::Headers))
    }

    /// Gets a small document of at most `max` bytes within `limit`. A 401 is answered as in [`Self::post_json`].
    pub async fn get(&self, url: &str, credential: &Credential, limit: Duration, max: usize) -> Result<Vec<u8>> {
        let work = credential.send_with_reauth(|token| async move { self.get_once(url, &token, max).await });
        let result = within(Some(limit), work).await.unwrap_or_else(|| {
            let seconds = limit.as_secs();
            Err(Error::new(ErrorKind::Timeout(Phase::Body), format!("timeout: Kimi did not answer within {seconds} s")))
        });
        result.map_err(|error| self.explain_refusal(&Vec::new(), error))
    }

    /// Gets `url` once and returns the response whatever its status is. Without a token, no credential is sent.
    pub async fn probe(&self, url: &str, token: Option<&str>) -> Result<Response> {
        let mut extra = vec![(ACCEPT.to_string(), Some("application/json".to_owned()))];
        if token.is_none() {
            extra.push((AUTHORIZATION.to_string(), None));
        }
        let mut headers = self.headers(token.unwrap_or_default(), &extra)?;
        headers.remove(CONTENT_TYPE);
        let sending = self.http.get(url).headers(headers).send();
        sending.await.map_err(|error| Error::from_reqwest(error, Phase::Headers))
    }

    async fn get_once(&self, url: &str, token: &str, max: usize) -> Result<Vec<u8>> {
        let accept = vec![(ACCEPT.to_string(), Some("application/json".to_owned()))];
        let mut headers = self.headers(token, &accept)?;
        headers.remove(CONTENT_TYPE);
        let recording = self.record("GET", url, &headers, None);
        let response = accepted(recording.answered(self.http.get(url).headers(headers).send().await)).await?;
        read_whole(response, max).await
    }

    /// Begins to record an exchange, if the user asked for a recording.
    fn record(&self, method: &str, url: &str, headers: &HeaderMap, body: Option<&[u8]>) -> Recording {
        Recording(self.config.recording.as_ref().map(|settings| {
            let path = url.strip_prefix(self.config.endpoint.root()).unwrap_or("/elsewhere");
            self.process.get::<Recorder>().begin(settings, method, path, headers, body)
        }))
    }

    /// Opens a connection for the next request, if the pool has none, by a request without credentials. Its answer is of no interest.
    pub async fn preconnect(&self) -> Result<()> {
        let request = self.http.head(self.config.endpoint.root()).headers(HeaderMap::clone(&self.identity));
        let answered = request.timeout(PRECONNECT_TIMEOUT).send().await;
        answered.map(drop).map_err(|error| Error::from_reqwest(error, Phase::Headers))
    }

    /// Removes the credentials of this process from content of the service, before anything else is done with it.
    pub fn scrub(&self, content: Vec<u8>) -> Vec<u8> {
        self.process.get::<KnownSecrets>().scrub(content)
    }

    /// Builds the headers of a request. Whatever is secret in them is remembered, so that it is redacted wherever it comes back.
    fn headers(&self, key: &str, extra: &ExtraHeaders) -> Result<HeaderMap> {
        let secrets = self.process.get::<KnownSecrets>();
        secrets.add_credential(key);
        let mut headers = HeaderMap::new();
        for (name, value) in &self.config.custom_headers {
            secrets.add_header(name, value);
            insert(&mut headers, name, value)?;
        }
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream, application/json"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.extend(HeaderMap::clone(&self.identity));
        let own = self.program_headers.iter().chain(extra);
        for (name, value) in own.filter(|(name, _)| !is_of_connection(name)) {
            match value {
                Some(value) => {
                    secrets.add_header(name, value);
                    insert(&mut headers, name, &ascii(value))?;
                }
                None => {
                    headers.remove(name.as_str());
                }
            }
        }
        if self.own_authorization(extra).is_none() {
            let mut bearer = HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| {
                Error::new(ErrorKind::Config, "the Kimi API key contains characters that no HTTP header may hold")
            })?;
            bearer.set_sensitive(true);
            headers.insert(AUTHORIZATION, bearer);
        }
        Ok(headers)
    }

    /// Returns the caller's header that authorizes a request in place of our credential; `Some(None)` where it has none at all.
    pub fn own_authorization<'h>(&'h self, extra: &'h ExtraHeaders) -> Option<Option<&'h str>> {
        self.own_header(extra, AUTHORIZATION.as_str())
    }

    /// Returns a header of the caller; `Some(None)` where it removes ours.
    fn own_header<'h>(&'h self, extra: &'h ExtraHeaders, name: &str) -> Option<Option<&'h str>> {
        // The last one counts, as in the request.
        let mut headers = extra.iter().rev().chain(self.program_headers.iter().rev());
        headers.find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_deref())
    }
}

/// What a search for a login found.
#[derive(Debug)]
pub enum Login {
    /// A login.
    Found(Credential),
    /// A key, but no login that may be used.
    KeyOnly,
    /// Neither.
    Missing,
}

/// The recording of an exchange, if there is one.
struct Recording(Option<Exchange>);

impl Recording {
    fn answered(self, result: reqwest::Result<Response>) -> reqwest::Result<Response> {
        match self.0 {
            Some(exchange) => exchange.answered(result),
            None => result,
        }
    }
}

fn insert(headers: &mut HeaderMap, name: &str, value: &str) -> Result<()> {
    let invalid = || Error::new(ErrorKind::Config, format!("header {name:?} cannot be sent"));
    let header = HeaderName::try_from(name).map_err(|_| invalid())?;
    headers.insert(header, HeaderValue::try_from(value).map_err(|_| invalid())?);
    Ok(())
}
