//! The account: whose credential a request carries, and how it stays valid.
//!
//! Access tokens live 15 minutes, refresh tokens work once, and several programs of a machine share one login: Pi (many at
//! once), the official client, editors, quota meters. Everything here serves one sentence: one refresh per machine, never a
//! lost login. `docs/architecture.md` has the whole picture; order of sources and locks: design §5.

pub mod account;
pub mod atomic;
pub mod claims;
pub mod credential;
pub mod device_flow;
mod lineage;
pub mod lock;
pub mod owner;
pub mod pi_auth;
pub mod process;
pub mod refresh;
#[cfg(test)]
mod samples;
pub mod store;
pub mod token;

pub use account::{Account, Places};
pub use credential::{Credential, Passed};
pub use owner::Owner;
