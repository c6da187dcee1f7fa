//! [`WebhookUrl`]: where an application listens.

use std::str::FromStr;

use thiserror::Error;

/// Where an application listens: `http://HOST[:PORT][/PATH]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookUrl {
    authority: String,
    target: String,
}

/// Why a text is no such address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadUrl {
    /// TLS is not spoken here.
    #[error(
        "https is not spoken here: give an http address, of a proxy beside this server if need be"
    )]
    Https,
    /// It is none at all.
    #[error("it is not an address such as http://127.0.0.1:8080/hooks")]
    NoUrl,
}

impl WebhookUrl {
    /// Host and port, as they stand in the field Host.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Host and port to connect to.
    #[must_use]
    pub fn address(&self) -> String {
        match split_port(&self.authority) {
            (_, Some(_)) => self.authority.clone(),
            (host, None) => format!("{host}:80"),
        }
    }

    /// Path and query.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }
}

impl FromStr for WebhookUrl {
    type Err = BadUrl;

    fn from_str(text: &str) -> Result<Self, BadUrl> {
        if text.starts_with("https://") {
            return Err(BadUrl::Https);
        }
        let rest = text.strip_prefix("http://").ok_or(BadUrl::NoUrl)?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let (host, port) = split_port(authority);
        let is_port = |port: &str| {
            port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
        };
        let is_host = !host.is_empty() && (host.starts_with('[') || !host.contains(':'));
        if !is_host || !port.is_none_or(is_port) {
            return Err(BadUrl::NoUrl);
        }
        let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if authority.contains('@') || !is_plain(text) || text.contains('#') {
            return Err(BadUrl::NoUrl);
        }
        let target = if target.starts_with('/') { target.into() } else { format!("/{target}") };
        Ok(WebhookUrl { authority: authority.into(), target })
    }
}

/// The host, and the port if there is one: the colons of an IPv6 address are within brackets.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

impl std::fmt::Display for WebhookUrl {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "http://{}{}", self.authority, self.target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_or_refused() {
        for (text, address, target) in [
            ("http://a", "a:80", "/"),
            ("http://a:8080/hook?x=1", "a:8080", "/hook?x=1"),
            ("http://[::1]:9", "[::1]:9", "/"),
            ("http://[::1]", "[::1]:80", "/"),
            ("http://a?x", "a:80", "/?x"),
        ] {
            let url: WebhookUrl = text.parse().expect("it is one");
            assert_eq!((url.address().as_str(), url.target()), (address, target), "{text}");
        }
        assert_eq!("https://a".parse::<WebhookUrl>(), Err(BadUrl::Https));
        for text in [
            "",
            "a",
            "ftp://a",
            "http://",
            "http:///x",
            "http://a b",
            "http://u@a",
            "http://a#b",
            "http://a:",
            "http://a:http/x",
            "http://a:65536",
            "http://:80",
            "http://::1",
        ] {
            assert_eq!(text.parse::<WebhookUrl>(), Err(BadUrl::NoUrl), "{text}");
        }
    }
}
