//! The only code that names napi: converts, schedules, maps errors. It decides nothing.
//!
//! Everything here is described for its users in `extension/native.ts`.

mod auth;
mod files;
mod js_string;
mod media;
mod queries;
mod services;
mod turn;

use napi_derive::napi;
use serde::de::DeserializeOwned;

use crate::config::{Environment, base_url, load};
use crate::endpoint::Endpoint;
use crate::error::{Error, ErrorKind, Result};

pub use auth::{
    LoginHandle, ambient_login, base_of, has_ambient_login, login_options, remember_login, renew_login, reuse_login,
    settle, start_login,
};
pub use files::{FileUpload, file_upload};
pub use js_string::JsText;
pub use media::{MediaHandle, medium};
pub use queries::*;
pub use services::{ServiceCall, data_sources, service_call, tool_definitions};
pub use turn::{TurnHandle, start_turn};

/// Tokio with one worker: a client that waits on sockets needs no more, and every thread would be paid for at `require` time.
#[napi_derive::module_init]
fn init() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(4)
        .thread_name("kimi-code")
        .enable_all()
        .build();
    // Without our runtime napi falls back to its default one, which merely has more threads.
    if let Ok(runtime) = runtime {
        napi::bindgen_prelude::create_custom_tokio_runtime(runtime);
    }
}

/// Reads a request. Our own JavaScript has written it, so one that cannot be read is a defect.
fn read<T: DeserializeOwned>(request: &str) -> Result<T> {
    serde_json::from_str(request)
        .map_err(|error| Error::new(ErrorKind::Internal, format!("the request cannot be read: {error}")))
}

#[napi(catch_unwind)]
pub fn version() -> &'static str {
    crate::VERSION
}

/// Models known without a network, as JSON.
#[napi(catch_unwind)]
pub fn fallback_models() -> napi::Result<String> {
    serde_json::to_string(&crate::models::fallback()).map_err(|error| napi::Error::from_reason(error.to_string()))
}

/// The API root for this environment (JSON object of variables).
#[napi(catch_unwind)]
pub fn api_root(environment: String) -> napi::Result<String> {
    let variables = serde_json::from_str(&environment).map_err(|error| napi::Error::from_reason(error.to_string()))?;
    let environment = Environment::new(variables);
    Endpoint::from_base(base_url(&load(&environment).settings, None))
        .map(|endpoint| endpoint.root().to_owned())
        .map_err(|error| napi::Error::from_reason(error.message))
}

/// Writes diagnostics to `file` from now on. A second call changes nothing.
#[napi(catch_unwind)]
pub fn log_to(file: String) -> napi::Result<()> {
    crate::logging::log_to(file.as_ref()).map_err(|error| napi::Error::from_reason(error.to_string()))
}
