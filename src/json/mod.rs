//! Lenient reading of the JSON that services and programs send.

pub mod lenient;
pub mod surrogates;
