//! `SimulatedDisk`: files with two images, what the kernel shows and what the platter holds.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use nix::errno::Errno;

use crate::disk::{Disk, DiskFile};

/// What reaches the platter, it reaches in pieces of this many bytes.
const SECTOR_BYTES: usize = 512;

/// A directory in memory. Clones are the same directory.
#[derive(Debug, Clone)]
pub(crate) struct SimulatedDisk {
    shared: Arc<Mutex<Shared>>,
    path: PathBuf,
}

/// An open file of a [`SimulatedDisk`].
#[derive(Debug)]
pub(crate) struct SimulatedFile {
    shared: Arc<Mutex<Shared>>,
    inode: usize,
}

#[derive(Debug)]
struct Shared {
    random: fastrand::Rng,
    files: Vec<Image>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    /// Changes of names that no sync has covered.
    name_changes: Vec<(String, Option<usize>)>,
    /// Bytes that all files together may have.
    capacity: u64,
    /// Operations until the power goes.
    steps: Option<u64>,
    /// One write or sync in so many fails; 0 for none.
    failures: u32,
    /// One write or read in so many is short; 0 for none.
    shorts: u32,
    is_off: bool,
}

#[derive(Debug, Default)]
struct Image {
    cached: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors of `cached` that were written since the last sync.
    dirty: Vec<bool>,
}

impl Image {
    fn set_dirty(&mut self, from: usize, to: usize) {
        let sectors = self.cached.len().div_ceil(SECTOR_BYTES);
        self.dirty.resize(sectors, false);
        for sector in from / SECTOR_BYTES..to.div_ceil(SECTOR_BYTES) {
            self.dirty[sector] = true;
        }
    }

    /// Brings the first `bytes` bytes of a sector to the platter.
    fn flush(&mut self, sector: usize, bytes: usize) {
        let start = sector * SECTOR_BYTES;
        let end = (start + bytes).min(self.cached.len());
        if self.durable.len() < end {
            self.durable.resize(end, 0);
        }
        self.durable[start..end].copy_from_slice(&self.cached[start..end]);
    }

    /// Brings some of the dirty sectors to the platter, as a sync does that fails, or a kernel
    /// that had begun to write before the power went.
    fn flush_some(&mut self, random: &mut fastrand::Rng) {
        let share = [0, 1, 8, 15, 16][random.usize(..5)];
        let mut tears = random.bool();
        for sector in 0..self.dirty.len() {
            if !self.dirty[sector] {
                continue;
            }
            if random.u32(..16) < share {
                self.flush(sector, SECTOR_BYTES);
            } else if tears && random.u32(..4) == 0 {
                tears = false;
                self.flush(sector, random.usize(..SECTOR_BYTES));
            }
        }
    }

    fn sync(&mut self) {
        for sector in 0..self.dirty.len() {
            if std::mem::take(&mut self.dirty[sector]) {
                self.flush(sector, SECTOR_BYTES);
            }
        }
        self.durable.resize(self.cached.len(), 0);
    }
}

impl SimulatedDisk {
    pub(crate) fn new(seed: u64) -> Self {
        let shared = Shared {
            random: fastrand::Rng::with_seed(seed),
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            name_changes: Vec::new(),
            capacity: u64::MAX,
            steps: None,
            failures: 0,
            shorts: 0,
            is_off: false,
        };
        Self { shared: Arc::new(Mutex::new(shared)), path: "simulated".into() }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().expect("no test fails inside the disk")
    }

    pub(crate) fn set_capacity(&self, bytes: u64) {
        self.lock().capacity = bytes;
    }

    /// The power goes after so many operations.
    pub(crate) fn cut_power_after(&self, steps: Option<u64>) {
        self.lock().steps = steps;
    }

    /// One write or sync in `failures` fails, one write or read in `shorts` is short; 0 for none.
    pub(crate) fn set_faults(&self, failures: u32, shorts: u32) {
        let mut shared = self.lock();
        (shared.failures, shared.shorts) = (failures, shorts);
    }

    pub(crate) fn is_off(&self) -> bool {
        self.lock().is_off
    }

    /// Takes the power away, and gives it back: what was not synced is there, or not, or torn.
    pub(crate) fn cut_power(&self) {
        let mut shared = self.lock();
        let shared = &mut *shared;
        for image in &mut shared.files {
            image.flush_some(&mut shared.random);
            if image.durable.len() < image.cached.len() && shared.random.bool() {
                image.durable.resize(image.cached.len(), 0);
            }
            image.cached.clone_from(&image.durable);
            image.dirty.clear();
        }
        for (name, inode) in std::mem::take(&mut shared.name_changes) {
            match inode {
                _ if shared.random.bool() => {}
                Some(inode) => {
                    shared.durable_names.insert(name, inode);
                }
                None => {
                    shared.durable_names.remove(&name);
                }
            }
        }
        shared.names = shared.durable_names.clone();
        shared.is_off = false;
        shared.steps = None;
    }

    /// The files' names.
    pub(crate) fn names(&self) -> Vec<String> {
        self.lock().names.keys().cloned().collect()
    }

    /// A copy of a file, as a program would read it.
    pub(crate) fn content(&self, name: &str) -> Vec<u8> {
        let shared = self.lock();
        shared.files[shared.names[name]].cached.clone()
    }

    /// Replaces a file behind everybody's back.
    pub(crate) fn set_content(&self, name: &str, bytes: &[u8]) {
        let mut shared = self.lock();
        let inode = shared.names[name];
        let image = &mut shared.files[inode];
        image.cached = bytes.to_vec();
        image.durable = bytes.to_vec();
        image.dirty.clear();
    }

    /// An independent disk with the same files.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self::new(0);
        for name in self.lock().names.keys() {
            let mut shared = copy.lock();
            let inode = shared.files.len();
            shared.files.push(Image::default());
            shared.names.insert(name.clone(), inode);
            shared.durable_names.insert(name.clone(), inode);
        }
        for name in self.names() {
            copy.set_content(&name, &self.content(&name));
        }
        copy
    }
}

impl Shared {
    /// Counts an operation; `Err` when the power goes with it or is gone already.
    fn step(&mut self) -> io::Result<()> {
        if let Some(steps) = &mut self.steps {
            self.is_off |= *steps == 0;
            *steps = steps.saturating_sub(1);
        }
        if self.is_off { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }

    fn one_in(&mut self, count: u32) -> bool {
        count > 0 && self.random.u32(..count) == 0
    }
}

impl Disk for SimulatedDisk {
    type File = SimulatedFile;

    const BACKGROUND: bool = false;

    fn path(&self) -> &Path {
        &self.path
    }

    fn random(&self) -> io::Result<u128> {
        Ok(self.lock().random.u128(..))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut shared = self.lock();
        shared.step()?;
        Ok(shared.names.keys().cloned().collect())
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<SimulatedFile> {
        let mut shared = self.lock();
        shared.step()?;
        if shared.names.contains_key(name) {
            return Err(Errno::EEXIST.into());
        }
        let used: u64 =
            shared.names.values().map(|&inode| shared.files[inode].cached.len() as u64).sum();
        let fits = used + bytes <= shared.capacity;
        let inode = shared.files.len();
        let mut image = Image::default();
        if fits {
            image.cached.resize(bytes as usize, 0);
            image.set_dirty(0, bytes as usize);
        }
        shared.files.push(image);
        shared.names.insert(name.to_owned(), inode);
        shared.name_changes.push((name.to_owned(), Some(inode)));
        if fits {
            Ok(SimulatedFile { shared: self.shared.clone(), inode })
        } else {
            Err(Errno::ENOSPC.into())
        }
    }

    fn open(&self, name: &str) -> io::Result<SimulatedFile> {
        let mut shared = self.lock();
        shared.step()?;
        let inode = *shared.names.get(name).ok_or(Errno::ENOENT)?;
        Ok(SimulatedFile { shared: self.shared.clone(), inode })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut shared = self.lock();
        shared.step()?;
        shared.names.remove(name).ok_or(Errno::ENOENT)?;
        shared.name_changes.push((name.to_owned(), None));
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut shared = self.lock();
        shared.step()?;
        let failures = shared.failures;
        if shared.one_in(failures) {
            return Err(Errno::EIO.into());
        }
        shared.durable_names = shared.names.clone();
        shared.name_changes.clear();
        Ok(())
    }
}

impl SimulatedFile {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().expect("no test fails inside the disk")
    }
}

impl DiskFile for SimulatedFile {
    fn length(&self) -> io::Result<u64> {
        let mut shared = self.lock();
        shared.step()?;
        Ok(shared.files[self.inode].cached.len() as u64)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut shared = self.lock();
        let step = shared.step();
        if step.is_err() && shared.steps.take().is_none() {
            return step.map(|()| 0);
        }
        let (failures, shorts) = (shared.failures, shared.shorts);
        let fails = shared.one_in(failures);
        let written = if step.is_err() || fails || shared.one_in(shorts) {
            shared.random.usize(..=bytes.len())
        } else {
            bytes.len()
        };
        let start = offset as usize;
        let image = &mut shared.files[self.inode];
        if image.cached.len() < start + written {
            image.cached.resize(start + written, 0);
        }
        image.cached[start..start + written].copy_from_slice(&bytes[..written]);
        image.set_dirty(start, start + written);
        step?;
        match written {
            _ if fails => Err(Errno::EIO.into()),
            0 if !bytes.is_empty() => Err(io::ErrorKind::Interrupted.into()),
            written => Ok(written),
        }
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut shared = self.lock();
        shared.step()?;
        let shorts = shared.shorts;
        let most = if shared.one_in(shorts) { bytes.len().min(100) } else { bytes.len() };
        let image = &shared.files[self.inode].cached;
        let start = (offset as usize).min(image.len());
        let read = most.min(image.len() - start);
        bytes[..read].copy_from_slice(&image[start..start + read]);
        Ok(read)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut shared = self.lock();
        shared.step()?;
        let failures = shared.failures;
        let fails = shared.one_in(failures);
        let shared = &mut *shared;
        let image = &mut shared.files[self.inode];
        if fails {
            // As Linux does it: the pages are clean from now on, wherever their contents went.
            image.flush_some(&mut shared.random);
            image.dirty.fill(false);
            return Err(Errno::EIO.into());
        }
        image.sync();
        Ok(())
    }
}
