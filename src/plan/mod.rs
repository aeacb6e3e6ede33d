//! The economy of a plan: how many requests run at once, and what a used-up quota window means for them.
//!
//! ```text
//! governor  admits requests of all processes up to the plan's parallel limit
//! slots     the files and kernel locks behind it · watch  wakes waiting requests
//! park      waits for a used-up window to open again
//! limits    how many slots there are: told by the service, set by the user, or learned from refusals
//! ```

pub mod governor;
mod limits;
pub mod park;
mod slots;
mod watch;

pub use governor::{Governor, Load, Permit};
pub use limits::Refusal;
pub use slots::Priority;
