//! Names for requests, by which a client, a log and a proxy mean the same one.

use std::hash::{BuildHasher, RandomState};

/// The field that has it, in both directions.
pub(super) const FIELD: &str = "X-Request-Id";

/// The longest id taken over from a client, in bytes. A longer one is replaced.
const ID_BYTES_MAX: usize = 128;

/// A shard's source of ids.
pub(super) struct RequestIds {
    /// Its keys are random.
    key: RandomState,
    count: u64,
}

impl RequestIds {
    pub(super) fn new() -> Self {
        RequestIds { key: RandomState::new(), count: 0 }
    }

    /// The client's own id, if it is one that can stand in any log; else a new one.
    pub(super) fn of(&mut self, sent: Option<&str>) -> String {
        let is_plain = |id: &&str| {
            (1..=ID_BYTES_MAX).contains(&id.len())
                && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(&byte))
        };
        if let Some(id) = sent.filter(is_plain) {
            return id.to_owned();
        }
        self.count += 1;
        format!("{:016x}", self.key.hash_one(self.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_taken_over_or_made() {
        let mut ids = RequestIds::new();
        let long = "a".repeat(129);
        for (sent, expected) in [
            (Some("abc-1_2.3:/+="), Some("abc-1_2.3:/+=")),
            (Some(&long[..128]), Some(&long[..128])),
            (Some(long.as_str()), None),
            (Some("a b"), None),
            (Some("a\"b"), None),
            (Some(""), None),
            (None, None),
        ] {
            let id = ids.of(sent);
            match expected {
                Some(expected) => assert_eq!(id, expected),
                None => {
                    assert!(id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
                    assert_ne!(ids.of(sent), id);
                }
            }
        }
    }
}
