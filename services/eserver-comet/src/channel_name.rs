//! [`ChannelName`]: a name that may be a channel's.

use thiserror::Error;

/// How long the name of a channel may be, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// The name of a channel: any text of at most [`NAME_BYTES_MAX`] bytes. Clients of icomet may leave
/// it empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelName<'a>(&'a str);

/// Why a text is no channel's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a channel's name has at most {NAME_BYTES_MAX} bytes, not {0}")]
pub struct NameTooLong(pub usize);

impl<'a> ChannelName<'a> {
    /// The name that `text` is.
    ///
    /// # Errors
    /// [`NameTooLong`]
    pub fn new(text: &'a str) -> Result<Self, NameTooLong> {
        if text.len() > NAME_BYTES_MAX { Err(NameTooLong(text.len())) } else { Ok(Self(text)) }
    }

    /// The text.
    #[must_use]
    pub fn as_str(self) -> &'a str {
        self.0
    }
}
