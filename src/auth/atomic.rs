//! Replacing a small private file so that a reader sees the old content or the new one, never a part, whatever happens to us.

use std::ffi::OsString;
#[cfg(unix)]
use std::fs::File;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Writes `content` to `path`. The file is created 0600 in a 0700 directory; an existing file keeps its mode and a symbolic
/// link keeps pointing where it points.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    // A link whose target does not exist yet cannot be resolved; then its own place is the right one.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let directory = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    create_private_dir(directory)?;
    let temporary = sibling(&target);
    let written = write_new(&temporary, content, mode_of(&target)).and_then(|()| rename(&temporary, &target));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written?;
    #[cfg(unix)]
    {
        // The rename itself has to survive a power failure; a file system that cannot do that has done its best.
        let _ = File::open(directory).and_then(|directory| directory.sync_all());
    }
    Ok(())
}

/// Finds out whether [`replace`] would succeed with `size` bytes, without touching the file. To be asked before something is
/// spent whose successor has to be stored.
pub fn can_replace(path: &Path, size: usize) -> io::Result<()> {
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    create_private_dir(target.parent().unwrap_or(Path::new(".")))?;
    let temporary = sibling(&target);
    let result = write_new(&temporary, &vec![b' '; size], 0o600);
    let _ = fs::remove_file(&temporary);
    result
}

/// Creates a directory and its parents, accessible to nobody else; one that exists is left as it is.
pub fn create_private_dir(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

/// The official client's form of a temporary name: `<file>.tmp.<pid>.<8 hex>` (kimi-code-2.1 §2.2).
fn sibling(target: &Path) -> PathBuf {
    let mut name = OsString::from(target);
    name.push(format!(".tmp.{}.{:08x}", std::process::id(), rand::random::<u32>()));
    name.into()
}

fn write_new(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(content)?;
    #[cfg(unix)]
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
    let _ = mode;
    file.sync_all()
}

#[cfg(unix)]
fn mode_of(path: &Path) -> u32 {
    fs::metadata(path)
        .map_or(0o600, |metadata| std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777)
}

#[cfg(not(unix))]
fn mode_of(_path: &Path) -> u32 {
    0o600
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
