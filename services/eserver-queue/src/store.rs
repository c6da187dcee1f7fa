//! `Store`: the data directory, one server's at a time, with a directory for each queue.
//!
//! | name | what |
//! |---|---|
//! | `lock` | locked while a server uses the directory; holds its process id |
//! | `format` | the layout's version, a decimal number |
//! | `queues/NAME/` | the segments of one queue |
//! | `queues/NAME/epoch` | its epoch: for how long ids mean the same messages; see `epoch.rs` |

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use thiserror::Error;

use crate::epoch;
use crate::{FORMAT_VERSION, Millis, OpenError, Queue, QueueName, QueueSettings, Recovery};

/// Why a data directory cannot be used.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Another server uses it.
    #[error("the data directory {path} is in use by another server{}", by(*process))]
    InUse {
        /// The data directory.
        path: PathBuf,
        /// The other server's process id, if it could be read.
        process: Option<u32>,
    },
    /// A later version of the server has written here.
    #[error(
        "the data directory {path} has format {version}, written by a newer server; this one \
         reads up to format {FORMAT_VERSION}"
    )]
    NewerFormat {
        /// The data directory.
        path: PathBuf,
        /// Its format.
        version: u64,
    },
    /// The file that says the format holds something else.
    #[error("{path} does not hold the number of a format; is this a data directory?")]
    NoFormat {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be made, read or written.
    #[error("cannot {operation} {path}")]
    Disk {
        /// What was tried.
        operation: &'static str,
        /// With what.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
}

fn by(process: Option<u32>) -> String {
    process.map_or_else(String::new, |process| format!(", process {process}"))
}

/// A data directory that is ours for as long as this lives.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    _lock: Flock<File>,
}

impl Store {
    /// Makes the directory if need be, and takes it.
    ///
    /// # Errors
    /// [`StoreError`], a sentence each.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let path = path.into();
        fs::create_dir_all(&path).map_err(failed("create the data directory", &path))?;
        let lock = lock(&path)?;
        check_format(&path)?;
        let queues = path.join("queues");
        fs::create_dir_all(&queues).map_err(failed("create", &queues))?;
        sync(&path)?;
        Ok(Self { path, _lock: lock })
    }

    /// The data directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory of a queue, whether it exists or not.
    #[must_use]
    pub fn queue_directory(&self, name: &QueueName) -> PathBuf {
        self.path.join("queues").join(name.as_str())
    }

    /// The queues that exist, by name.
    ///
    /// # Errors
    /// [`StoreError::Disk`].
    pub fn queues(&self) -> Result<Vec<QueueName>, StoreError> {
        let queues = self.path.join("queues");
        let mut names = Vec::new();
        for entry in fs::read_dir(&queues).map_err(failed("list", &queues))? {
            let name = entry.map_err(failed("list", &queues))?.file_name();
            names.extend(name.to_str().and_then(|name| QueueName::new(name).ok()));
        }
        names.sort();
        Ok(names)
    }

    /// Opens a queue, new or not.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_queue(
        &self,
        name: &QueueName,
        settings: &QueueSettings,
        now: Millis,
    ) -> Result<(Queue, Recovery), OpenError> {
        Queue::open(self.queue_directory(name), settings, now)
    }

    /// The [epoch](eserver::Feed::epoch) of a queue that was just opened, which `recovery` tells.
    ///
    /// # Errors
    /// [`StoreError::Disk`].
    pub fn epoch(
        &self,
        name: &QueueName,
        queue: &Queue,
        recovery: &Recovery,
    ) -> Result<u64, StoreError> {
        let boot = epoch::current_boot();
        epoch::open(&self.queue_directory(name), name, queue, recovery, boot.as_deref())
    }
}

/// Takes the lock, which the kernel gives back when the process ends, however it ends.
fn lock(directory: &Path) -> Result<Flock<File>, StoreError> {
    let path = directory.join("lock");
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let file = open.map_err(failed("write", &path))?;
    let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => lock,
        Err((mut file, Errno::EWOULDBLOCK)) => {
            let mut holder = String::new();
            let process = file.read_to_string(&mut holder).ok();
            let process = process.and_then(|_| holder.trim().parse().ok());
            return Err(StoreError::InUse { path: directory.to_owned(), process });
        }
        Err((_, errno)) => return Err(failed("lock", &path)(errno.into())),
    };
    let process = format!("{}\n", std::process::id());
    let written = lock.set_len(0).and_then(|()| lock.write_all(process.as_bytes()));
    written.map_err(failed("write", &path))?;
    Ok(lock)
}

/// Reads the format, or writes it into a new directory.
fn check_format(directory: &Path) -> Result<(), StoreError> {
    let path = directory.join("format");
    match fs::read(&path) {
        Ok(text) => {
            let text = String::from_utf8_lossy(&text);
            let Ok(version) = text.trim().parse::<u64>() else {
                return Err(StoreError::NoFormat { path });
            };
            if version > u64::from(FORMAT_VERSION) {
                return Err(StoreError::NewerFormat { path: directory.to_owned(), version });
            }
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            replace_file(directory, "format", &format!("{FORMAT_VERSION}\n"))
        }
        Err(error) => Err(failed("read", &path)(error)),
    }
}

/// Makes `text` what the file holds, durably: written beside and renamed, so that no power cut
/// leaves half of it.
pub(crate) fn replace_file(directory: &Path, name: &str, text: &str) -> Result<(), StoreError> {
    let (path, new) = (directory.join(name), directory.join(format!("{name}.new")));
    let mut file = File::create(&new).map_err(failed("write", &new))?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    written.map_err(failed("write", &new))?;
    fs::rename(&new, &path).map_err(failed("write", &path))?;
    sync(directory)
}

fn sync(directory: &Path) -> Result<(), StoreError> {
    let synced = File::open(directory).and_then(|handle| handle.sync_all());
    synced.map_err(failed("sync", directory))
}

pub(crate) fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Disk { operation, path, source }
}
