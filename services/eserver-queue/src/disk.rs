//! `Disk`, the few things the log asks of a directory, and `RealDisk`, which asks the kernel.
//!
//! A trait, because the same log runs on a simulated disk that tears, loses and reorders writes
//! from a seed. Methods take `&self`, as the kernel does: offsets are explicit, nothing seeks.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One directory of files.
pub trait Disk: Clone + Debug + Send + 'static {
    /// An open file; it stays usable when its name is removed.
    type File: DiskFile;

    /// Whether files are prepared on a thread of their own, beside the queue's.
    const BACKGROUND: bool;

    /// Where this is, for error messages.
    fn path(&self) -> &Path;

    /// 128 bits that no other queue has.
    ///
    /// # Errors
    /// When the source of randomness cannot be read.
    fn random(&self) -> io::Result<u128>;

    /// The names of all files, in no order.
    ///
    /// # Errors
    /// Whatever the directory answers.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes a new file with room for `bytes` bytes; its content is not written yet.
    ///
    /// # Errors
    /// When the name exists or there is no room; the name may then exist.
    fn create(&self, name: &str, bytes: u64) -> io::Result<Self::File>;

    /// Opens a file that exists.
    ///
    /// # Errors
    /// When there is none, or it may not be read and written.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// Removes a name.
    ///
    /// # Errors
    /// Whatever the directory answers.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes created and removed names survive a power cut.
    ///
    /// # Errors
    /// When the disk could not; nothing is known about the names then.
    fn sync_directory(&self) -> io::Result<()>;
}

/// One file of a [`Disk`].
pub trait DiskFile: Debug + Send + 'static {
    /// The file's length in bytes.
    ///
    /// # Errors
    /// Whatever the disk answers.
    fn length(&self) -> io::Result<u64>;

    /// Writes some of `bytes` at `offset` and says how many.
    ///
    /// # Errors
    /// Whatever the disk answers.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Reads some bytes at `offset` and says how many; 0 at the end of the file.
    ///
    /// # Errors
    /// Whatever the disk answers.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Makes what was written survive a power cut.
    ///
    /// # Errors
    /// When the disk could not: nothing is known about what was written since the last sync, and
    /// asking again does not help.
    fn sync_data(&self) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// Whatever the disk answers; part of `bytes` may be written.
    fn write_all_at(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.write_at(bytes, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = bytes.get(written..).unwrap_or_default();
                    offset += written as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads until `bytes` is full or the file ends, and says how many bytes there were.
    ///
    /// # Errors
    /// Whatever the disk answers.
    fn read_up_to(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut read = 0;
        while read < bytes.len() {
            match self.read_at(&mut bytes[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }
}

/// Whether an error says that there is no room for another file: not a broken disk, and worth
/// another try later.
pub(crate) fn is_lack_of_space(error: &io::Error) -> bool {
    use nix::errno::Errno;
    let passing = [Errno::ENOSPC, Errno::EDQUOT, Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM];
    error.kind() == io::ErrorKind::StorageFull
        || error.raw_os_error().is_some_and(|number| passing.contains(&Errno::from_raw(number)))
}

/// A directory of the file system.
#[derive(Debug, Clone)]
pub struct RealDisk {
    path: Arc<Path>,
    handle: Arc<File>,
}

impl RealDisk {
    /// Opens a directory, making it (but not its parents) when it does not exist.
    ///
    /// # Errors
    /// When it cannot be made, or is no directory.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path: PathBuf = path.into();
        match fs::create_dir(&path) {
            Ok(()) => {
                if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty())
                {
                    File::open(parent)?.sync_all()?;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let handle = File::open(&path)?;
        if !handle.metadata()?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Self { path: path.into(), handle: Arc::new(handle) })
    }
}

impl Disk for RealDisk {
    type File = File;

    const BACKGROUND: bool = true;

    fn path(&self) -> &Path {
        &self.path
    }

    fn random(&self) -> io::Result<u128> {
        let mut bytes = [0; 16];
        io::Read::read_exact(&mut File::open("/dev/urandom")?, &mut bytes)?;
        Ok(u128::from_le_bytes(bytes))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<File> {
        let path = self.path.join(name);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        // Asks for the room first: a full disk says so at once instead of after so many megabytes
        // of zeros. A file system that cannot allocate ahead says so while the zeros are written.
        let length = nix::libc::off_t::try_from(bytes).map_err(io::Error::other)?;
        match nix::fcntl::posix_fallocate(&file, 0, length) {
            Err(errno) if is_lack_of_space(&errno.into()) => Err(errno.into()),
            Ok(()) | Err(_) => Ok(file),
        }
    }

    fn open(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(self.path.join(name))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.handle.sync_all()
    }
}

impl DiskFile for File {
    fn length(&self) -> io::Result<u64> {
        self.metadata().map(|metadata| metadata.len())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, offset)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        Self::sync_data(self)
    }
}
