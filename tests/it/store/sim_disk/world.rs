//! What lies on the simulated disk: bytes and names, each as a process finds them now and as a power cut leaves them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::super::bytes;
use super::{Fate, Faults, Lie};

const SECTOR: usize = 512;

#[derive(Debug, Default, Clone)]
pub(super) struct Inode {
    pub(super) durable: Vec<u8>,
    pub(super) current: Vec<u8>,
    /// Sectors that differ and that a sync would write.
    dirty: BTreeSet<usize>,
    pub(super) is_locked: bool,
    /// Where the last write began and how long it was.
    wrote: (usize, usize),
}

impl Inode {
    /// These bytes, durable.
    pub(super) fn put(&mut self, bytes: Vec<u8>) {
        self.durable.clone_from(&bytes);
        self.current = bytes;
        self.dirty.clear();
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.current.len() < end {
            self.current.resize(end, 0);
        }
        self.current[offset..end].copy_from_slice(bytes);
        self.wrote = (offset, bytes.len());
        self.dirty.extend(offset / SECTOR..end.div_ceil(SECTOR));
    }

    /// Sectors that `lands` says yes to become durable.
    fn land(&mut self, mut lands: impl FnMut(usize) -> bool) {
        for sector in std::mem::take(&mut self.dirty) {
            if !lands(sector) {
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

#[derive(Debug, Clone)]
pub(super) enum NameChange {
    Created(PathBuf, u64),
    /// From, to, and the file that moved: a folder's entry leads to a file, whatever had its old name since.
    Renamed(PathBuf, PathBuf, u64),
    Removed(PathBuf),
}

impl NameChange {
    fn is_in(&self, dir: &Path) -> bool {
        let (Self::Created(path, _) | Self::Renamed(_, path, _) | Self::Removed(path)) = self;
        path.parent() == Some(dir)
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Self::Created(path, inode) => {
                names.insert(path.clone(), *inode);
            }
            Self::Renamed(from, to, inode) => {
                if names.get(from) == Some(inode) {
                    names.remove(from);
                }
                names.insert(to.clone(), *inode);
            }
            Self::Removed(path) => {
                names.remove(path);
            }
        }
    }
}

pub(super) struct World {
    rng: StdRng,
    pub(super) inodes: BTreeMap<u64, Inode>,
    pub(super) names: BTreeMap<PathBuf, u64>,
    pub(super) durable_names: BTreeMap<PathBuf, u64>,
    /// Of names, not yet durable.
    changes: Vec<NameChange>,
    pub(super) dirs: BTreeSet<PathBuf>,
    next: u64,
    pub(super) faults: Faults,
    pub(super) calls: u64,
    pub(super) syncs: u64,
    /// The threads that synced, and how often.
    pub(super) syncs_by: BTreeMap<String, u64>,
    /// The same of reads.
    pub(super) reads_by: BTreeMap<String, u64>,
    /// The file system's number.
    pub(super) kind: u64,
    seed: u64,
    /// How many nonces were drawn.
    nonces: u64,
    /// Segments that were removed, where the disk lies about that.
    scrap: Vec<u64>,
}

fn broken(what: &str) -> io::Error {
    io::Error::other(what.to_owned())
}

/// Counts what this thread does.
fn note(by: &mut BTreeMap<String, u64>) {
    *by.entry(std::thread::current().name().unwrap_or_default().to_owned()).or_default() += 1;
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self {
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
            syncs_by: BTreeMap::new(),
            reads_by: BTreeMap::new(),
            kind: 0xef53,
            seed,
            nonces: 0,
            scrap: Vec::new(),
        }
    }

    /// The same bytes and names; nothing is locked.
    pub(super) fn copy(&self) -> Self {
        let mut inodes = self.inodes.clone();
        inodes.values_mut().for_each(|inode| inode.is_locked = false);
        let (names, durable_names) = (self.names.clone(), self.durable_names.clone());
        let (changes, dirs) = (self.changes.clone(), self.dirs.clone());
        Self { inodes, names, durable_names, changes, dirs, next: self.next, seed: self.seed, nonces: self.nonces, ..Self::new(9) }
    }

    /// Whether one of so many fails just now.
    fn one_in(&mut self, many: Option<u32>) -> bool {
        let fails = many.is_some_and(|many| self.rng.random_range(0..many) == 0);
        if fails && self.faults.once {
            let Faults { sync_fails, write_fails, reads_fail, names_fail, .. } = &mut self.faults;
            (*sync_fails, *write_fails, *reads_fail, *names_fail) = (None, None, None, None);
        }
        fails
    }

    /// How long a read of a record or of a footer stalls, if it does.
    pub(super) fn stalls(&mut self, inode: u64, length: usize) -> Option<Duration> {
        let bytes = &self.inodes[&inode].current;
        let (is_record, is_footer) = (length < 2048 && bytes.starts_with(b"KURIERSG"), bytes.starts_with(b"KURIERFT"));
        let many = if is_record { self.faults.reads_stall } else { self.faults.footers_stall.filter(|_| is_footer) };
        many.is_some_and(|many| self.rng.random_range(0..many) == 0).then_some(self.faults.read_takes)
    }

    pub(super) fn file(&self, path: &Path) -> io::Result<u64> {
        self.names.get(path).copied().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    /// A number that nobody else is given.
    pub(super) fn inode(&mut self) -> u64 {
        let inode = self.next;
        self.next += 1;
        inode
    }

    /// A nonce that neither this disk ever saw nor one of another seed.
    pub(super) fn nonce(&mut self) -> u128 {
        self.nonces += 1;
        u128::from(self.nonces) << 64 | u128::from(self.seed)
    }

    /// Bytes of all files that have a name.
    pub(super) fn used(&self) -> u64 {
        self.names.values().map(|inode| self.inodes[inode].current.len() as u64).sum()
    }

    /// Whether anything may change.
    fn may_change(&self) -> io::Result<()> {
        let is_read_only = self.faults.read_only_after.is_some_and(|after| self.calls > after);
        if is_read_only { Err(io::Error::from(io::ErrorKind::ReadOnlyFilesystem)) } else { Ok(()) }
    }

    fn change(&mut self, change: NameChange) -> io::Result<()> {
        self.may_change()?;
        let fails = self.one_in(self.faults.names_fail);
        // What failed may have happened all the same.
        if !fails || self.rng.random_bool(0.5) {
            change.apply(&mut self.names);
            self.changes.push(change);
        }
        if fails { Err(broken("the folder could not be changed")) } else { Ok(()) }
    }

    /// Opens a file, and makes it if there is none.
    pub(super) fn create(&mut self, path: &Path) -> io::Result<u64> {
        self.may_change()?;
        if let Some(inode) = self.names.get(path) {
            return Ok(*inode);
        }
        if self.faults.all_fail {
            return Err(broken("no new file today"));
        }
        let is_segment = path.extension().is_some_and(|extension| extension == "tmp");
        let scrap = if is_segment { self.scrap.pop() } else { None };
        let inode = scrap.unwrap_or_else(|| self.inode());
        self.inodes.entry(inode).or_default();
        self.change(NameChange::Created(path.to_owned(), inode))?;
        Ok(inode)
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let inode = self.file(from)?;
        self.change(NameChange::Renamed(from.to_owned(), to.to_owned(), inode))
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        let inode = self.file(path)?;
        let is_segment = path.extension().is_some_and(|extension| extension == "seg");
        if self.faults.lie == Some(Lie::Pins) && is_segment {
            self.scrap.push(inode);
        }
        self.change(NameChange::Removed(path.to_owned()))
    }

    /// Makes the names in a folder durable. Where that fails some are, and the others remain to be: file systems keep
    /// their own bookkeeping in order.
    pub(super) fn sync_names(&mut self, dir: &Path) -> io::Result<()> {
        self.may_change()?;
        if self.faults.all_fail {
            return Err(broken("no sync today"));
        }
        let fails = self.one_in(self.faults.names_fail);
        let (synced, left): (Vec<_>, Vec<_>) = std::mem::take(&mut self.changes).into_iter().partition(|change| change.is_in(dir));
        self.changes = left;
        for (at, change) in synced.iter().enumerate() {
            if fails && self.rng.random_bool(0.5) {
                self.changes.extend_from_slice(&synced[at..]);
                break;
            }
            change.apply(&mut self.durable_names);
        }
        if fails { Err(broken("the folder could not be synced")) } else { Ok(()) }
    }

    /// Whether a read works.
    pub(super) fn may_read(&mut self) -> io::Result<()> {
        if self.one_in(self.faults.reads_fail) { Err(broken("the read failed")) } else { Ok(()) }
    }

    pub(super) fn read(&mut self, inode: u64, offset: usize, buffer: &mut [u8]) -> io::Result<()> {
        note(&mut self.reads_by);
        let found = self.inodes[&inode].current.get(offset..offset + buffer.len());
        buffer.copy_from_slice(found.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    pub(super) fn write(&mut self, inode: u64, offset: usize, data: &[u8]) -> io::Result<()> {
        self.may_change()?;
        if self.faults.all_fail {
            return Err(broken("no write today"));
        }
        if let Some(capacity) = self.faults.capacity {
            let grows = (offset + data.len()).saturating_sub(self.inodes[&inode].current.len()) as u64;
            if grows > 0 && self.used() + grows > capacity {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
        }
        let fails = self.one_in(self.faults.write_fails);
        let length = if fails && self.rng.random_bool(0.7) {
            // A write that stops does so between sectors, as assumed of the disk.
            let cut = (offset + self.rng.random_range(0..=data.len())) / SECTOR * SECTOR;
            cut.saturating_sub(offset)
        } else {
            data.len()
        };
        let written = self.inodes.get_mut(&inode).unwrap();
        written.write(offset, &data[..length]);
        if self.faults.lie == Some(Lie::Versions) {
            bytes::forget_versions(&mut written.current);
        }
        if fails { Err(broken("the write failed, or so it says")) } else { Ok(()) }
    }

    pub(super) fn sync(&mut self, inode: u64) -> io::Result<()> {
        self.syncs += 1;
        note(&mut self.syncs_by);
        assert!(!std::mem::take(&mut self.faults.sync_panics), "the sync panics, as asked");
        self.may_change()?;
        let synced = &self.inodes[&inode];
        let lies = match self.faults.lie {
            Some(Lie::Syncs) => synced.wrote.0 > 0,
            // A header that is active already, written without anything else.
            Some(Lie::HeaderSyncs) => synced.wrote == (0, 4096) && synced.current[12] == 2,
            Some(Lie::Pins | Lie::Versions | Lie::Marker) | None => false,
        };
        if lies {
            return Ok(());
        }
        let fails = self.faults.all_fail || self.one_in(self.faults.sync_fails);
        let fate = if self.rng.random_bool(0.5) { Fate::Lost } else { Fate::Landed };
        let Self { rng, inodes, .. } = self;
        let inode = inodes.get_mut(&inode).unwrap();
        inode.land(|_| !fails || fate == Fate::Landed || rng.random_bool(0.5));
        if fails { Err(broken("the sync failed")) } else { Ok(()) }
    }

    /// The power goes. Of what was not synced much is there or little, and which of it nobody knows: each sector and
    /// each name is old or new.
    pub(super) fn cut_power(&mut self) -> &mut StdRng {
        let share = |rng: &mut StdRng| [0.5, 0.5, 0.5, 0.0, 0.1, 0.9, 1.0][rng.random_range(0..7)];
        let (of_sectors, of_names) = (share(&mut self.rng), share(&mut self.rng));
        let Self { rng, inodes, names, durable_names, changes, .. } = self;
        for inode in inodes.values_mut() {
            inode.land(|_| rng.random_bool(of_sectors));
            inode.current = inode.durable.clone();
            inode.is_locked = false;
        }
        for change in changes.drain(..) {
            if rng.random_bool(of_names) {
                change.apply(durable_names);
            }
        }
        *names = durable_names.clone();
        rng
    }

    /// The power goes, and of what was not synced these pages are there; every name is.
    pub(super) fn cut_power_keeping(&mut self, keeps: impl Fn(usize) -> bool) {
        for inode in self.inodes.values_mut() {
            inode.land(|sector| keeps(sector * SECTOR / 4096));
            inode.current = inode.durable.clone();
            inode.is_locked = false;
        }
        self.changes.clear();
        self.durable_names.clone_from(&self.names);
    }
}
