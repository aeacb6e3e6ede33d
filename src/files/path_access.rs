//! Decides which paths may be read for a session: those inside the project, and those that the user wrote.

use std::path::{Path, PathBuf};

use url::Url;

use crate::error::{Error, ErrorKind, Result};

/// The paths that a request may read.
#[derive(Debug, Clone, Default)]
pub struct PathAccess {
    /// The project folder; without one every path may be read.
    pub project: Option<PathBuf>,
    /// Paths that the user wrote in this session. Paths that a tool or a model wrote must not be here.
    pub allowed: Vec<String>,
    /// The user's home, for `~`.
    pub home: Option<PathBuf>,
}

impl PathAccess {
    /// Returns the absolute path of an existing file without links, or an error if it may not be read.
    pub fn resolve(&self, text: &str) -> Result<PathBuf> {
        let failed = |error| Error::new(ErrorKind::Io, format!("{text} cannot be read: {error}"));
        let path = std::fs::canonicalize(self.absolute(text)).map_err(failed)?;
        let Some(project) = &self.project else { return Ok(path) };
        let is_inside = std::fs::canonicalize(project).is_ok_and(|project| path.starts_with(project));
        let is_path = |allowed: &String| std::fs::canonicalize(self.absolute(allowed)).is_ok_and(|known| known == path);
        if is_inside || self.allowed.iter().any(is_path) {
            return Ok(path);
        }
        let message =
            format!("{text} is outside of the project. It can be read if the user writes its path in a message.");
        Err(Error::new(ErrorKind::BadRequest, message))
    }

    /// Returns an absolute path for what a user or a model wrote: a `file:` address, a path below `~`, or a path relative to the
    /// project.
    fn absolute(&self, text: &str) -> PathBuf {
        if let Some(path) =
            Url::parse(text).ok().filter(|url| url.scheme() == "file").and_then(|url| url.to_file_path().ok())
        {
            return path;
        }
        let below_home = text.strip_prefix("~/").or_else(|| text.strip_prefix("~\\"));
        match (below_home, &self.home, &self.project) {
            (Some(rest), Some(home), _) => home.join(rest),
            (_, _, Some(project)) => project.join(text),
            _ => Path::new(text).to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folders(tempfile::TempDir);

    impl Folders {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            for name in ["project/sub", "home"] {
                std::fs::create_dir_all(folder.path().join(name)).unwrap();
            }
            for name in ["project/sub/in.mp4", "home/out.mp4"] {
                std::fs::write(folder.path().join(name), "x").unwrap();
            }
            Self(folder)
        }
        fn path(&self, name: &str) -> PathBuf {
            std::fs::canonicalize(self.0.path()).unwrap().join(name)
        }
        fn access(&self, allowed: &[&str]) -> PathAccess {
            PathAccess {
                project: Some(self.0.path().join("project")),
                allowed: allowed.iter().map(ToString::to_string).collect(),
                home: Some(self.0.path().join("home")),
            }
        }
    }

    #[test]
    fn path_inside_the_project_may_be_read() {
        let folders = Folders::new();
        let absolute = folders.path("project/sub/in.mp4");
        let address = Url::from_file_path(&absolute).unwrap().to_string();
        for text in ["sub/in.mp4", "./sub/../sub/in.mp4", absolute.to_str().unwrap(), &address] {
            assert_eq!(folders.access(&[]).resolve(text).unwrap(), absolute, "{text}");
        }
    }

    #[test]
    fn path_outside_of_the_project_only_if_the_user_wrote_it() {
        let folders = Folders::new();
        let outside = folders.path("home/out.mp4");
        for text in ["../home/out.mp4", "~/out.mp4", outside.to_str().unwrap()] {
            let error = folders.access(&["~/other.mp4"]).resolve(text).unwrap_err();
            assert_eq!(error.kind, ErrorKind::BadRequest);
            assert!(error.message.contains("is outside of the project"), "{}", error.message);
            assert_eq!(folders.access(&["~/out.mp4"]).resolve(text).unwrap(), outside, "{text}");
        }
        assert_eq!(PathAccess::default().resolve(outside.to_str().unwrap()).unwrap(), outside);
    }

    #[cfg(unix)]
    #[test]
    fn link_out_of_the_project_is_outside() {
        let folders = Folders::new();
        std::os::unix::fs::symlink(folders.path("home/out.mp4"), folders.path("project/link.mp4")).unwrap();
        assert_eq!(folders.access(&[]).resolve("link.mp4").unwrap_err().kind, ErrorKind::BadRequest);
    }

    #[test]
    fn path_that_does_not_exist_is_an_io_error() {
        let error = Folders::new().access(&[]).resolve("missing.mp4").unwrap_err();
        assert_eq!(error.kind, ErrorKind::Io);
        assert!(error.message.starts_with("missing.mp4 cannot be read: "), "{}", error.message);
    }
}
