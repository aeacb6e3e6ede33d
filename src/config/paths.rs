//! The folders of the programs involved.

use std::path::PathBuf;

use super::environment::Environment;

/// The folders that hold credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// Pi's agent directory, `~/.pi/agent`.
    pub agent_dir: PathBuf,
    /// The official client's home, `~/.kimi-code`.
    pub kimi_home: PathBuf,
    /// Its predecessor's home, `~/.kimi`; only read.
    pub legacy_home: PathBuf,
    /// Our own state folder, where there is a home for it.
    pub state: Option<PathBuf>,
    /// `KIMI_DISABLE_OAUTH_LOCK=1`: the official client would not take its lock either.
    pub without_kimi_lock: bool,
}

impl Paths {
    /// From `HOME` (which JavaScript fills in on every system) and the variables of the programs involved.
    pub fn from_environment(environment: &Environment) -> Self {
        let home = PathBuf::from(environment.get("HOME").unwrap_or("."));
        let place = |variable: &str, default: &str| match environment.get(variable) {
            None => home.join(default),
            Some("~") => home.clone(),
            Some(path) => path.strip_prefix("~/").map_or_else(|| PathBuf::from(path), |rest| home.join(rest)),
        };
        Self {
            agent_dir: place("PI_CODING_AGENT_DIR", ".pi/agent"),
            kimi_home: place("KIMI_CODE_HOME", ".kimi-code"),
            legacy_home: place("KIMI_SHARE_DIR", ".kimi"),
            state: environment.state_directory(),
            without_kimi_lock: environment.get("KIMI_DISABLE_OAUTH_LOCK") == Some("1"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_follow_the_variables_of_the_programs_they_belong_to() {
        let map = [("HOME", "/h"), ("KIMI_CODE_HOME", "~/k"), ("PI_CODING_AGENT_DIR", "/a")];
        let map = map.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect();
        let paths = Paths::from_environment(&Environment::new(map));
        assert_eq!(paths.agent_dir, PathBuf::from("/a"));
        assert_eq!(paths.kimi_home, PathBuf::from("/h/k"));
        assert_eq!(paths.legacy_home, PathBuf::from("/h/.kimi"));
    }
}
