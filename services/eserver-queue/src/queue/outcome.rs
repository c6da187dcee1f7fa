//! What comes of asking a queue for something: an `Outcome`, a message, or an error per operation.

use thiserror::Error;

use crate::Seq;
use crate::log::{AppendError, LogFailed, ReadFailed};

/// Why a put is refused. Nothing was changed.
#[derive(Debug, Error)]
pub enum PutError {
    /// The queue holds as many messages as it may.
    #[error("the queue is full: it holds {length_max} messages")]
    Full {
        /// See [`crate::QueueSettings::length_max`].
        length_max: u64,
    },
    /// The disk has no room; what is left is kept for consumers. Puts are accepted again when
    /// messages are taken or the disk has room.
    #[error("the disk is full")]
    NoSpace,
    /// The payload is longer than allowed.
    #[error("a message has at most {bytes_max} bytes, this one has {bytes}")]
    TooLong {
        /// Bytes of the payload.
        bytes: u64,
        /// Bytes allowed.
        bytes_max: u64,
    },
    /// The payload is longer than allowed once its number is filled in.
    #[error(
        "a message has at most {bytes_max} bytes, this one has {bytes} with its number filled in"
    )]
    RenderedTooLong {
        /// Bytes of the rendered payload.
        bytes: u64,
        /// Bytes allowed.
        bytes_max: u64,
    },
    /// See [`LogFailed`].
    #[error(transparent)]
    Failed(#[from] LogFailed),
}

/// Why a message is not handed out. Nothing was changed.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The disk has no room to write down that the message is taken.
    #[error("the disk is full")]
    NoSpace,
    /// See [`ReadFailed`].
    #[error(transparent)]
    Disk(#[from] ReadFailed),
    /// See [`LogFailed`].
    #[error(transparent)]
    Failed(#[from] LogFailed),
}

/// Why a message is not changed. Nothing was.
#[derive(Debug, Error)]
pub enum ChangeError {
    /// The disk has no room to write the change down.
    #[error("the disk is full")]
    NoSpace,
    /// See [`LogFailed`].
    #[error(transparent)]
    Failed(#[from] LogFailed),
}

/// What came of a change to one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Done,
    /// There is no such message, or no more.
    Missing,
    /// The message is there, in a state in which this does not apply: released or buried without
    /// being leased, acknowledged when buried, kicked when neither buried nor delayed.
    NotApplicable,
}

/// A message handed to a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserved<'a> {
    /// Its number, to acknowledge it by.
    pub seq: Seq,
    /// How often it was handed out, this time included; stays at 65,535.
    pub attempts: u16,
    /// What was put.
    pub payload: &'a [u8],
}

/// A message set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buried<'a> {
    /// Its number.
    pub seq: Seq,
    /// How often it was handed out.
    pub attempts: u16,
    /// Why it was buried.
    pub reason: &'a str,
    /// What was put; empty when it cannot be read any more.
    pub payload: &'a [u8],
}

impl From<AppendError> for ChangeError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::NoSpace => Self::NoSpace,
            AppendError::Failed(failed) => Self::Failed(failed),
        }
    }
}

impl From<ChangeError> for ReadError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::NoSpace => Self::NoSpace,
            ChangeError::Failed(failed) => Self::Failed(failed),
        }
    }
}
