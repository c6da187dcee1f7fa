//! The moment a response was made, as its Date field says it.

use std::time::SystemTime;

/// A moment as an IMF-fixdate, such as `Sun, 06 Nov 1994 08:49:37 GMT`.
///
/// Formatting takes longer than the rest of a small response, so a server makes one per second; with
/// it comes the front of nearly all of its responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Date {
    /// The status line with 200, and the whole line of the date.
    ok_front: [u8; FRONT_BYTES + DATE_BYTES + 2],
}

/// What stands before the date.
const FRONT: &[u8; FRONT_BYTES] = b"HTTP/1.1 200 OK\r\nDate: ";
const FRONT_BYTES: usize = 23;

/// An IMF-fixdate has a fixed length.
const DATE_BYTES: usize = 29;

impl Date {
    /// The date at `time`, to the second.
    #[must_use]
    pub fn at(time: SystemTime) -> Self {
        // Past the year 9999 there is no such date, and the formatter would panic.
        let latest = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(253_402_300_799);
        let time = time.clamp(SystemTime::UNIX_EPOCH, latest);
        let text = httpdate::fmt_http_date(time);
        let parts = [FRONT, text.as_bytes(), b"\r\n"];
        let ok_front = parts.concat().try_into().expect("an IMF-fixdate has a fixed length");
        Self { ok_front }
    }

    /// The text.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.ok_front[FRONT_BYTES..FRONT_BYTES + DATE_BYTES]
    }

    /// A status line with 200, and a line with the date.
    pub(super) fn ok_front(&self) -> &[u8] {
        &self.ok_front
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn dates_are_those_of_the_rfc() {
        // RFC 9110, section 5.6.7.
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(Date::at(time).as_bytes(), b"Sun, 06 Nov 1994 08:49:37 GMT");
    }

    #[test]
    fn a_clock_that_is_far_off_gives_a_date_all_the_same() {
        let long = Duration::from_secs(300_000_000_000);
        assert_eq!(
            Date::at(SystemTime::UNIX_EPOCH + long).as_bytes(),
            b"Fri, 31 Dec 9999 23:59:59 GMT"
        );
        assert_eq!(
            Date::at(SystemTime::UNIX_EPOCH - long).as_bytes(),
            b"Thu, 01 Jan 1970 00:00:00 GMT"
        );
    }
}
