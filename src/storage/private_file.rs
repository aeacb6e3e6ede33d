//! Replacing a small private file so that a reader sees the old content or the new one, never a part, whatever happens to us.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};

/// Writes `content` to `path`. The file is created 0600 in a 0700 directory; an existing file keeps its mode and a symbolic
/// link keeps pointing where it points.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    ReservedFile::reserve(path, 0)?.fill(content)
}

/// ReservedFile on disk for the next content of a file, taken before that content exists. Whoever spends something whose successor has
/// to be stored takes it first: then the disk cannot be full any more, and one write is all that is left to do.
#[derive(Debug)]
pub struct ReservedFile {
    target: PathBuf,
    temporary: PathBuf,
    /// Closed before the file is put in place; Windows insists.
    file: Option<File>,
}

impl ReservedFile {
    /// Takes room for `size` bytes beside `path`, without touching the file there.
    pub fn reserve(path: &Path, size: usize) -> io::Result<Self> {
        // A link whose target does not exist yet cannot be resolved; then its own place is the right one.
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        create_private_dir(folder(&target))?;
        let temporary = sibling(&target);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&temporary)?;
        let mut room = Self { target, temporary, file: None };
        if size > 0 {
            file.write_all(&vec![b' '; size])?;
            file.sync_all()?;
            file.rewind()?;
        }
        room.file = Some(file);
        Ok(room)
    }

    /// Puts `content` in the file's place.
    pub fn fill(mut self, content: &[u8]) -> io::Result<()> {
        if let Some(mut file) = self.file.take() {
            file.write_all(content)?;
            file.set_len(content.len() as u64)?;
            #[cfg(unix)]
            if let Ok(old) = fs::metadata(&self.target) {
                let mode = std::os::unix::fs::PermissionsExt::mode(&old.permissions()) & 0o777;
                file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
            }
            file.sync_all()?;
        }
        rename(&self.temporary, &self.target)?;
        #[cfg(unix)]
        {
            // The rename itself has to survive a power failure; a file system that cannot do that has done its best.
            let _ = File::open(folder(&self.target)).and_then(|directory| directory.sync_all());
        }
        Ok(())
    }
}

impl Drop for ReservedFile {
    fn drop(&mut self) {
        // Closed first, for Windows. Once the file is in its place, nothing of that name is left.
        self.file = None;
        let _ = fs::remove_file(&self.temporary);
    }
}

fn folder(target: &Path) -> &Path {
    target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Creates a directory and its parents, accessible to nobody else; one that exists is left as it is.
pub fn create_private_dir(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

/// The official client's form of a temporary name: `<file>.tmp.<pid>.<8 hex>` (docs/protocol.md#official-client-file).
fn sibling(target: &Path) -> PathBuf {
    let mut name = OsString::from(target);
    name.push(format!(".tmp.{}.{:08x}", std::process::id(), rand::random::<u32>()));
    name.into()
}

/// On Windows a rename fails while somebody has the target open; that is over in milliseconds.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let mut attempts = if cfg!(windows) { 10 } else { 1 };
    loop {
        attempts -= 1;
        match fs::rename(from, to) {
            Err(_) if attempts > 0 => std::thread::sleep(std::time::Duration::from_millis(20)),
            result => return result,
        }
    }
}
/// Creates a file that nobody else may read; it must not exist yet.
pub fn private_file(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Creates a folder that nobody else may read, and its parents.
pub fn private_directory(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}
