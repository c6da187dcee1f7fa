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
    /// Exceptions; see [`AllowList::deny`].
    denied: Vec<IpNet>,
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
        AllowList { everyone: true, ..AllowList::default() }
    }

    /// This machine: 127.0.0.1 and `::1`, the old framework's default.
    #[must_use]
    pub fn loopback() -> Self {
        let hosts = [IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])];
        AllowList { prefixes: hosts.map(IpNet::from).to_vec(), ..AllowList::default() }
    }

    /// Adds one address or prefix.
    ///
    /// # Errors
    /// [`NotAPrefix`] when the text is neither.
    pub fn add(&mut self, text: &str) -> Result<(), NotAPrefix> {
        self.prefixes.push(parse(text)?);
        Ok(())
    }

    /// Adds exceptions: who is in one of these prefixes may not connect, unless a longer prefix
    /// among those that may says so.
    #[must_use]
    pub fn deny(mut self, prefixes: impl IntoIterator<Item = IpNet>) -> Self {
        self.denied.extend(prefixes);
        self
    }

    /// Whether `address` may connect.
    #[must_use]
    pub fn allows(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let longest = |prefixes: &[IpNet]| {
            let found = prefixes.iter().filter(|prefix| prefix.contains(&address));
            found.map(IpNet::prefix_len).max()
        };
        let allowed = longest(&self.prefixes).or(self.everyone.then_some(0));
        match (allowed, longest(&self.denied)) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(allowed), Some(denied)) => allowed > denied,
        }
    }
}

impl<T: AsRef<str>> TryFrom<&[T]> for AllowList {
    type Error = NotAPrefix;

    fn try_from(texts: &[T]) -> Result<Self, NotAPrefix> {
        let prefixes = texts.iter().map(|text| parse(text.as_ref())).collect::<Result<_, _>>()?;
        Ok(AllowList { prefixes, ..AllowList::default() })
    }
}

impl FromIterator<IpNet> for AllowList {
    fn from_iter<I: IntoIterator<Item = IpNet>>(prefixes: I) -> Self {
        AllowList { prefixes: prefixes.into_iter().collect(), ..AllowList::default() }
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

    #[test]
    fn the_longest_prefix_decides_and_a_denial_wins_ties() {
        let nets = |texts: &[&str]| -> Vec<IpNet> {
            texts.iter().map(|text| parse(text).unwrap()).collect()
        };
        let list: AllowList = nets(&["10.0.0.0/8", "10.1.2.3", "127.0.0.1"]).into_iter().collect();
        let list = list.deny(nets(&["10.1.0.0/16", "127.0.0.1"]));
        for (address, allowed) in [
            ("10.2.0.1", true),
            ("10.1.2.4", false),
            ("10.1.2.3", true),
            ("127.0.0.1", false),
            ("192.168.0.1", false),
            ("::ffff:10.1.2.4", false),
        ] {
            assert_eq!(list.allows(address.parse().unwrap()), allowed, "{address}");
        }
        let all_but_one = AllowList::everyone().deny(nets(&["10.0.0.1"]));
        assert!(all_but_one.allows("10.0.0.2".parse().unwrap()));
        assert!(!all_but_one.allows("10.0.0.1".parse().unwrap()));
    }

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
