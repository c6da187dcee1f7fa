//! Addresses to listen on and prefixes to let in, with a word on what was probably meant.
//!
//! Nothing is looked up: a name that means another machine tomorrow has no place in either.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

/// Why a text is not what was asked for, and what to write instead.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Misread {
    /// What stands under the caret.
    pub(crate) label: String,
    /// What to do.
    pub(crate) help: String,
}

fn misread<T>(label: impl Into<String>, help: impl Into<String>) -> Result<T, Misread> {
    Err(Misread { label: label.into(), help: help.into() })
}

/// An address with its port: `127.0.0.1:8888`, `[::1]:8888`, `0.0.0.0:8888`. `port` is suggested
/// where one is missing.
pub(crate) fn parse_listen(text: &str, port: u16) -> Result<SocketAddr, Misread> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return match address {
            IpAddr::V4(address) => {
                misread("the port is missing", format!("write \"{address}:{port}\""))
            }
            IpAddr::V6(address) => misread(
                "the port is missing, or the brackets around the address",
                format!("write \"[{address}]:{port}\"{}", split_v6(text)),
            ),
        };
    }
    if let Some((_, rest)) = text.split_once("://") {
        return misread("a URL", format!("write only the address and the port: {rest:?}"));
    }
    let usual = port.to_string();
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    if host.is_empty() || (port.is_empty() && host.parse::<u16>().is_ok()) {
        let port = [port, host].into_iter().find(|part| !part.is_empty()).unwrap_or(&usual);
        return misread(
            "the address is missing",
            format!("write \"127.0.0.1:{port}\" for this machine only, \"0.0.0.0:{port}\" for all"),
        );
    }
    let port = if port.is_empty() { &usual } else { port };
    if port.parse::<u16>().is_err() {
        return misread(format!("{port:?} is not a port"), "a port is a number from 0 to 65535");
    }
    match host {
        "*" => misread(
            "`*` is not an address",
            format!("write \"0.0.0.0:{port}\" for all of IPv4, \"[::]:{port}\" for all of IPv6"),
        ),
        "localhost" => misread(
            "a host name; names are not looked up here",
            format!("write \"127.0.0.1:{port}\", \"[::1]:{port}\", or both in a list"),
        ),
        _ if host.parse::<Ipv6Addr>().is_ok() => misread(
            "the brackets around the IPv6 address are missing",
            format!("write \"[{host}]:{port}\""),
        ),
        _ if looks_numeric(host) => {
            misread("not an address", "four numbers from 0 to 255, a colon, and the port")
        }
        _ => misread(
            "a host name; names are not looked up here",
            format!("write the IP address of the interface, or \"0.0.0.0:{port}\" for all"),
        ),
    }
}

/// `::1:8888` is an address as it stands, but hardly the one that was meant.
fn split_v6(text: &str) -> String {
    match text.rsplit_once(':') {
        Some((host, port)) if host.parse::<Ipv6Addr>().is_ok() && port.parse::<u16>().is_ok() => {
            format!(", or \"[{host}]:{port}\" if {port} is the port")
        }
        _ => String::new(),
    }
}

/// An address or a prefix: `127.0.0.1`, `::1`, `10.0.0.0/8`, `fd00::/8`.
pub(crate) fn parse_prefix(text: &str) -> Result<IpNet, Misread> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address.to_canonical()));
    }
    if let Ok(prefix) = text.parse() {
        return Ok(prefix);
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        let host = address.ip();
        return misread("a port has no place here", format!("write \"{host}\""));
    }
    if let Some((host, bits)) = text.split_once('/') {
        return match host.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => {
                misread(format!("{bits:?} is no prefix length"), "an IPv4 prefix has 0 to 32 bits")
            }
            Ok(IpAddr::V6(_)) => {
                misread(format!("{bits:?} is no prefix length"), "an IPv6 prefix has 0 to 128 bits")
            }
            Err(_) => misread("not a prefix", "write it as in \"10.0.0.0/8\" or \"fd00::/8\""),
        };
    }
    if matches!(text, "*" | "all" | "any" | "") {
        return misread(
            "not an address",
            "to let everybody in, write \"0.0.0.0/0\" for IPv4 and \"::/0\" for IPv6",
        );
    }
    if let Some(prefix) = wildcard(text) {
        return misread("`*` is not part of an address", format!("write \"{prefix}\""));
    }
    if looks_numeric(text) {
        return misread("not an address", "an IPv4 address is four numbers from 0 to 255");
    }
    misread(
        "a host name; names are not looked up here",
        "write its IP address; for this machine \"127.0.0.1\" and \"::1\"",
    )
}

/// `10.1.*` as the prefix it stands for.
fn wildcard(text: &str) -> Option<IpNet> {
    let fixed: Vec<&str> = text.split('.').take_while(|part| *part != "*").collect();
    if fixed.is_empty() || fixed.len() > 3 || !text.ends_with('*') {
        return None;
    }
    let mut octets = fixed.clone();
    octets.resize(4, "0");
    format!("{}/{}", octets.join("."), fixed.len() * 8).parse().ok()
}

fn looks_numeric(text: &str) -> bool {
    text.chars().all(|character| character.is_ascii_digit() || character == '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_families_are_read() {
        for text in ["127.0.0.1:0", "0.0.0.0:65535", "[::1]:8888", "[fe80::1%2]:80"] {
            assert_eq!(parse_listen(text, 8888).unwrap(), text.parse().unwrap());
        }
        for (text, prefix) in [
            ("127.0.0.1", "127.0.0.1/32"),
            ("::1", "::1/128"),
            ("::ffff:10.0.0.7", "10.0.0.7/32"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("fd00::/8", "fd00::/8"),
        ] {
            assert_eq!(parse_prefix(text).unwrap(), prefix.parse().unwrap(), "{text}");
        }
    }

    #[test]
    fn what_was_meant_is_said() {
        for (text, label, help) in [
            ("127.0.0.1", "the port is missing", "\"127.0.0.1:8888\""),
            ("::1", "the port is missing, or the brackets", "\"[::1]:8888\""),
            ("::1:9000", "the port is missing, or the brackets", "\"[::1]:9000\" if 9000 is"),
            ("8888", "the address is missing", "\"0.0.0.0:8888\" for all"),
            (":80", "the address is missing", "\"127.0.0.1:80\" for this"),
            ("", "the address is missing", "\"127.0.0.1:8888\""),
            ("*:80", "`*` is not an address", "\"[::]:80\""),
            ("localhost:80", "a host name", "\"127.0.0.1:80\", \"[::1]:80\""),
            ("localhost", "a host name", "\"127.0.0.1:8888\""),
            ("db.example:80", "a host name", "the IP address of the interface"),
            ("127.0.0.1:70000", "\"70000\" is not a port", "0 to 65535"),
            ("127.0.0.1:http", "\"http\" is not a port", "0 to 65535"),
            ("127.0.0.256:80", "not an address", "0 to 255"),
            ("tcp://127.0.0.1:80", "a URL", "\"127.0.0.1:80\""),
        ] {
            let misread = parse_listen(text, 8888).unwrap_err();
            assert!(misread.label.starts_with(label), "{text:?}: {misread:?}");
            assert!(misread.help.contains(help), "{text:?}: {misread:?}");
        }
        assert!(parse_listen("::1", 80).unwrap_err().help.contains("\"[::1]:80\""));
        assert!(parse_listen("127.0.0.1", 80).unwrap_err().help.contains("\"127.0.0.1:80\""));
        for (text, label, help) in [
            ("127.0.0.1:80", "a port has no place", "\"127.0.0.1\""),
            ("[::1]:80", "a port has no place", "\"::1\""),
            ("10.0.0.0/33", "\"33\" is no prefix length", "0 to 32"),
            ("fd00::/x", "\"x\" is no prefix length", "0 to 128"),
            ("ten/8", "not a prefix", "\"10.0.0.0/8\""),
            ("*", "not an address", "\"0.0.0.0/0\""),
            ("10.1.*", "`*` is not part", "\"10.1.0.0/16\""),
            ("10.1.*.*", "`*` is not part", "\"10.1.0.0/16\""),
            ("10.0.0", "not an address", "four numbers"),
            ("localhost", "a host name", "\"::1\""),
        ] {
            let misread = parse_prefix(text).unwrap_err();
            assert!(misread.label.starts_with(label), "{text:?}: {misread:?}");
            assert!(misread.help.contains(help), "{text:?}: {misread:?}");
        }
    }
}
