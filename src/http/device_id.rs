//! The id of this installation, which requests carry that imitate the official client.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::config::ascii;
use crate::storage::private_file::{create_private_dir, create_private_file};

/// Device ids of homes that cannot be written. They last as long as the process.
#[derive(Default)]
pub struct UnsavedDeviceIds(Mutex<BTreeMap<PathBuf, String>>);

/// Returns the id of this installation, shared with the official client: `<kimi home>/device_id`, read in any form and created
/// as a UUID (docs/protocol.md#device-id).
pub fn device_id(kimi_home: &Path, unsaved: &UnsavedDeviceIds) -> String {
    let path = kimi_home.join("device_id");
    let read = || fs::read_to_string(&path).ok().map(|text| ascii(&text)).filter(|id| !id.is_empty());
    read().unwrap_or_else(|| {
        let id = uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string();
        let created = create_private_dir(kimi_home)
            .and_then(|()| create_private_file(&path))
            .and_then(|mut file| file.write_all(id.as_bytes()));
        let first_unsaved = || {
            let mut ids = unsaved.0.lock().unwrap_or_else(PoisonError::into_inner);
            ids.entry(kimi_home.to_owned()).or_insert_with(|| id.clone()).clone()
        };
        // Another process may have written the id in between.
        if created.is_ok() { id } else { read().unwrap_or_else(first_unsaved) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_id_is_read_in_any_form_or_created_once() {
        let home = std::env::temp_dir().join(format!("kimi-device-{:016x}", rand::random::<u64>()));
        let id = device_id(&home, &UnsavedDeviceIds::default());
        assert_eq!(id.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert_eq!(&id[14..15], "4");
        assert_eq!(device_id(&home, &UnsavedDeviceIds::default()), id);
        fs::write(home.join("device_id"), " 0123456789abcdef0123456789abcdef\n").unwrap();
        assert_eq!(device_id(&home, &UnsavedDeviceIds::default()), "0123456789abcdef0123456789abcdef");
        fs::remove_dir_all(home).unwrap();
    }

    #[test]
    fn device_id_of_a_read_only_home_lasts_for_the_process() {
        let unsaved = UnsavedDeviceIds::default();
        let file = tempfile::NamedTempFile::new().unwrap();
        let id = device_id(&file.path().join("home"), &unsaved);
        assert_eq!(device_id(&file.path().join("home"), &unsaved), id);
        assert_ne!(device_id(&file.path().join("other"), &unsaved), id);
    }
}
