//! Headers that identify the sender.
//!
//! The User-Agent is honest and begins exactly as Pi's own, because the service is known to accept that one and clients that
//! imitated the official CLI were banned (docs/protocol.md#identity-gate).

use crate::config::{Identity, ascii};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;

use crate::VERSION;
use crate::storage::private_file::{create_private_dir, create_private_file};

/// Release of the official client whose headers are sent where the user has asked for its identity
/// (docs/protocol.md#identity-headers).
const OFFICIAL_VERSION: &str = "2.1.0";

/// The calling program. All fields may be missing.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Host {
    /// Version of Pi; absent outside Pi.
    pub pi_version: Option<String>,
    /// `linux`, `darwin`, `win32` …
    pub platform: String,
    /// `node/v24.1.0` or `bun/1.4.5`.
    pub runtime: String,
    /// `x64`, `arm64` …
    pub arch: String,
    /// Name of the machine.
    pub machine: String,
    /// `Linux`, `Darwin`, `Windows_NT` …
    pub system: String,
    /// Kernel release.
    pub release: String,
}

impl Host {
    /// Returns `pi/<version> (<platform>; <runtime>; <arch>) pi-provider-kimi-code/<version>`; outside Pi without the first part.
    pub fn user_agent(&self) -> String {
        let ours = format!("pi-provider-kimi-code/{VERSION}");
        let details: Vec<String> = [&self.platform, &self.runtime, &self.arch]
            .into_iter()
            .map(|s| ascii(s))
            .filter(|s| !s.is_empty())
            .collect();
        let comment = if details.is_empty() { String::new() } else { format!(" ({})", details.join("; ")) };
        match &self.pi_version {
            Some(version) => format!("pi/{}{comment} {ours}", ascii(version)),
            None => format!("{ours}{comment}"),
        }
    }

    /// Returns the identifying headers as (name, value): the agent alone, unless the official client is imitated.
    pub fn headers(&self, identity: Identity, device_id: impl FnOnce() -> String) -> Vec<(&'static str, String)> {
        if identity == Identity::Honest {
            return vec![("user-agent", self.user_agent())];
        }
        let known =
            |text: &str| Some(ascii(text)).filter(|text| !text.is_empty()).unwrap_or_else(|| "unknown".to_owned());
        let system = match self.system.as_str() {
            "Darwin" => "macOS",
            "Windows_NT" => "Windows",
            other => other,
        };
        vec![
            ("user-agent", format!("kimi-code-cli/{OFFICIAL_VERSION}")),
            ("x-msh-platform", "kimi_code_cli".to_owned()),
            ("x-msh-version", OFFICIAL_VERSION.to_owned()),
            ("x-msh-device-name", known(&self.machine)),
            ("x-msh-device-model", known(&format!("{system} {} {}", self.release, self.arch))),
            ("x-msh-os-version", known(&self.release)),
            ("x-msh-device-id", known(&device_id())),
        ]
    }
}

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
    fn user_agent_begins_like_pi_and_names_this_package() {
        let host = Host {
            pi_version: Some("0.87.1".into()),
            platform: "linux".into(),
            runtime: "node/v24.1.0".into(),
            arch: "x64".into(),
            ..Host::default()
        };
        assert_eq!(host.user_agent(), format!("pi/0.87.1 (linux; node/v24.1.0; x64) pi-provider-kimi-code/{VERSION}"));
        assert_eq!(Host::default().user_agent(), format!("pi-provider-kimi-code/{VERSION}"));
    }

    /// The headers of docs/protocol.md#identity-headers; sent only if the user has set it.
    #[test]
    fn official_identity_is_complete_and_only_sent_if_set() {
        let host = Host {
            machine: "büro".into(),
            system: "Darwin".into(),
            release: "24.1.0".into(),
            arch: "arm64".into(),
            ..Host::default()
        };
        let honest = host.headers(Identity::Honest, || unreachable!("an honest request carries no device id"));
        assert_eq!(honest, [("user-agent", host.user_agent())]);
        let official = host.headers(Identity::KimiCode, || "id".to_owned());
        let value = |name: &str| official.iter().find(|(known, _)| *known == name).unwrap().1.as_str();
        assert_eq!(value("user-agent"), "kimi-code-cli/2.1.0");
        assert_eq!(value("x-msh-platform"), "kimi_code_cli");
        assert_eq!(value("x-msh-device-name"), "bro");
        assert_eq!(value("x-msh-device-model"), "macOS 24.1.0 arm64");
        assert_eq!(official.len(), 7);
    }

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
