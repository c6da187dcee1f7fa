//! [`Text`]: whether what has come of a text is UTF-8, fragment by fragment.

/// How much of a text has been looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Text {
    /// Bytes from the front that are known to be whole characters.
    good_bytes: usize,
}

impl Text {
    /// Looks at what is new of `text`; false if no end could make it UTF-8.
    pub(super) fn look(&mut self, text: &[u8]) -> bool {
        match str::from_utf8(&text[self.good_bytes..]) {
            Ok(_) => self.good_bytes = text.len(),
            Err(error) if error.error_len().is_none() => self.good_bytes += error.valid_up_to(),
            Err(_) => return false,
        }
        true
    }

    /// Whether all of it are whole characters.
    pub(super) fn is_whole(self, text: &[u8]) -> bool {
        self.good_bytes == text.len()
    }
}
