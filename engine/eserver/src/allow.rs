//! [`AllowList`]: which addresses may connect.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use thiserror::Error;

/// Addresses and prefixes that may connect; everybody else is closed at once, without a byte.
///
/// IPv4 addresses that arrive over an IPv6 socket (`::ffff:10.0.0.1`) count as IPv4.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowList {
    prefixes: Vec<IpNet>,
    everyone: bool,
}

/// A text that is neither an address nor a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} is not an address (10.0.0.7, ::1) or a prefix (10.0.0.0/8, fd00::/8)")]
pub struct NotAPrefix {
    /// What was given.
    pub text: String,
}

impl AllowList {
    /// Nobody, until [`AllowList::add`].
    #[must_use]
    pub fn nobody() -> Self {
        AllowList::default()
    }

    /// Everybody.
    #[must_use]
    pub fn everyone() -> Self {
        AllowList { prefixes: Vec::new(), everyone: true }
    }

    /// This machine: 127.0.0.1 and `::1`, the old framework's default.
    #[must_use]
    pub fn loopback() -> Self {
        let hosts = [IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])];
        AllowList { prefixes: hosts.map(IpNet::from).to_vec(), everyone: false }
    }

    /// Adds one address or prefix.
    ///
    /// # Errors
    /// [`NotAPrefix`] when the text is neither.
    pub fn add(&mut self, text: &str) -> Result<(), NotAPrefix> {
        self.prefixes.push(parse(text)?);
        Ok(())
    }

    /// Whether `address` may connect.
    #[must_use]
    pub fn allows(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.everyone || self.prefixes.iter().any(|prefix| prefix.contains(&address))
    }
}

impl<T: AsRef<str>> TryFrom<&[T]> for AllowList {
    type Error = NotAPrefix;

    fn try_from(texts: &[T]) -> Result<Self, NotAPrefix> {
        let prefixes = texts.iter().map(|text| parse(text.as_ref())).collect::<Result<_, _>>()?;
        Ok(AllowList { prefixes, everyone: false })
    }
}

impl FromIterator<IpNet> for AllowList {
    fn from_iter<I: IntoIterator<Item = IpNet>>(prefixes: I) -> Self {
        AllowList { prefixes: prefixes.into_iter().collect(), everyone: false }
    }
}

fn parse(text: &str) -> Result<IpNet, NotAPrefix> {
    let text = text.trim();
    IpAddr::from_str(text)
        .map(|address| IpNet::from(address.to_canonical()))
        .or_else(|_| IpNet::from_str(text))
        .map_err(|_| NotAPrefix { text: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(list: &[&str], allowed: &[&str], refused: &[&str]) {
        let list = AllowList::try_from(list).unwrap();
        for (addresses, expected) in [(allowed, true), (refused, false)] {
            for address in addresses {
                assert_eq!(list.allows(address.parse().unwrap()), expected, "{address}");
            }
        }
    }

    #[test]
    fn addresses_and_prefixes_of_both_families() {
        check(
            &["127.0.0.1", "10.0.0.0/8", "fd00::/8", "::1"],
            &["127.0.0.1", "10.255.0.3", "fd12::9", "::1", "::ffff:10.1.2.3"],
            &["127.0.0.10", "127.0.0.2", "11.0.0.1", "fe80::1", "::2", "::ffff:127.0.0.2"],
        );
    }

    #[test]
    fn a_second_entry_never_locks_out_the_first() {
        check(&["127.0.0.1", "127.0.0.10"], &["127.0.0.1", "127.0.0.10"], &["127.0.0.100"]);
    }

    #[test]
    fn the_empty_list_refuses_and_everyone_does_not() {
        check(&[], &[], &["127.0.0.1", "::1"]);
        assert!(AllowList::everyone().allows("192.0.2.1".parse().unwrap()));
        assert!(AllowList::loopback().allows("::1".parse().unwrap()));
        assert!(!AllowList::loopback().allows("127.0.0.2".parse().unwrap()));
    }

    #[test]
    fn nonsense_is_named() {
        for text in ["localhost", "10.0.0.0/33", "10.0.0", "", "127.0.0.1:8888"] {
            let error = AllowList::nobody().add(text).unwrap_err();
            assert_eq!(error, NotAPrefix { text: text.to_owned() });
        }
    }
}
