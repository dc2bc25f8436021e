//! The seam to the disk. The real one makes plain blocking calls on the thread that awaits them: the committer
//! and its helpers have threads of their own for that, and a caller that commits says so to its runtime
//! (`committer::caller`). A simulated one delays, fails, tears and forgets.
//!
//! Nothing here decides anything: what to do about a failure is the committer's business.

use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A file system, as far as the store needs one.
pub trait Disk: Send + Sync + 'static {
    /// An open file.
    type File: DiskFile;

    /// Makes a folder and those above it, and their names durable; it may exist.
    fn create_dir(&self, path: &Path) -> impl Future<Output = io::Result<()>> + Send;

    /// The names in a folder, sorted. A missing folder is an error of kind `NotFound`.
    fn list(&self, path: &Path) -> impl Future<Output = io::Result<Vec<String>>> + Send;

    /// Opens a file for reading and writing, and makes an empty one if there is none.
    fn create(&self, path: &Path) -> impl Future<Output = io::Result<Self::File>> + Send;

    /// Opens an existing file for reading and writing. Where its file system is read-only it can still be read, and a
    /// write is an error of kind `ReadOnlyFilesystem`.
    fn open(&self, path: &Path) -> impl Future<Output = io::Result<Self::File>> + Send;

    /// Renames a file, over another one if need be.
    fn rename(&self, from: &Path, to: &Path) -> impl Future<Output = io::Result<()>> + Send;

    /// Removes a file.
    fn remove(&self, path: &Path) -> impl Future<Output = io::Result<()>> + Send;

    /// Makes the names in a folder durable.
    fn sync_dir(&self, path: &Path) -> impl Future<Output = io::Result<()>> + Send;

    /// The type of file system that a folder or file lies on, as `statfs` numbers it.
    fn file_system(&self, path: &Path) -> impl Future<Output = io::Result<u64>> + Send;

    /// Whether this path still names this very file.
    fn is_same(&self, path: &Path, file: &Self::File) -> impl Future<Output = io::Result<bool>> + Send;
}

/// An open file.
pub trait DiskFile: Send + Sync + 'static {
    /// Its length.
    fn length(&self) -> impl Future<Output = io::Result<u64>> + Send;

    /// Fills the whole buffer from this offset.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> impl Future<Output = io::Result<()>> + Send;

    /// Writes all bytes at this offset, not yet durable.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> impl Future<Output = io::Result<()>> + Send;

    /// Makes everything written durable, and the length.
    fn sync_data(&self) -> impl Future<Output = io::Result<()>> + Send;

    /// Locks the file against every other opener; `false` if another one holds it. Dropping the file
    /// releases it.
    ///
    /// # Errors
    /// The file system has no locks.
    fn try_lock(&self) -> io::Result<bool>;

    /// Releases the lock, also from handles that another process was born with.
    ///
    /// # Errors
    /// The file system has no locks.
    fn unlock(&self) -> io::Result<()>;

    /// Notes a few bytes without waiting for anything and without making them durable.
    ///
    /// # Errors
    /// The disk said no.
    fn note_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
}

/// The machine's file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct FileDisk;

impl Disk for FileDisk {
    type File = File;

    async fn create_dir(&self, path: &Path) -> io::Result<()> {
        let missing: Vec<PathBuf> = path.ancestors().take_while(|path| !path.exists()).map(Path::to_path_buf).collect();
        // What senders sent is nobody else's business on this machine.
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        for created in missing {
            if let Some(parent) = created.parent() {
                self.sync_dir(parent).await?;
            }
        }
        Ok(())
    }

    async fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(path)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    async fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
    }

    async fn open(&self, path: &Path) -> io::Result<File> {
        match OpenOptions::new().read(true).write(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => File::open(path),
            opened => opened,
        }
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        File::open(path)?.sync_all()
    }

    async fn file_system(&self, path: &Path) -> io::Result<u64> {
        // The kernel's magic numbers are 32 bits wide; some platforms extend their sign.
        Ok(u64::from_ne_bytes(rustix::fs::statfs(path)?.f_type.to_ne_bytes()) & 0xffff_ffff)
    }

    async fn is_same(&self, path: &Path, file: &File) -> io::Result<bool> {
        let (ours, named) = (file.metadata()?, std::fs::metadata(path)?);
        Ok((ours.dev(), ours.ino()) == (named.dev(), named.ino()))
    }
}

impl DiskFile for File {
    async fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    async fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }

    async fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset).map_err(|error| {
            // It is open, so what it is not open for is writing.
            let is_for_reading = error.raw_os_error() == Some(rustix::io::Errno::BADF.raw_os_error());
            if is_for_reading { rustix::io::Errno::ROFS.into() } else { error }
        })
    }

    async fn sync_data(&self) -> io::Result<()> {
        Self::sync_data(self)
    }

    fn try_lock(&self) -> io::Result<bool> {
        match Self::try_lock(self) {
            Ok(()) => Ok(true),
            Err(std::fs::TryLockError::WouldBlock) => Ok(false),
            Err(std::fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn unlock(&self) -> io::Result<()> {
        Self::unlock(self)
    }

    fn note_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As [`Disk::open`] opens it on a read-only file system, which tests can't count on.
    #[tokio::test]
    async fn a_write_to_what_is_open_for_reading_only_says_that_the_file_system_is_read_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("segment");
        std::fs::write(&path, b"written").unwrap();
        let file = File::open(&path).unwrap();
        let error = DiskFile::write_at(&file, 0, b"changed").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem, "{error}");
        DiskFile::write_at(&FileDisk.open(&path).await.unwrap(), 0, b"changed").await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"changed");
    }
}
