//! Files that several processes share: private files, directory locks and leases.

pub mod clock;
pub mod dir_lock;
pub mod lease;
pub mod private_file;
pub mod regular_file;
pub mod remembered;
