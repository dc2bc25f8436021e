//! A disk that knows pending from durable: what was written and not synced survives the death of the process,
//! and after a power cut each 512-byte sector of it is old or new. Names are durable only once their folder was
//! synced. On request it stalls, fails, fills up, and freezes after so many calls.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kurier::store::local::{Disk, DiskFile};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::Notify;

use super::sim_index::SimIndexes;

const SECTOR: usize = 512;

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
    /// Every sync says OK, and nothing is durable.
    Syncs,
    /// The same for a sync that follows the write of a segment's header alone.
    HeaderSyncs,
}

/// What goes wrong, and how often.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    /// Of so many syncs, one fails.
    pub(crate) sync_fails: Option<u32>,
    /// Of so many writes, one fails half-way.
    pub(crate) write_fails: Option<u32>,
    /// Every write and sync fails.
    pub(crate) all_fail: bool,
    /// Each sync takes so long.
    pub(crate) sync_takes: Duration,
    /// Most bytes of all files.
    pub(crate) capacity: Option<u64>,
    /// After so many calls nothing is answered any more.
    pub(crate) freezes_after: Option<u64>,
    /// A planted fault.
    pub(crate) lie: Option<Lie>,
}

#[derive(Debug, Default, Clone)]
struct Inode {
    durable: Vec<u8>,
    current: Vec<u8>,
    /// Sectors that differ and that a sync would write.
    dirty: BTreeSet<usize>,
    is_locked: bool,
    /// The last write was the first page alone.
    wrote_header: bool,
}

#[derive(Debug, Clone)]
enum NameChange {
    Created(PathBuf, u64),
    Renamed(PathBuf, PathBuf),
    Removed(PathBuf),
}

struct World {
    rng: StdRng,
    inodes: BTreeMap<u64, Inode>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    changes: Vec<NameChange>,
    dirs: BTreeSet<PathBuf>,
    next: u64,
    faults: Faults,
    calls: u64,
    syncs: u64,
    /// The file system's number.
    kind: u64,
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

fn apply(names: &mut BTreeMap<PathBuf, u64>, change: &NameChange) {
    match change {
        NameChange::Created(path, inode) => {
            names.insert(path.clone(), *inode);
        }
        NameChange::Renamed(from, to) => {
            if let Some(inode) = names.remove(from) {
                names.insert(to.clone(), inode);
            }
        }
        NameChange::Removed(path) => {
            names.remove(path);
        }
    }
}

impl NameChange {
    fn is_in(&self, dir: &Path) -> bool {
        let (Self::Created(path, _) | Self::Renamed(_, path) | Self::Removed(path)) = self;
        path.parent() == Some(dir)
    }
}

impl Inode {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.current.len() < end {
            self.current.resize(end, 0);
        }
        self.current[offset..end].copy_from_slice(bytes);
        self.wrote_header = offset == 0 && bytes.len() == 4096;
        self.dirty.extend(offset / SECTOR..end.div_ceil(SECTOR));
    }

    /// Sectors that `lands` says yes to become durable.
    fn land(&mut self, mut lands: impl FnMut() -> bool) {
        for sector in std::mem::take(&mut self.dirty) {
            if !lands() {
                continue;
            }
            let range = sector * SECTOR..((sector + 1) * SECTOR).min(self.current.len());
            if self.durable.len() < range.end {
                self.durable.resize(range.end, 0);
            }
            self.durable[range.clone()].copy_from_slice(&self.current[range]);
        }
    }
}

impl SimDisk {
    pub(crate) fn new(seed: u64) -> Self {
        let world = World {
            rng: StdRng::seed_from_u64(seed),
            inodes: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            changes: Vec::new(),
            dirs: BTreeSet::new(),
            next: 1,
            faults: Faults::default(),
            calls: 0,
            syncs: 0,
            kind: 0xef53,
        };
        Self { world: Arc::new(Mutex::new(world)), frozen: Arc::new(Notify::new()), indexes: SimIndexes::default() }
    }

    /// Another disk with the same bytes on it; nothing of it is locked.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self::new(9);
        {
            let (from, mut to) = (self.world.lock(), copy.world.lock());
            to.inodes.clone_from(&from.inodes);
            to.inodes.values_mut().for_each(|inode| inode.is_locked = false);
            (to.names, to.durable_names) = (from.names.clone(), from.durable_names.clone());
            (to.changes, to.dirs, to.next) = (from.changes.clone(), from.dirs.clone(), from.next);
        }
        copy
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

    /// The power goes: of what was not synced, each sector and each name is old or new.
    pub(crate) fn cut_power(&self) {
        let mut world = self.world.lock();
        let World { rng, inodes, names, durable_names, changes, .. } = &mut *world;
        for inode in inodes.values_mut() {
            inode.land(|| rng.random_bool(0.5));
            inode.current = inode.durable.clone();
            inode.is_locked = false;
        }
        for change in changes.drain(..) {
            if rng.random_bool(0.5) {
                apply(durable_names, &change);
            }
        }
        *names = durable_names.clone();
        self.indexes.tear(rng);
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
        change(&mut inode.current);
        inode.durable = inode.current.clone();
        inode.dirty.clear();
    }

    /// Puts a file there, durably.
    pub(crate) fn plant(&self, path: &Path, bytes: &[u8]) {
        let mut world = self.world.lock();
        let inode = world.next;
        world.next += 1;
        world.inodes.insert(inode, Inode { durable: bytes.to_vec(), current: bytes.to_vec(), ..Inode::default() });
        world.names.insert(path.to_owned(), inode);
        world.durable_names.insert(path.to_owned(), inode);
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

fn broken(what: &str) -> io::Error {
    io::Error::other(what.to_owned())
}

impl World {
    fn one_in(&mut self, many: Option<u32>) -> bool {
        many.is_some_and(|many| self.rng.random_range(0..many) == 0)
    }

    fn change(&mut self, change: NameChange) {
        apply(&mut self.names, &change);
        self.changes.push(change);
    }

    fn file(&self, path: &Path) -> io::Result<u64> {
        self.names.get(path).copied().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn write(&mut self, inode: u64, offset: usize, bytes: &[u8]) -> io::Result<()> {
        if self.faults.all_fail {
            return Err(broken("no write today"));
        }
        let used: usize = self.names.values().map(|inode| self.inodes[inode].current.len()).sum();
        let grows = (offset + bytes.len()).saturating_sub(self.inodes[&inode].current.len());
        if self.faults.capacity.is_some_and(|capacity| grows > 0 && (used + grows) as u64 > capacity) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        let fails = self.one_in(self.faults.write_fails);
        // A write that stops does so between sectors, as assumed of the disk.
        let cut = (offset + self.rng.random_range(0..=bytes.len())) / SECTOR * SECTOR;
        let length = if fails { cut.saturating_sub(offset) } else { bytes.len() };
        self.inodes.get_mut(&inode).unwrap().write(offset, &bytes[..length]);
        if fails { Err(broken("the write stopped half-way")) } else { Ok(()) }
    }

    fn sync(&mut self, inode: u64) -> io::Result<()> {
        self.syncs += 1;
        let is_header = self.inodes[&inode].wrote_header;
        if self.faults.lie == Some(Lie::Syncs) || (self.faults.lie == Some(Lie::HeaderSyncs) && is_header) {
            return Ok(());
        }
        let fails = self.faults.all_fail || self.one_in(self.faults.sync_fails);
        let fate = if self.rng.random_bool(0.5) { Fate::Lost } else { Fate::Landed };
        let World { rng, inodes, .. } = self;
        let inode = inodes.get_mut(&inode).unwrap();
        inode.land(|| !fails || fate == Fate::Landed || rng.random_bool(0.5));
        if fails { Err(broken("the sync failed")) } else { Ok(()) }
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
        let inode = self
            .call(|world| {
                if let Some(inode) = world.names.get(path) {
                    return Ok(*inode);
                }
                let inode = world.next;
                world.next += 1;
                world.inodes.insert(inode, Inode::default());
                world.change(NameChange::Created(path.to_owned(), inode));
                Ok(inode)
            })
            .await?;
        Ok(SimFile { disk: self.clone(), inode, holds_lock: Mutex::new(false) })
    }

    async fn open(&self, path: &Path) -> io::Result<SimFile> {
        let inode = self.call(|world| world.file(path)).await?;
        Ok(SimFile { disk: self.clone(), inode, holds_lock: Mutex::new(false) })
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(|world| {
            world.file(from)?;
            world.change(NameChange::Renamed(from.to_owned(), to.to_owned()));
            Ok(())
        })
        .await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        self.call(|world| {
            world.file(path)?;
            world.change(NameChange::Removed(path.to_owned()));
            Ok(())
        })
        .await
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.call(|world| {
            if world.faults.all_fail {
                return Err(broken("no sync today"));
            }
            let (synced, left): (Vec<_>, Vec<_>) = std::mem::take(&mut world.changes).into_iter().partition(|change| change.is_in(path));
            world.changes = left;
            for change in &synced {
                apply(&mut world.durable_names, change);
            }
            Ok(())
        })
        .await
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

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> impl Future<Output = io::Result<()>> + Send {
        let offset = usize::try_from(offset).unwrap();
        self.disk.call(move |world| {
            let found = world.inodes[&self.inode].current.get(offset..offset + buffer.len());
            buffer.copy_from_slice(found.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
            Ok(())
        })
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> impl Future<Output = io::Result<()>> + Send {
        let offset = usize::try_from(offset).unwrap();
        self.disk.call(move |world| world.write(self.inode, offset, bytes))
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
