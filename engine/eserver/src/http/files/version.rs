//! Whether a client has a file already (RFC 9110, section 13).

use std::time::{Duration, SystemTime};

use eserver_wire::http::Date;

use crate::http::files::coding::Coding;

/// A state of a file: when it changes, this does, except that two changes within the clock's grain
/// that keep the length look the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    /// When the file was changed last.
    pub(super) modified: SystemTime,
    /// Its length in bytes.
    pub(super) bytes: u64,
    /// The form that it is in.
    pub(super) coding: Coding,
}

impl Version {
    /// A strong entity tag.
    pub(super) fn entity_tag(self) -> String {
        let since = self.modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let form = self.coding.suffix().replace('.', "-");
        format!("\"{:x}-{:x}{form}\"", since.as_nanos(), self.bytes)
    }

    /// The field Last-Modified.
    pub(super) fn last_modified(self) -> Date {
        Date::at(self.modified)
    }

    /// Whether this is what a client takes for granted, by its If-Match, or else by its
    /// If-Unmodified-Since.
    pub(super) fn is_expected(self, matches: Option<&str>, unmodified_since: Option<&str>) -> bool {
        if let Some(tags) = matches {
            let own = self.entity_tag();
            return tags.split(',').any(|tag| matches!(tag.trim(), "*") || tag.trim() == own);
        }
        let since = unmodified_since.and_then(|text| httpdate::parse_http_date(text).ok());
        since.is_none_or(|since| self.second() <= since)
    }

    /// Whether what a client has is this, by its If-None-Match, or else by its If-Modified-Since.
    pub(super) fn is_known(self, none_match: Option<&str>, modified_since: Option<&str>) -> bool {
        if let Some(tags) = none_match {
            let own = self.entity_tag();
            let is_own = |tag: &str| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == own;
            return tags.split(',').any(|tag| is_own(tag.trim()));
        }
        let since = modified_since.and_then(|text| httpdate::parse_http_date(text).ok());
        since.is_some_and(|since| self.second() <= since)
    }

    /// Whether a part of this continues what a client has, by its If-Range.
    pub(super) fn continues(self, if_range: Option<&str>) -> bool {
        match if_range {
            None => true,
            Some(tag) if tag.starts_with('"') => tag == self.entity_tag(),
            Some(date) => httpdate::parse_http_date(date).is_ok_and(|date| date == self.second()),
        }
    }

    /// The time as dates in fields have it.
    fn second(self) -> SystemTime {
        let since = self.modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions() {
        let modified = SystemTime::UNIX_EPOCH + Duration::from_millis(784_111_777_250);
        let version = Version { modified, bytes: 255, coding: Coding::Identity };
        let tag = version.entity_tag();
        assert_eq!(tag, "\"ae1b981cb2fbc80-ff\"");
        assert_eq!(version.last_modified().as_bytes(), b"Sun, 06 Nov 1994 08:49:37 GMT");
        let (then, before) = ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:36 GMT");
        for (none_match, since, expected) in [
            (None, None, false),
            (Some(tag.as_str()), None, true),
            (Some(&*format!("W/{tag}")), None, true),
            (Some(&*format!("\"x\" , {tag}")), None, true),
            (Some("*"), None, true),
            (Some("\"x\""), None, false),
            (Some("\"x\""), Some(then), false),
            (None, Some(then), true),
            (None, Some("Sunday, 06-Nov-94 08:49:38 GMT"), true),
            (None, Some(before), false),
            (None, Some("yesterday"), false),
        ] {
            assert_eq!(version.is_known(none_match, since), expected, "{none_match:?} {since:?}");
        }
        for (matches, since, expected) in [
            (None, None, true),
            (Some(tag.as_str()), None, true),
            (Some(&*format!("\"x\", {tag}")), Some(before), true),
            (Some("*"), None, true),
            (Some(&*format!("W/{tag}")), None, false),
            (Some("\"x\""), Some(then), false),
            (None, Some(then), true),
            (None, Some(before), false),
            (None, Some("yesterday"), true),
        ] {
            assert_eq!(version.is_expected(matches, since), expected, "{matches:?} {since:?}");
        }
        for (if_range, expected) in [
            (None, true),
            (Some(tag.as_str()), true),
            (Some(&*format!("W/{tag}")), false),
            (Some("\"x\""), false),
            (Some(then), true),
            (Some(before), false),
            (Some(""), false),
        ] {
            assert_eq!(version.continues(if_range), expected, "{if_range:?}");
        }
        let ancient = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        let version = Version { modified: ancient, bytes: 0, coding: Coding::Gzip };
        assert_eq!(version.entity_tag(), "\"0-0-gz\"");
    }
}
