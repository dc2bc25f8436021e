//! The shelf on the machine's disk: a folder per route, a file per request.
//!
//! A file is written under another name first, so that one which is there is whole; what a crash leaves of others goes at
//! the next start. Damage to one file is damage to one request, and what can't be read hides nothing else.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use super::entry::{PREFIX_BYTES, head_bytes};
use super::limits::{ENTRY_BYTES_MAX, FREE_BYTES_MIN, FREE_FILES_MIN};
use super::{Item, Part, Shelf};
use crate::model::{Name, RefusalId};

/// Who write a batch at the same time.
const WRITERS: usize = 8;

/// What the name of a file ends in until it is whole.
const UNFINISHED: &str = "part";

/// A folder of refused requests; it is made when the first one comes.
#[derive(Debug, Clone)]
pub struct Files {
    folder: Arc<Path>,
    /// Who changes what is there: a folder that has become empty must not be removed from under a file's first write.
    turn: Arc<Mutex<()>>,
}

impl Files {
    /// The shelf in this folder.
    pub fn in_folder(folder: &Path) -> Self {
        Self { folder: folder.into(), turn: Arc::default() }
    }

    fn path(&self, route: &str, id: RefusalId) -> PathBuf {
        self.folder.join(route).join(id.to_string())
    }

    /// What blocks runs where it may block.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(Self) -> io::Result<T> + Send + 'static) -> io::Result<T> {
        let files = self.clone();
        tokio::task::spawn_blocking(move || work(files)).await.map_err(io::Error::other)?
    }

    fn list_now(&self) -> io::Result<Vec<(Name, RefusalId, u64)>> {
        let (mut found, mut unread) = (Vec::new(), Vec::new());
        for folder in entries(&self.folder)? {
            let Some(route) = folder.file_name().and_then(OsStr::to_str).map(Name::from) else { continue };
            if !folder.is_dir() {
                continue;
            }
            match entries(&folder) {
                Ok(paths) => found.extend(paths.iter().filter_map(|path| {
                    let listed = listed(path).inspect_err(|error| unread.push(error.to_string()));
                    listed.ok()?.map(|(id, bytes)| (route.clone(), id, bytes))
                })),
                Err(error) => unread.push(error.to_string()),
            }
        }
        if let Some(error) = unread.first() {
            tracing::warn!(
                error,
                count = unread.len(),
                "in the quarantine {} can't be read and is left alone, first: {error}",
                unread.len()
            );
        }
        Ok(found)
    }

    fn put_now(&self, items: &[Item]) -> io::Result<()> {
        let _turn = self.turn.lock();
        create_folder(&self.folder)?;
        let disk = rustix::fs::statvfs(&*self.folder)?;
        if let Some(lack) = lack(disk.f_bavail.saturating_mul(disk.f_frsize), Some(disk.f_favail).filter(|_| disk.f_files > 0)) {
            return Err(io::Error::new(ErrorKind::StorageFull, lack));
        }
        let mut folders: Vec<PathBuf> = items.iter().map(|item| self.folder.join(&*item.route)).collect();
        folders.sort();
        folders.dedup();
        for folder in &folders {
            create_folder(folder)?;
        }
        self.write_together(items)?;
        folders.iter().try_for_each(|folder| sync_folder(folder))
    }

    /// Syncs that are asked for at the same time share the file system's commits: by far less of the disk's time than one
    /// after the other.
    fn write_together(&self, items: &[Item]) -> io::Result<()> {
        let write = |items: &[Item]| items.iter().try_for_each(|item| self.write(item));
        let share = items.len().div_ceil(WRITERS).max(1);
        std::thread::scope(|scope| {
            let begin = |items| std::thread::Builder::new().name("quarantine".to_owned()).spawn_scoped(scope, move || write(items));
            let writers: Vec<_> = items.chunks(share).map(begin).collect();
            let ended =
                writers.into_iter().map(|writer| writer?.join().unwrap_or_else(|_panic| Err(io::Error::other("a writer panicked"))));
            // Each is waited for, whatever became of the one before.
            ended.collect::<Vec<_>>().into_iter().collect()
        })
    }

    fn write(&self, item: &Item) -> io::Result<()> {
        let path = self.path(&item.route, item.id);
        let unfinished = path.with_extension(UNFINISHED);
        let write = || {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
            file.write_all(&item.bytes)?;
            file.sync_data()?;
            std::fs::rename(&unfinished, &path)
        };
        write().map_err(at(&path))
    }

    fn get_now(&self, route: &str, id: RefusalId, part: Part) -> io::Result<Option<Bytes>> {
        let mut file = match File::open(self.path(route, id)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        let bytes_max = (ENTRY_BYTES_MAX * 2) as u64;
        match part {
            Part::Whole => drop(file.take(bytes_max).read_to_end(&mut bytes)?),
            Part::Head => {
                Read::by_ref(&mut file).take(PREFIX_BYTES as u64).read_to_end(&mut bytes)?;
                let length = head_bytes(&bytes).unwrap_or(0) as u64;
                file.take(length.min(bytes_max)).read_to_end(&mut bytes)?;
            }
        }
        Ok(Some(bytes.into()))
    }
}

/// What the disk lacks for one more batch: bytes or files, of which some file systems have as many as they have bytes for.
fn lack(free_bytes: u64, free_files: Option<u64>) -> Option<String> {
    if free_bytes < FREE_BYTES_MIN {
        return Some(format!("fewer than {FREE_BYTES_MIN} bytes of the disk are free, which are left to the store"));
    }
    let is_short = free_files.is_some_and(|files| files < FREE_FILES_MIN);
    is_short.then(|| format!("the disk has room for fewer than {FREE_FILES_MIN} files (`df -i`), which are left to the store"))
}

/// Says where it happened: what an operator needs first.
fn at(path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// What is in a folder; nothing where there is none.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let read = || -> io::Result<Vec<PathBuf>> { std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect() };
    match read() {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        read => read.map_err(at(folder)),
    }
}

/// The request that is in this file, with its size; none in one that is not ours. What a crash left is removed.
fn listed(path: &Path) -> io::Result<Option<(RefusalId, u64)>> {
    if path.extension() == Some(OsStr::new(UNFINISHED)) {
        return remove_file(path).map(|()| None);
    }
    let Some(id) = path.file_name().and_then(OsStr::to_str).and_then(|name| name.parse().ok()) else { return Ok(None) };
    let metadata = std::fs::metadata(path).map_err(at(path))?;
    Ok(metadata.is_file().then_some((id, metadata.len())))
}

/// Makes a folder that nobody else may enter, durably; nothing where there is one.
fn create_folder(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => sync_folder(folder.parent().unwrap_or(folder)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(at(folder)(error)),
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(at(folder))
}

fn remove_file(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(at(path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[async_trait]
impl Shelf for Files {
    async fn list(&self) -> io::Result<Vec<(Name, RefusalId, u64)>> {
        self.blocking(|files| files.list_now()).await
    }

    async fn put(&self, items: Vec<Item>) -> io::Result<()> {
        self.blocking(move |files| {
            files.put_now(&items).inspect_err(|_error| {
                for item in &items {
                    let path = files.path(&item.route, item.id);
                    // What can't be removed either is found at the next start, as one more that is kept.
                    drop((remove_file(&path), remove_file(&path.with_extension(UNFINISHED))));
                }
            })
        })
        .await
    }

    async fn get(&self, route: &Name, id: RefusalId, part: Part) -> io::Result<Option<Bytes>> {
        let route = route.clone();
        self.blocking(move |files| files.get_now(&route, id, part)).await
    }

    async fn remove(&self, items: Vec<(Name, RefusalId)>) -> io::Result<()> {
        self.blocking(move |files| {
            let mut result = Ok(());
            for (route, id) in items {
                let _turn = files.turn.lock();
                result = result.and(remove_file(&files.path(&route, id)));
                // It goes with its last file; as long as there are others, this does nothing.
                drop(std::fs::remove_dir(files.folder.join(&*route)));
            }
            result
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_files_of_the_disk_are_left_to_the_store() {
        assert_eq!(lack(FREE_BYTES_MIN, Some(FREE_FILES_MIN)), None);
        assert_eq!(lack(FREE_BYTES_MIN, None), None, "a file system that does not count files");
        assert!(lack(FREE_BYTES_MIN - 1, None).is_some_and(|lack| lack.contains("bytes")));
        assert!(lack(u64::MAX, Some(FREE_FILES_MIN - 1)).is_some_and(|lack| lack.contains("files")));
    }
}
