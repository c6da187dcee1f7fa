//! `QueueName`, a name that is safe in paths, logs and metrics.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The longest name, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// The name of a queue: 1 to [`NAME_BYTES_MAX`] of `A-Z a-z 0-9 _ . -`, not starting with a dot.
///
/// It is the name of the queue's directory, which is why nothing else is let in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueName(Box<str>);

/// What is wrong with a name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum QueueNameError {
    /// There are no characters at all.
    #[error("a queue's name must not be empty")]
    Empty,
    /// There are too many characters.
    #[error("a queue's name has at most {NAME_BYTES_MAX} characters, this one has {0}")]
    TooLong(usize),
    /// It would be hidden, or mean a parent directory.
    #[error("a queue's name must not start with a dot")]
    LeadingDot,
    /// A character that is not let in.
    #[error("a queue's name is made of letters, digits, `_`, `.` and `-`, not of {0:?}")]
    Character(char),
}

impl QueueName {
    /// Checks `text` and makes it a name.
    ///
    /// # Errors
    /// [`QueueNameError`] says which rule it breaks.
    pub fn new(text: &str) -> Result<Self, QueueNameError> {
        if text.is_empty() {
            return Err(QueueNameError::Empty);
        }
        if text.len() > NAME_BYTES_MAX {
            return Err(QueueNameError::TooLong(text.chars().count()));
        }
        if text.starts_with('.') {
            return Err(QueueNameError::LeadingDot);
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        match text.chars().find(|&c| !allowed(c)) {
            Some(character) => Err(QueueNameError::Character(character)),
            None => Ok(Self(text.into())),
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl AsRef<str> for QueueName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for QueueName {
    type Err = QueueNameError;

    fn from_str(text: &str) -> Result<Self, QueueNameError> {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_a_path_can_hold() {
        for good in ["a", "sql", "img-2.small_1", "-", "0", &"x".repeat(64)] {
            assert_eq!(QueueName::new(good).unwrap().as_str(), good);
        }
        for (bad, why) in [
            ("", QueueNameError::Empty),
            (".", QueueNameError::LeadingDot),
            ("..", QueueNameError::LeadingDot),
            ("a/b", QueueNameError::Character('/')),
            ("a b", QueueNameError::Character(' ')),
            ("a\0", QueueNameError::Character('\0')),
            ("größe", QueueNameError::Character('ö')),
            (&"x".repeat(65), QueueNameError::TooLong(65)),
        ] {
            assert_eq!(QueueName::new(bad), Err(why), "{bad:?}");
        }
    }
}
