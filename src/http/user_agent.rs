//! Who we say we are, and which extra headers may travel along.
//!
//! An honest User-Agent that begins exactly as Pi's own does, because the service is known to accept that one and clients
//! that imitated the official CLI were banned (docs/protocol.md#identity-gate). Header rules: docs/protocol.md#header-values,
//! docs/protocol.md#custom-headers.

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

/// The program around us, as far as it tells. All fields may be missing.
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
    /// `pi/<version> (<platform>; <runtime>; <arch>) pi-provider-kimi-code/<version>`; outside Pi without the first part.
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

    /// The headers that say who is asking, as (name, value). Honest ones hold nothing but the agent.
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

/// The id of this installation, shared with the official client: `<kimi home>/device_id`, taken as it is in any form and
/// created as a UUID (docs/protocol.md#device-id). Where it cannot be written, it lasts as long as the process.
pub fn device_id(kimi_home: &Path) -> String {
    let path = kimi_home.join("device_id");
    let read = || fs::read_to_string(&path).ok().map(|text| ascii(&text)).filter(|id| !id.is_empty());
    read().unwrap_or_else(|| {
        let id = uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string();
        let created = create_private_dir(kimi_home)
            .and_then(|()| create_private_file(&path))
            .and_then(|mut file| file.write_all(id.as_bytes()));
        // The faster process has written the id that counts.
        if created.is_err() { read().unwrap_or_else(|| unwritten(kimi_home, id)) } else { id }
    })
}

/// The id of a home that cannot be written: the first one that was tried.
fn unwritten(kimi_home: &Path, id: String) -> String {
    static IDS: Mutex<BTreeMap<PathBuf, String>> = Mutex::new(BTreeMap::new());
    IDS.lock().unwrap_or_else(PoisonError::into_inner).entry(kimi_home.to_owned()).or_insert(id).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_begins_like_pi_and_names_us() {
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

    /// The headers of docs/protocol.md#identity-headers; nothing of it is sent unless it was asked for.
    #[test]
    fn the_official_identity_is_complete_and_never_accidental() {
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
    fn the_device_id_is_taken_as_it_is_or_made_once() {
        let home = std::env::temp_dir().join(format!("kimi-device-{:016x}", rand::random::<u64>()));
        let id = device_id(&home);
        assert_eq!(id.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert_eq!(&id[14..15], "4");
        assert_eq!(device_id(&home), id);
        fs::write(home.join("device_id"), " 0123456789abcdef0123456789abcdef\n").unwrap();
        assert_eq!(device_id(&home), "0123456789abcdef0123456789abcdef");
        fs::remove_dir_all(home).unwrap();
    }

    #[test]
    fn a_home_that_cannot_be_written_has_one_device_id_for_the_process() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let id = device_id(&file.path().join("home"));
        assert_eq!(device_id(&file.path().join("home")), id);
        assert_ne!(device_id(&file.path().join("other")), id);
    }
}
