//! [`Origins`]: which web pages may use the public port, by where they are from.

use std::net::Ipv6Addr;
use std::str::FromStr;

use thiserror::Error;

/// Which web pages may use the public port.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Origins {
    /// Pages from anywhere.
    #[default]
    Any,
    /// Pages of these origins; if there are none, no pages.
    Of(Vec<Origin>),
}

/// Where a web page is from, as its browser says it (RFC 6454): `https://example.org`,
/// `http://localhost:5173`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin(Box<str>);

/// Why a text is not what a browser would send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadOrigin {
    /// There is none of the letters in front of `://`.
    #[error("it does not begin with a scheme, such as https://")]
    Scheme,
    /// Of such addresses no page is.
    #[error("pages are from http or https, also when they open a WebSocket")]
    NoPage,
    /// It is `null`.
    #[error("any page can make itself one that sends `null`")]
    Null,
    /// It has a `*`.
    #[error("origins are compared as they are; only `*` by itself stands for all")]
    Wildcard,
    /// There is a path, or a query, or a slash.
    #[error("it ends with the host or the port: no path, no slash")]
    Path,
    /// There is an `@`.
    #[error("it has no name of a user")]
    User,
    /// There are capital letters.
    #[error("browsers send it in small letters")]
    Case,
    /// The host is none.
    #[error("that is not the name of a host, in ASCII, or its address")]
    Host,
    /// The port is none.
    #[error("the port is a number from 1 to 65535")]
    Port,
    /// The port is that which the scheme has anyway.
    #[error("browsers leave out the port that the scheme has anyway")]
    UsualPort,
}

impl Origins {
    /// Whether pages that say they are from there may use the port.
    #[must_use]
    pub fn has(&self, origin: &[u8]) -> bool {
        match self {
            Origins::Any => true,
            Origins::Of(origins) => origins.iter().any(|one| one.0.as_bytes() == origin),
        }
    }
}

impl Origin {
    /// As it is sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Origin {
    type Err = BadOrigin;

    fn from_str(text: &str) -> Result<Self, BadOrigin> {
        if text == "null" {
            return Err(BadOrigin::Null);
        } else if text.contains('*') {
            return Err(BadOrigin::Wildcard);
        }
        let (scheme, rest) = text.split_once("://").ok_or(BadOrigin::Scheme)?;
        let is_of_schemes = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        if !scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            || !scheme.bytes().all(is_of_schemes)
        {
            return Err(BadOrigin::Scheme);
        } else if rest.contains(['/', '\\', '?', '#']) {
            return Err(BadOrigin::Path);
        } else if rest.contains('@') {
            return Err(BadOrigin::User);
        } else if text.contains(|letter: char| letter.is_ascii_uppercase()) {
            return Err(BadOrigin::Case);
        } else if ["ws", "wss", "file"].contains(&scheme) {
            return Err(BadOrigin::NoPage);
        }
        let host_bytes = match rest.strip_prefix('[') {
            Some(inside) => {
                let (address, _) = inside.split_once(']').ok_or(BadOrigin::Host)?;
                address.parse::<Ipv6Addr>().map_err(|_| BadOrigin::Host)?;
                address.len() + 2
            }
            None => rest.find(':').unwrap_or(rest.len()),
        };
        let (host, port) = rest.split_at(host_bytes);
        let is_of_hosts = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if host.is_empty() || !host.starts_with('[') && !host.bytes().all(is_of_hosts) {
            return Err(BadOrigin::Host);
        }
        if !port.is_empty() {
            let digits = port.strip_prefix(':').ok_or(BadOrigin::Host)?;
            let number: u16 = digits.parse().map_err(|_| BadOrigin::Port)?;
            if number == 0 || number.to_string() != digits {
                return Err(BadOrigin::Port);
            } else if [("http", 80), ("https", 443)].contains(&(scheme, number)) {
                return Err(BadOrigin::UsualPort);
            }
        }
        Ok(Origin(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_what_browsers_send_or_refused() {
        for text in [
            "https://example.org",
            "http://localhost:5173",
            "https://a-b.xn--bcher-kva.example:8443",
            "http://192.168.1.1",
            "http://[::1]",
            "http://[2001:db8::1]:8080",
            "https://example.org:80",
            "capacitor://localhost",
            "chrome-extension://abcdefghijklmnop",
        ] {
            assert_eq!(text.parse::<Origin>().expect("it is one").as_str(), text);
        }
        use BadOrigin::{Case, Host, NoPage, Null, Path, Port, Scheme, User, UsualPort, Wildcard};
        for (text, error) in [
            ("", Scheme),
            ("example.org", Scheme),
            ("example.org:443", Scheme),
            ("//example.org", Scheme),
            ("://example.org", Scheme),
            ("ht tp://example.org", Scheme),
            ("null", Null),
            ("*", Wildcard),
            ("https://*.example.org", Wildcard),
            ("https://example.org/", Path),
            ("https://example.org/app", Path),
            ("https://example.org?x", Path),
            ("https://user@example.org", User),
            ("https://Example.org", Case),
            ("HTTPS://example.org", Case),
            ("wss://example.org", NoPage),
            ("file://", NoPage),
            ("https://", Host),
            ("https://:8443", Host),
            ("https://bücher.example", Host),
            ("https://a b", Host),
            ("https://a, https", Host),
            ("http://[::1", Host),
            ("http://[example]", Host),
            ("http://[::1]x", Host),
            ("https://a:", Port),
            ("https://a:0", Port),
            ("https://a:65536", Port),
            ("https://a:+80", Port),
            ("https://a:080", Port),
            ("https://example.org:443", UsualPort),
            ("http://example.org:80", UsualPort),
        ] {
            assert_eq!(text.parse::<Origin>(), Err(error), "{text}");
        }
    }

    #[test]
    fn only_what_is_listed_is_let_in() {
        let listed = |text: &str| text.parse().expect("it is one");
        let origins = Origins::Of(vec![listed("https://a"), listed("http://b:1")]);
        for (origin, is_in) in [
            ("https://a", true),
            ("http://b:1", true),
            ("http://a", false),
            ("https://a.evil", false),
            ("https://evil.a", false),
            ("https://A", false),
            ("null", false),
            ("", false),
        ] {
            assert_eq!(origins.has(origin.as_bytes()), is_in, "{origin}");
            assert!(Origins::Any.has(origin.as_bytes()));
            assert!(!Origins::Of(Vec::new()).has(origin.as_bytes()));
        }
    }
}
