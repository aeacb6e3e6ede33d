//! Credentials: which one a request carries, and how a login stays valid.
//!
//! Access tokens live 15 minutes, refresh tokens work once, and several programs of a machine share one login: Pi (many at
//! once), the official client, editors, quota meters. The goal is one refresh per machine and never a lost login. Order of
//! sources: docs/architecture.md#credential-order; of locks: docs/architecture.md#refresh-transaction.

pub mod account_id;
pub mod credential;
pub mod credential_sources;
pub mod device_flow;
pub mod jwt;
pub mod kimi_auth_file;
pub mod pi_auth_file;
pub mod refresh;
pub mod region;
#[cfg(test)]
mod samples;
pub mod token;
pub mod token_endpoint;

pub use account_id::AccountId;
pub use credential::Credential;
pub use credential_sources::{Account, SuppliedKey};
