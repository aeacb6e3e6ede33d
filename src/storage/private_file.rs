//! Files that only this user may read, replaced so that a reader sees the old content or the new one, never a part.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};

/// Hexadecimal digits in the names of our temporary files.
const OUR_DIGITS: usize = 16;

/// Writes `content` to `path`. The file is created 0600 in a 0700 directory; an existing file keeps its mode and a symbolic
/// link keeps pointing where it points.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut reserved = ReservedFile::reserve(path, 0)?;
    reserved.write(content)?;
    reserved.commit()
}

/// An open file with room for the next content of another file, made before that content exists. A later full disk can then not
/// prevent the write, and one system call is all that is left to do.
#[derive(Debug)]
pub struct ReservedFile {
    target: PathBuf,
    temporary: PathBuf,
    /// Closed before the file is put in place; Windows insists.
    file: Option<File>,
    /// Length of the content.
    length: u64,
}

impl ReservedFile {
    /// Takes room for `size` bytes beside `path`, without touching the file there.
    pub fn reserve(path: &Path, size: usize) -> io::Result<Self> {
        // A link whose target does not exist yet cannot be resolved; then its own place is the right one.
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        create_private_dir(folder(&target))?;
        let temporary = sibling(&target);
        let file = create_private_file(&temporary)?;
        let mut reserved = Self { target, temporary, file: None, length: 0 };
        if size > 0 {
            let mut file = &file;
            file.write_all(&vec![b' '; size])?;
            file.sync_all()?;
            file.rewind()?;
        }
        reserved.file = Some(file);
        Ok(reserved)
    }

    /// Hands `content` to the system. From here on it survives the death of this process: a successor finds it beside the file,
    /// followed by spaces. Cutting those off is left to [`Self::commit`], because it waits for the file system's journal.
    pub fn write(&mut self, content: &[u8]) -> io::Result<()> {
        self.length = content.len() as u64;
        self.file.as_mut().map_or(Ok(()), |file| file.write_all(content))
    }

    /// Puts what was written in the file's place, and makes it survive a power failure.
    pub fn commit(mut self) -> io::Result<()> {
        if let Some(file) = self.file.take() {
            file.set_len(self.length)?;
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
            // A file system that cannot sync a directory has done its best.
            let _ = File::open(folder(&self.target)).and_then(|directory| directory.sync_all());
        }
        Ok(())
    }
}

impl Drop for ReservedFile {
    fn drop(&mut self) {
        // Closed first, for Windows. After a commit nothing of that name is left.
        self.file = None;
        let _ = fs::remove_file(&self.temporary);
    }
}

fn folder(target: &Path) -> &Path {
    target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Creates a directory and its parents, 0700. An existing directory keeps its mode.
pub fn create_private_dir(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

/// Whether a part of this path is a link that another user made, who would then decide what is written where. Links of root are
/// part of the system.
pub fn has_foreign_link(path: &Path) -> bool {
    #[cfg(unix)]
    {
        let own = rustix::process::geteuid().as_raw();
        path.ancestors().filter_map(|part| fs::symlink_metadata(part).ok()).any(|metadata| {
            let owner = std::os::unix::fs::MetadataExt::uid(&metadata);
            metadata.is_symlink() && owner != own && owner != 0
        })
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        false
    }
}

/// Returns options for writing whose new files are 0600.
pub fn private_options() -> OpenOptions {
    let mut options = File::options();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Creates a file, 0600, that must not exist yet.
pub fn create_private_file(path: &Path) -> io::Result<File> {
    private_options().create_new(true).open(path)
}

/// Returns a temporary name in the official client's form, `<file>.tmp.<pid>.<hex>` (docs/protocol.md#official-client-file), but
/// with [`OUR_DIGITS`] instead of its 8.
fn sibling(target: &Path) -> PathBuf {
    let mut name = OsString::from(target);
    name.push(format!(".tmp.{}.{:0OUR_DIGITS$x}", std::process::id(), rand::random::<u64>()));
    name.into()
}

/// Whether this is the name of a temporary file of ours.
pub fn is_our_temporary(name: &str) -> bool {
    name.contains(".tmp.") && name.rsplit('.').next().is_some_and(|digits| digits.len() == OUR_DIGITS)
}

/// On Windows a rename fails while another process has the target open; that is over in milliseconds.
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
