//! A disk that knows pending from durable: what was written and not synced survives the death of the process,
//! and after a power cut each 512-byte sector of it is old or new. Names are durable only once their folder was
//! synced. On request it stalls, fails, fills up, and freezes after so many calls.

mod world;

use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kurier::store::local::{Disk, DiskFile};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::bytes;
use super::sim_index::SimIndexes;
use world::{Inode, World};

/// What a failing sync does to what it should have made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Any part of it may have landed, and the kernel takes all of it for clean: no later sync writes it.
    Lost,
    /// All of it landed.
    Landed,
}

/// How a disk may lie: faults that the store could not survive, planted to show that the simulation sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    /// Every sync of a batch says OK, and nothing is durable.
    Syncs,
    /// The same for the sync of a header that says of a segment that it counts.
    HeaderSyncs,
    /// A segment that is removed, maybe while it is read, becomes the next one that is made.
    Pins,
    /// A record that copies an event says that its deliveries are new.
    Versions,
    /// A power cut leaves a marker that says that the index is whole.
    Marker,
}

/// What goes wrong, and how often.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    /// Of so many syncs, one fails.
    pub(crate) sync_fails: Option<u32>,
    /// The next sync ends the thread that asks for it by a panic.
    pub(crate) sync_panics: bool,
    /// Of so many writes, one fails: half-way, or although all of it was written.
    pub(crate) write_fails: Option<u32>,
    /// Of so many reads, one fails.
    pub(crate) reads_fail: Option<u32>,
    /// Of so many changes of names and syncs of folders, one fails, whether it was done or not.
    pub(crate) names_fail: Option<u32>,
    /// Every write and sync fails.
    pub(crate) all_fail: bool,
    /// From this call on its file system is read-only, as ext4 makes it after an error (`errors=remount-ro`).
    pub(crate) read_only_after: Option<u64>,
    /// Each sync takes so long.
    pub(crate) sync_takes: Duration,
    /// Of so many reads of a record, one stalls: its first half comes at once, the rest after `read_takes`.
    pub(crate) reads_stall: Option<u32>,
    /// The same of reads of a footer.
    pub(crate) footers_stall: Option<u32>,
    pub(crate) read_takes: Duration,
    /// Only the first failure happens.
    pub(crate) once: bool,
    /// Most bytes of all files.
    pub(crate) capacity: Option<u64>,
    /// After so many calls nothing is answered any more.
    pub(crate) freezes_after: Option<u64>,
    /// A planted fault.
    pub(crate) lie: Option<Lie>,
}

/// The disk; clones are the same one.
#[derive(Clone)]
pub(crate) struct SimDisk {
    world: Arc<Mutex<World>>,
    frozen: Arc<Notify>,
    /// What lies on it besides files.
    pub(crate) indexes: SimIndexes,
}

/// An open file of it.
pub(crate) struct SimFile {
    disk: SimDisk,
    inode: u64,
    holds_lock: Mutex<bool>,
}

impl SimDisk {
    pub(crate) fn new(seed: u64) -> Self {
        Self { world: Arc::new(Mutex::new(World::new(seed))), frozen: Arc::new(Notify::new()), indexes: SimIndexes::default() }
    }

    /// Another disk with the same bytes on it; nothing of it is locked, and its indexes are empty.
    pub(crate) fn copy(&self) -> Self {
        Self { world: Arc::new(Mutex::new(self.world.lock().copy())), frozen: Arc::new(Notify::new()), indexes: SimIndexes::default() }
    }

    /// A nonce that this disk never saw.
    pub(crate) fn nonce(&self) -> u128 {
        self.world.lock().nonce()
    }

    pub(crate) fn set(&self, faults: Faults) {
        let mut world = self.world.lock();
        world.calls = 0;
        world.faults = faults;
    }

    /// From now on this is the file system, as `statfs` numbers it.
    pub(crate) fn set_kind(&self, kind: u64) {
        self.world.lock().kind = kind;
    }

    /// The planted fault.
    pub(crate) fn lie(&self) -> Option<Lie> {
        self.world.lock().faults.lie
    }

    /// Resolves once the disk froze.
    pub(crate) async fn frozen(&self) {
        self.frozen.notified().await;
    }

    /// Syncs so far.
    pub(crate) fn syncs(&self) -> u64 {
        self.world.lock().syncs
    }

    /// How often a thread of this name synced.
    pub(crate) fn syncs_by(&self, thread: &str) -> u64 {
        self.world.lock().syncs_by.get(thread).copied().unwrap_or(0)
    }

    /// How often a thread of this name read.
    pub(crate) fn reads_by(&self, thread: &str) -> u64 {
        self.world.lock().reads_by.get(thread).copied().unwrap_or(0)
    }

    /// The power goes: of what was not synced, each sector and each name is old or new.
    pub(crate) fn cut_power(&self) {
        self.indexes.tear(self.world.lock().cut_power());
        if self.lie() == Some(Lie::Marker) {
            bytes::forge_clean(self);
        }
    }

    /// The power goes, and of what was not synced these pages of files are there.
    pub(crate) fn cut_power_keeping(&self, keeps: impl Fn(usize) -> bool) {
        self.world.lock().cut_power_keeping(keeps);
    }

    /// Bytes of a file as a reader finds them.
    pub(crate) fn bytes(&self, path: &Path) -> Vec<u8> {
        let world = self.world.lock();
        world.inodes[&world.names[path]].current.clone()
    }

    /// Changes a file behind the store's back, durably.
    pub(crate) fn tamper(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut world = self.world.lock();
        let inode = world.names[path];
        let inode = world.inodes.get_mut(&inode).unwrap();
        let mut bytes = inode.current.clone();
        change(&mut bytes);
        inode.put(bytes);
    }

    /// Puts a file there, durably.
    pub(crate) fn plant(&self, path: &Path, bytes: &[u8]) {
        let mut world = self.world.lock();
        let number = world.inode();
        let mut inode = Inode::default();
        inode.put(bytes.to_vec());
        world.inodes.insert(number, inode);
        world.names.insert(path.to_owned(), number);
        world.durable_names.insert(path.to_owned(), number);
    }

    /// Puts a copy of a file in its place.
    pub(crate) fn replace(&self, path: &Path) {
        let bytes = self.bytes(path);
        self.plant(path, &bytes);
    }

    /// Loses a file, if it is there.
    pub(crate) fn forget(&self, path: &Path) {
        let mut world = self.world.lock();
        world.names.remove(path);
        world.durable_names.remove(path);
    }

    /// Bytes of all files.
    pub(crate) fn used(&self) -> u64 {
        self.world.lock().used()
    }

    /// The names in a folder.
    pub(crate) fn names(&self, dir: &Path) -> Vec<String> {
        let world = self.world.lock();
        let inside = world.names.keys().filter(|path| path.parent() == Some(dir));
        inside.map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }

    async fn call<T>(&self, work: impl FnOnce(&mut World) -> io::Result<T>) -> io::Result<T> {
        let is_frozen = {
            let mut world = self.world.lock();
            world.calls += 1;
            world.faults.freezes_after.is_some_and(|after| world.calls > after)
        };
        if is_frozen {
            self.frozen.notify_one();
            std::future::pending::<()>().await;
        }
        tokio::task::yield_now().await;
        work(&mut self.world.lock())
    }
}

impl Disk for SimDisk {
    type File = SimFile;

    async fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.call(|world| {
            world.dirs.extend(path.ancestors().map(Path::to_path_buf));
            Ok(())
        })
        .await
    }

    async fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.call(|world| if world.dirs.contains(path) { Ok(()) } else { Err(io::Error::from(io::ErrorKind::NotFound)) }).await?;
        let files = self.names(path);
        let world = self.world.lock();
        let dirs = world.dirs.iter().filter(|dir| dir.parent() == Some(path));
        let mut names: Vec<_> = dirs.map(|dir| dir.file_name().unwrap().to_string_lossy().into_owned()).collect();
        names.extend(files);
        names.sort();
        Ok(names)
    }

    async fn create(&self, path: &Path) -> io::Result<SimFile> {
        let inode = self.call(|world| world.create(path)).await?;
        Ok(SimFile { disk: self.clone(), inode, holds_lock: Mutex::new(false) })
    }

    async fn open(&self, path: &Path) -> io::Result<SimFile> {
        let inode = self.call(|world| world.may_read().and_then(|()| world.file(path))).await?;
        Ok(SimFile { disk: self.clone(), inode, holds_lock: Mutex::new(false) })
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(|world| world.rename(from, to)).await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        self.call(|world| world.remove(path)).await
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.call(|world| world.sync_names(path)).await
    }

    async fn file_system(&self, _path: &Path) -> io::Result<u64> {
        self.call(|world| Ok(world.kind)).await
    }

    async fn is_same(&self, path: &Path, file: &SimFile) -> io::Result<bool> {
        self.call(|world| Ok(world.file(path)? == file.inode)).await
    }
}

impl DiskFile for SimFile {
    async fn length(&self) -> io::Result<u64> {
        self.disk.call(|world| Ok(world.inodes[&self.inode].current.len() as u64)).await
    }

    async fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        let stalls = self.disk.world.lock().stalls(self.inode, buffer.len());
        let (first, rest) = buffer.split_at_mut(if stalls.is_some() { buffer.len() / 2 } else { 0 });
        if let Some(takes) = stalls {
            self.disk.call(|world| world.read(self.inode, offset, first)).await?;
            tokio::time::sleep(takes).await;
        }
        let offset = offset + first.len();
        self.disk.call(|world| world.may_read().and_then(|()| world.read(self.inode, offset, rest))).await
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> impl Future<Output = io::Result<()>> + Send {
        let offset = usize::try_from(offset).unwrap();
        self.disk.call(move |world| world.write(self.inode, offset, data))
    }

    async fn sync_data(&self) -> io::Result<()> {
        let takes = self.disk.world.lock().faults.sync_takes;
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
        self.disk.call(|world| world.sync(self.inode)).await
    }

    fn try_lock(&self) -> io::Result<bool> {
        let mut world = self.disk.world.lock();
        let inode = world.inodes.get_mut(&self.inode).unwrap();
        let was_locked = std::mem::replace(&mut inode.is_locked, true);
        *self.holds_lock.lock() = !was_locked;
        Ok(!was_locked)
    }

    fn unlock(&self) -> io::Result<()> {
        if std::mem::take(&mut *self.holds_lock.lock()) {
            self.disk.world.lock().inodes.get_mut(&self.inode).unwrap().is_locked = false;
        }
        Ok(())
    }

    fn note_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.world.lock().inodes.get_mut(&self.inode).unwrap().write(usize::try_from(offset).unwrap(), bytes);
        Ok(())
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        if *self.holds_lock.lock()
            && let Some(inode) = self.disk.world.lock().inodes.get_mut(&self.inode)
        {
            inode.is_locked = false;
        }
    }
}
