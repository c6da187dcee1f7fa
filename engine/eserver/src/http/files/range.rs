//! Which part of a file a client asks for (RFC 9110, section 14).

use std::ops::Range;

/// What a Range field comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it: the field says nothing that is understood here, several ranges for instance.
    Whole,
    /// These bytes, at least one.
    Part(Range<u64>),
    /// Bytes that are not there.
    Nothing,
}

/// What `value` asks for of a file of `bytes` bytes.
pub(super) fn wanted(value: &str, bytes: u64) -> Wanted {
    let Some((first, last)) = parse(value) else { return Wanted::Whole };
    let range = match (first, last) {
        (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(bytes),
        (Some(first), None) => first..bytes,
        (None, Some(suffix)) => bytes.saturating_sub(suffix)..bytes,
        _ => return Wanted::Whole,
    };
    if range.is_empty() { Wanted::Nothing } else { Wanted::Part(range) }
}

/// The one range of a field, as it was written.
fn parse(value: &str) -> Option<(Option<u64>, Option<u64>)> {
    let (unit, range) = value.split_once('=')?;
    let (first, last) = range.trim().split_once('-')?;
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !unit.trim().eq_ignore_ascii_case("bytes") || !is_digits(first) || !is_digits(last) {
        return None;
    }
    // A number that is too large for us is larger than any file.
    let number = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap_or(u64::MAX));
    Some((number(first), number(last)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (value, bytes, expected) in [
            ("bytes=0-0", 10, Wanted::Part(0..1)),
            ("bytes=2-5", 10, Wanted::Part(2..6)),
            ("bytes=2-", 10, Wanted::Part(2..10)),
            ("bytes=-3", 10, Wanted::Part(7..10)),
            ("bytes=-30", 10, Wanted::Part(0..10)),
            ("bytes=9-100", 10, Wanted::Part(9..10)),
            ("Bytes = 1-2", 10, Wanted::Part(1..3)),
            ("bytes=1-18446744073709551615", 10, Wanted::Part(1..10)),
            ("bytes=10-", 10, Wanted::Nothing),
            ("bytes=99999999999999999999-", 10, Wanted::Nothing),
            ("bytes=-0", 10, Wanted::Nothing),
            ("bytes=0-", 0, Wanted::Nothing),
            ("bytes=-1", 0, Wanted::Nothing),
            ("bytes=5-2", 10, Wanted::Whole),
            ("bytes=-", 10, Wanted::Whole),
            ("bytes=", 10, Wanted::Whole),
            ("bytes=1", 10, Wanted::Whole),
            ("bytes=+1-2", 10, Wanted::Whole),
            ("bytes=0-1,3-4", 10, Wanted::Whole),
            ("bytes=--1", 10, Wanted::Whole),
            ("lines=0-1", 10, Wanted::Whole),
            ("", 10, Wanted::Whole),
        ] {
            assert_eq!(wanted(value, bytes), expected, "{value} of {bytes}");
        }
    }
}
