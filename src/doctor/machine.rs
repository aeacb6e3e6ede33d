//! Settings, the folders that are written to, and the upload index.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::auth::AccountId;
use crate::blocking::in_background;
use crate::chat::prompt_cache::store::Store;
use crate::client::Kimi;
use crate::config::{Environment, Files, Layers, Paths, RequestAddresses, load};
use crate::display_text::duration;
use crate::error::{Error, ErrorKind};
use crate::files::index::Index;
use crate::http::redact::KnownSecrets;
use crate::storage::private_file::create_private_file;

use super::{Check, cure_of};

/// Checks settings and folders. Blocks on small files.
pub fn checks(environment: &Environment) -> Vec<Check> {
    let layers = load(environment);
    let mut checks: Vec<Check> = layers
        .problems
        .iter()
        .map(|problem| {
            let (text, source) = (problem.to_string(), problem.source.as_str());
            if let Some(variable) = source.strip_prefix("environment variable ") {
                return Check::warning("settings", text, format!("Correct it, or run `unset {variable}`"));
            }
            if problem.path.is_empty() {
                return Check::fault("settings", text, format!("Correct {source}, or delete it to use the defaults"));
            }
            Check::warning("settings", text, format!("Correct or remove {} in {source}", problem.path))
        })
        .collect();
    if checks.is_empty() {
        checks.push(Check::ok("settings", sources(environment, &layers)));
    }
    checks.push(folders(environment));
    checks
}

/// Names where settings that are not at their default come from.
fn sources(environment: &Environment, layers: &Layers) -> String {
    let mut parts: Vec<String> =
        layers.origins.iter().map(|(path, origin)| format!("{path} from {origin}")).take(12).collect();
    if layers.origins.len() > parts.len() {
        parts.push(format!("{} more", layers.origins.len() - parts.len()));
    }
    let Files { home, project } = Files::of(environment);
    if let Some((file, false)) = project.filter(|(file, _)| file.exists()) {
        parts.push(format!("{} is not trusted", file.display()));
    }
    match (parts.is_empty(), home) {
        (false, _) => parts.join(", "),
        (true, Some(home)) => format!("defaults ({})", home.display()),
        (true, None) => "defaults".to_owned(),
    }
}

/// Checks that our own state and the logins can be written.
fn folders(environment: &Environment) -> Check {
    let paths = Paths::from_environment(environment);
    let Some(state) = paths.state.clone() else {
        return Check::fault("home", "there is no usable home directory", "Set HOME to a directory that you own");
    };
    let known: Vec<PathBuf> =
        [paths.agent_dir, paths.kimi_home.join("credentials"), paths.kimi_home.join("oauth")].into();
    for folder in std::iter::once(nearest(&state)).chain(known.into_iter().filter(|folder| folder.exists())) {
        if let Err(error) = writable(&folder) {
            let shown = folder.display();
            return Check::fault(
                "home",
                format!("{shown} cannot be written: {error}"),
                match error.kind() {
                    io::ErrorKind::StorageFull => "Free some space on the disk".to_owned(),
                    io::ErrorKind::ReadOnlyFilesystem => "Mount the home directory writable, or set HOME".to_owned(),
                    _ => format!("Run `sudo chown -R \"$USER\" {shown} && chmod -R u+rwX {shown}`"),
                },
            );
        }
    }
    Check::ok("home", format!("{} and the folders of the logins can be written", state.display()))
}

/// Returns the folder, or the nearest one above it that exists.
fn nearest(folder: &Path) -> PathBuf {
    folder.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(folder).to_owned()
}

fn writable(folder: &Path) -> io::Result<()> {
    let file = folder.join(format!(".kimi-doctor.{:016x}", rand::random::<u64>()));
    create_private_file(&file)?;
    fs::remove_file(file)
}

/// Where the address of requests comes from, and how it is corrected.
#[derive(Debug, Clone)]
pub struct AddressOrigin {
    /// `environment variable KIMI_CODE_BASE_URL`, a file, or `default`.
    pub name: String,
    /// What to correct; `None` for the service's own address.
    pub correction: Option<String>,
}

impl AddressOrigin {
    /// Finds the layer that decides.
    pub fn find(environment: &Environment, addresses: &RequestAddresses) -> Self {
        let origins = load(environment).origins;
        let own = origins.get("baseUrl");
        let is_named = |base: &Option<String>| base.as_deref().is_some_and(|base| !base.trim().is_empty());
        // A variable outranks models.json, and models.json our file (docs/settings.md#addresses).
        if is_named(&addresses.models_json_base_url) && own.is_none_or(|own| !own.starts_with("environment ")) {
            let file = Paths::from_environment(environment).agent_dir.join("models.json");
            let correction = format!("Correct or remove `baseUrl` of kimi-coding in {}", file.display());
            return Self { name: file.display().to_string(), correction: Some(correction) };
        }
        match own {
            Some(own) => {
                let correction = match own.strip_prefix("environment variable ") {
                    Some(variable) => format!("Correct {variable}, or run `unset {variable}`"),
                    None => format!("Correct or remove baseUrl in {own}"),
                };
                Self { name: own.clone(), correction: Some(correction) }
            }
            None => Self { name: "default".to_owned(), correction: None },
        }
    }

    /// Returns the cure for an address that leads nowhere.
    pub fn cure(&self, otherwise: &str) -> String {
        self.correction.clone().unwrap_or_else(|| otherwise.to_owned())
    }

    /// Reports a configuration with which no request can be sent.
    pub fn unusable(&self, error: &Error) -> Check {
        let cure = match error.kind {
            ErrorKind::Config => self.cure("Correct the setting that the message names"),
            _ => cure_of(error),
        };
        Check::fault("service", error.message.clone(), cure)
    }
}

/// Tells how well the last session used the prompt cache.
pub async fn cache(kimi: &Kimi) -> Check {
    let state = kimi.config.state_directory.clone();
    let reading = in_background(move || Ok(state.and_then(|state| Store::last(&state))));
    let Ok(Some((written, session))) = reading.await else {
        return Check::ok("cache", "no session is recorded");
    };
    let mut verdicts: BTreeMap<String, usize> = BTreeMap::new();
    let (mut prompt, mut cached) = (0, 0);
    for request in &session.requests {
        let verdict = serde_json::to_value(request.verdict).ok().and_then(|name| Some(name.as_str()?.to_owned()));
        *verdicts.entry(verdict.unwrap_or_default()).or_default() += 1;
        prompt += request.usage.map_or(0, |usage| usage.prompt);
        cached += request.usage.map_or(0, |usage| usage.cached);
    }
    let counts: Vec<String> = verdicts.iter().map(|(verdict, count)| format!("{count} {verdict}")).collect();
    let share = (cached * 100).checked_div(prompt);
    let share = share.map_or(String::new(), |share| format!("; {share} % of the prompts came from the cache"));
    let age = duration(written.elapsed().unwrap_or_default());
    Check::ok("cache", format!("the last session, {age} ago: {}{share}", counts.join(", ")))
}

/// Tells how many uploads are known for the account.
pub async fn uploads(kimi: &Kimi, token: Option<String>) -> Check {
    let (root, state) = (kimi.config.endpoint.root().to_owned(), kimi.config.state_directory.clone());
    let known = Arc::clone(&kimi.process);
    let counted = in_background(move || {
        let Some(token) = token else { return Ok(None) };
        KnownSecrets::shared().add_credential(&token);
        let account = AccountId::new(&root, &token, state.as_deref());
        Index::new(state.as_deref(), account, known.get())
            .count()
            .map(Some)
            .map_err(|error| Error::new(ErrorKind::Io, error.to_string()))
    });
    match counted.await {
        Ok(Some(1)) => Check::ok("uploads", "1 uploaded file is known"),
        Ok(Some(count)) => Check::ok("uploads", format!("{count} uploaded files are known")),
        Ok(None) => Check::ok("uploads", "no account, so no uploaded files are known"),
        Err(error) => Check::warning(
            "uploads",
            format!("the list of uploaded files cannot be read: {}", error.message),
            "Delete the folder: `rm -r ~/.pi/pi-provider-kimi-code/uploads`; files are uploaded again",
        ),
    }
}
