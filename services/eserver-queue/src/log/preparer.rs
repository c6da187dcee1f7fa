//! `Preparer` fills segment files with zeros ahead of need, and removes those no longer needed.
//!
//! Writing over zeros that are already on disk makes a commit's sync cheap: no block is allocated
//! and no file length changes. Filling takes a while, so on a real disk it happens on a thread of
//! its own that lives as long as the job; a simulated disk does it on the spot, to be repeatable.

use std::io;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread::{self, JoinHandle};

use crate::SyncPolicy;
use crate::disk::{Disk, DiskFile, is_lack_of_space};

/// Zeros are written this many at a time, in bytes.
const ZEROS_BYTES: usize = 256 << 10;

/// Whether a new file's zeros are really written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Zeros {
    /// They are: a sync of what is later written over them then has no blocks to account for.
    Written,
    /// The file system only promises the room. Everything is written once instead of twice, which
    /// is better where commits do not sync.
    Promised,
}

impl Zeros {
    pub(crate) fn suiting(sync: SyncPolicy) -> Self {
        match sync {
            SyncPolicy::Always => Zeros::Written,
            SyncPolicy::Interval { .. } | SyncPolicy::Never => Zeros::Promised,
        }
    }
}

/// Zeros are synced this many at a time, in bytes: a commit's own sync may have to wait for as much,
/// and should not have to wait for a whole segment.
const SYNC_BYTES: usize = 1 << 20;

static ZEROS: [u8; ZEROS_BYTES] = [0; ZEROS_BYTES];

/// A file of zeros that no segment uses yet, or one that no segment uses any more.
#[derive(Debug)]
pub(crate) struct Spare<F> {
    pub(crate) name: String,
    pub(crate) bytes: u32,
    pub(crate) file: F,
}

type Prepared<F> = io::Result<Spare<F>>;

/// Prepares one file at a time.
#[derive(Debug)]
pub(crate) struct Preparer<D: Disk> {
    disk: D,
    job: Option<Job<D::File>>,
    /// Threads that remove files, to be joined in the end.
    removals: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
enum Job<F> {
    Done(Prepared<F>),
    Running(Receiver<Prepared<F>>, JoinHandle<()>),
}

impl<D: Disk> Preparer<D> {
    pub(crate) fn new(disk: D) -> Self {
        Self { disk, job: None, removals: Vec::new() }
    }

    /// Whether a file was asked for and not taken yet.
    pub(crate) fn is_busy(&self) -> bool {
        self.job.is_some()
    }

    /// Asks for a file of `bytes`, or of a half, a quarter… down to `bytes_min` where there is no
    /// room for that. One at a time: asked while busy, it does nothing.
    pub(crate) fn start(&mut self, name: String, bytes: u32, bytes_min: u32, zeros: Zeros) {
        if self.job.is_some() {
            return;
        }
        let disk = self.disk.clone();
        if !D::BACKGROUND {
            self.job = Some(Job::Done(prepare_some(&disk, &name, bytes, bytes_min, zeros)));
            return;
        }
        let (sender, receiver) = mpsc::sync_channel(1);
        let fill = move || {
            // Nobody listens any more when the queue is gone: the file stays for the next start.
            let _ = sender.send(prepare_some(&disk, &name, bytes, bytes_min, zeros));
        };
        self.job = Some(match thread::Builder::new().name("segment".into()).spawn(fill) {
            Ok(thread) => Job::Running(receiver, thread),
            Err(error) => Job::Done(Err(error)),
        });
    }

    /// The file asked for, if it is ready.
    pub(crate) fn poll(&mut self) -> Option<Prepared<D::File>> {
        let result = match self.job.take()? {
            Job::Done(result) => result,
            Job::Running(receiver, thread) => match receiver.try_recv() {
                Ok(result) => result,
                Err(TryRecvError::Empty) => {
                    self.job = Some(Job::Running(receiver, thread));
                    return None;
                }
                Err(TryRecvError::Disconnected) => Err(died()),
            },
        };
        Some(result)
    }

    /// The file asked for, as soon as it is ready; `None` if none was.
    pub(crate) fn wait(&mut self) -> Option<Prepared<D::File>> {
        Some(match self.job.take()? {
            Job::Done(result) => result,
            Job::Running(receiver, _) => receiver.recv().unwrap_or_else(|_| Err(died())),
        })
    }

    /// Removes a file that nothing on disk refers to any more. When that fails, or a power cut
    /// undoes it, the next start finds the file and sees that it is not needed.
    pub(crate) fn remove(&mut self, spare: Spare<D::File>) {
        let disk = self.disk.clone();
        let remove = move || {
            let Spare { name, file, .. } = spare;
            drop(file);
            let _ = disk.remove(&name);
        };
        self.removals.retain(|thread| !thread.is_finished());
        if !D::BACKGROUND {
            remove();
        } else if let Ok(thread) = thread::Builder::new().name("segment".into()).spawn(remove) {
            self.removals.push(thread);
        }
    }
}

impl<D: Disk> Drop for Preparer<D> {
    fn drop(&mut self) {
        if let Some(Job::Running(receiver, thread)) = self.job.take() {
            drop(receiver);
            let _ = thread.join();
        }
        for thread in self.removals.drain(..) {
            let _ = thread.join();
        }
    }
}

fn died() -> io::Error {
    io::Error::other("the thread that prepares segments died")
}

fn prepare_some<D: Disk>(
    disk: &D,
    name: &str,
    bytes: u32,
    bytes_min: u32,
    zeros: Zeros,
) -> Prepared<D::File> {
    let mut bytes = bytes.max(bytes_min);
    loop {
        match prepare(disk, name, bytes, zeros) {
            Err(error) if is_lack_of_space(&error) && bytes > bytes_min => {
                bytes = (bytes / 2).max(bytes_min);
            }
            result => return result,
        }
    }
}

/// Makes a file of zeros that survives a power cut, or leaves nothing behind.
pub(crate) fn prepare<D: Disk>(
    disk: &D,
    name: &str,
    bytes: u32,
    zeros: Zeros,
) -> Prepared<D::File> {
    let result = disk.create(name, u64::from(bytes)).and_then(|file| {
        // Where the file system cannot promise room, writing is the way to make sure of it.
        let is_promised = file.length()? >= u64::from(bytes);
        let mut offset = if zeros == Zeros::Promised && is_promised { bytes as usize } else { 0 };
        while offset < bytes as usize {
            let chunk = ZEROS_BYTES.min(bytes as usize - offset);
            file.write_all_at(&ZEROS[..chunk], offset as u64)?;
            offset += chunk;
            if offset % SYNC_BYTES == 0 {
                file.sync_data()?;
            }
        }
        file.sync_data()?;
        disk.sync_directory()?;
        Ok(file)
    });
    match result {
        Ok(file) => Ok(Spare { name: name.to_owned(), bytes, file }),
        Err(error) => {
            let _ = disk.remove(name);
            Err(error)
        }
    }
}
