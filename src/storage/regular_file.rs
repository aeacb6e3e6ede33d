//! Opens files that others name or have put in place of ours, without waiting for one that never ends.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;

/// Folders whose files are made by the kernel: they have no size, and reading one may block or change something.
#[cfg(target_os = "linux")]
const KERNEL_FOLDERS: [&str; 3] = ["/proc", "/sys", "/dev"];

/// A real file below a kernel folder: shared memory is kept there.
#[cfg(target_os = "linux")]
const SHARED_MEMORY: &str = "/dev/shm";

/// Opens a regular file for reading. Pipes, devices, folders and files of the kernel are an error, at once.
pub fn open_regular(path: &Path) -> io::Result<File> {
    // Looked at before opening, because opening a device may have an effect.
    check(&fs::metadata(path)?)?;
    #[cfg(target_os = "linux")]
    if let Ok(real) = fs::canonicalize(path)
        && KERNEL_FOLDERS.iter().any(|folder| real.starts_with(folder))
        && !real.starts_with(SHARED_MEMORY)
    {
        return Err(special());
    }
    let mut options = OpenOptions::new();
    options.read(true);
    // A pipe that has taken the file's place since would otherwise wait for a writer.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
    let file = options.open(path)?;
    check(&file.metadata()?)?;
    Ok(file)
}

fn check(metadata: &fs::Metadata) -> io::Result<()> {
    if metadata.is_file() { Ok(()) } else { Err(special()) }
}

fn special() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is no file but a folder, pipe, device or kernel interface")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regular_file_is_opened_and_a_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        fs::write(&file, "x").unwrap();
        assert!(open_regular(&file).is_ok());
        assert_eq!(
            open_regular(folder.path()).unwrap_err().to_string(),
            "it is no file but a folder, pipe, device or kernel interface"
        );
        assert_eq!(open_regular(&folder.path().join("b")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn pipe_device_and_kernel_file_are_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/proc/self/environ", &link).unwrap();
        let special = [&pipe, Path::new("/dev/zero"), Path::new("/proc/self/environ"), Path::new("/proc/kmsg"), &link];
        for path in special {
            assert_eq!(
                open_regular(path).unwrap_err().to_string(),
                "it is no file but a folder, pipe, device or kernel interface",
                "{}",
                path.display()
            );
        }
    }
}
