//! The point at which a process ends: every sync of the disk and every request to a remote system is one.

use std::future::{Future, pending};
use std::io;
use std::path::Path;
use std::sync::Arc;

use kurier::store::local::{Disk, DiskFile};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::store::sim_disk::{SimDisk, SimFile};

/// On which side of a point the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Before,
    After,
}

/// Counts a process's points and ends it at one. From then on nothing of it is answered any more.
#[derive(Clone, Default)]
pub(super) struct Fuse(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    blown: Notify,
}

#[derive(Default)]
struct State {
    passed: Vec<String>,
    at: Option<(usize, Side)>,
    is_blown: bool,
}

impl Fuse {
    /// One that ends the process at this point, counted from 1.
    pub(super) fn at(point: usize, side: Side) -> Self {
        let fuse = Self::default();
        fuse.0.state.lock().at = Some((point, side));
        fuse
    }

    /// The points so far.
    pub(super) fn passed(&self) -> Vec<String> {
        self.0.state.lock().passed.clone()
    }

    /// Resolves when the process is to end.
    pub(super) async fn blown(&self) {
        self.0.blown.notified().await;
    }

    pub(super) fn is_blown(&self) -> bool {
        self.0.state.lock().is_blown
    }

    /// Goes on only in a process that lives.
    pub(super) async fn alive(&self) {
        if self.is_blown() {
            pending::<()>().await;
        }
    }

    async fn blow(&self) {
        self.0.state.lock().is_blown = true;
        self.0.blown.notify_one();
        pending::<()>().await;
    }

    /// Passes a point.
    pub(super) async fn point<T>(&self, name: impl FnOnce() -> String, work: impl Future<Output = T>) -> T {
        self.alive().await;
        let side = {
            let mut state = self.0.state.lock();
            state.passed.push(name());
            state.at.filter(|(point, _)| *point == state.passed.len()).map(|(_, side)| side)
        };
        if side == Some(Side::Before) {
            self.blow().await;
        }
        let done = work.await;
        if side == Some(Side::After) {
            self.blow().await;
        }
        self.alive().await;
        done
    }
}

/// The simulated disk, with a point at each sync.
pub(super) struct FusedDisk {
    pub(super) disk: SimDisk,
    pub(super) fuse: Fuse,
}

/// An open file of it.
pub(super) struct FusedFile {
    file: SimFile,
    name: String,
    fuse: Fuse,
}

impl FusedDisk {
    async fn file(&self, path: &Path, opened: impl Future<Output = io::Result<SimFile>>) -> io::Result<FusedFile> {
        self.fuse.alive().await;
        Ok(FusedFile { file: opened.await?, name: path.display().to_string(), fuse: self.fuse.clone() })
    }
}

impl Disk for FusedDisk {
    type File = FusedFile;

    async fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.fuse.alive().await;
        self.disk.create_dir(path).await
    }

    async fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.fuse.alive().await;
        self.disk.list(path).await
    }

    async fn create(&self, path: &Path) -> io::Result<FusedFile> {
        self.file(path, self.disk.create(path)).await
    }

    async fn open(&self, path: &Path) -> io::Result<FusedFile> {
        self.file(path, self.disk.open(path)).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.fuse.alive().await;
        self.disk.rename(from, to).await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        self.fuse.alive().await;
        self.disk.remove(path).await
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.fuse.point(|| format!("sync of the names in {}", path.display()), self.disk.sync_dir(path)).await
    }

    async fn file_system(&self, path: &Path) -> io::Result<u64> {
        self.fuse.alive().await;
        self.disk.file_system(path).await
    }

    async fn is_same(&self, path: &Path, file: &FusedFile) -> io::Result<bool> {
        self.fuse.alive().await;
        self.disk.is_same(path, &file.file).await
    }
}

impl DiskFile for FusedFile {
    async fn length(&self) -> io::Result<u64> {
        self.fuse.alive().await;
        self.file.length().await
    }

    async fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.fuse.alive().await;
        self.file.read_at(offset, buffer).await
    }

    async fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.fuse.alive().await;
        self.file.write_at(offset, bytes).await
    }

    async fn sync_data(&self) -> io::Result<()> {
        self.fuse.point(|| format!("sync of {}", self.name), self.file.sync_data()).await
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.file.try_lock()
    }

    fn unlock(&self) -> io::Result<()> {
        self.file.unlock()
    }

    fn note_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        // Nobody awaits it: a process that has ended notes nothing.
        if self.fuse.is_blown() { Ok(()) } else { self.file.note_at(offset, bytes) }
    }
}
