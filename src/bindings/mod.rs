//! The only code that names napi: converts, schedules, maps errors. It decides nothing.
//!
//! Everything here is described for its users in `extension/native/addon.ts`.

mod auth;
mod context;
mod error;
mod files;
mod js_string;
mod media;
mod node_runtime;
#[cfg(unix)]
mod process_exit;
mod queries;
mod services;
mod turn;
mod turn_hub;

use napi_derive::napi;
use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Result};

pub use auth::{
    LoginHandle, base_of, cli_login, has_cli_login, has_login, login_options, logout, register_login, renew_login,
    reuse_login, shutdown, start_login,
};
pub use files::{FileUpload, file_upload, prepare_media};
pub use js_string::JsText;
pub use media::{MediaHandle, media};
pub use queries::*;
pub use services::{ServiceCall, data_sources, service_call, tool_definitions};
pub use turn::{TurnHandle, op_codes};
pub use turn_hub::TurnHub;

/// Runs once per process, before the first environment starts.
#[napi_derive::module_init]
fn init() {
    node_runtime::register();
    #[cfg(unix)]
    process_exit::register();
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

/// Makes advice in error messages speak to users of Pi, for example of `/login`. Without it, they speak to programs.
#[napi(catch_unwind)]
pub fn advise_users_of_pi() {
    error::advise_users_of_pi();
}

/// Models known without a network, as JSON.
#[napi(catch_unwind)]
pub fn fallback_models() -> napi::Result<String> {
    serde_json::to_string(&crate::models::fallback()).map_err(|error| napi::Error::from_reason(error.to_string()))
}

/// Writes diagnostics to `file` from now on. A second call changes nothing.
#[napi(catch_unwind)]
pub fn log_to(file: String) -> napi::Result<()> {
    crate::logging::log_to(file.as_ref()).map_err(|error| napi::Error::from_reason(error.to_string()))
}
