//! `Recovery`, the report of what was found when a queue was opened, or why it was not.

use std::fmt;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::Seq;
use crate::log::LogFailed;
use crate::log::segment;

/// Why a queue cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The directory or a file in it cannot be made, read or written.
    #[error("cannot {operation} {path}")]
    Disk {
        /// What was tried.
        operation: &'static str,
        /// With what.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// A later version of the server has written here.
    #[error(
        "{path} has format {version}, written by a newer server; this one reads up to format {}",
        segment::FORMAT_VERSION
    )]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        version: u32,
    },
    /// The log failed while it was opened.
    #[error(transparent)]
    Log(#[from] LogFailed),
}

/// What was found when a queue was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Whether there was nothing, and the queue is a new one.
    pub is_new: bool,
    /// Whether the queue had been closed in good order.
    pub is_clean: bool,
    /// Messages in the queue.
    pub messages: u64,
    /// Segments read.
    pub segments: usize,
    /// The unfinished commit that was cut off, if there was one. None of it had been made durable.
    pub torn: Option<TornTail>,
    /// What had been durable and cannot be read any more.
    pub damages: Vec<Damage>,
    /// The messages lost with it, as ranges, both ends included: those that were put and of whose
    /// removal there is no sign.
    pub lost: Vec<(Seq, Seq)>,
}

/// An unfinished commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    /// The segment's number.
    pub segment: u32,
    /// Bytes from the segment's start to where it was cut.
    pub offset: u64,
    /// Bytes cut off, as far as can be told.
    pub bytes: u64,
}

/// A part of the log that is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damage {
    /// Records that do not match their checksums.
    Records {
        /// The file.
        path: PathBuf,
        /// Bytes from the file's start.
        offset: u64,
        /// Bytes skipped.
        bytes: u64,
    },
    /// The header of a segment; what it said was told from the records.
    Header {
        /// The file.
        path: PathBuf,
    },
    /// Segments of which there is no file, from the first number to the last.
    Missing {
        /// The first missing number.
        first: u32,
        /// The last missing number.
        last: u32,
    },
    /// A file that belongs to another queue. It is left alone.
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A file of which nothing can be told. It is left alone.
    Unreadable {
        /// The file.
        path: PathBuf,
    },
}

impl fmt::Display for Damage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Records { path, offset, bytes } => {
                write!(formatter, "{bytes} bytes at {offset} of {} are damaged", path.display())
            }
            Self::Header { path } => {
                write!(formatter, "the header of {} is damaged", path.display())
            }
            Self::Missing { first, last } if first == last => {
                write!(formatter, "segment {first} is missing")
            }
            Self::Missing { first, last } => {
                write!(formatter, "segments {first} to {last} are missing")
            }
            Self::Foreign { path } => {
                write!(formatter, "{} belongs to another queue", path.display())
            }
            Self::Unreadable { path } => {
                write!(formatter, "{} is damaged from end to end", path.display())
            }
        }
    }
}
