//! Hosts: whom a request is for.

/// Whether this is a host and perhaps a port, as `example.com`, `192.0.2.1:8080` or `[::1]:80`.
///
/// The grammar of URIs would let in commas, quotes and brackets too, which no name has and which
/// readers of logs and lists trip over.
pub(super) fn is_host(text: &[u8]) -> bool {
    if text.first() == Some(&b'[') {
        return is_bracketed(text);
    }
    match text.iter().position(|byte| !NAME[usize::from(*byte)]) {
        None => !text.is_empty(),
        Some(end) => end > 0 && text[end] == b':' && is_port(&text[end + 1..]),
    }
}

/// Whether this is an address between brackets, and perhaps a port.
fn is_bracketed(text: &[u8]) -> bool {
    let (host, port) = split_port(text);
    let [b'[', address @ .., b']'] = host else { return false };
    let is_address = |text: &str| text.parse::<std::net::Ipv6Addr>().is_ok();
    str::from_utf8(address).is_ok_and(is_address) && port.is_none_or(is_port)
}

/// Whether both mean the same, one of them standing in a URI of `scheme`.
pub(super) fn is_same(authority: &[u8], host: &[u8], scheme: Scheme) -> bool {
    let (name, port) = split_port(authority);
    let (other_name, other_port) = split_port(host);
    let or_default = |port: Option<&[u8]>| match port {
        None | Some(b"") => scheme.default_port(),
        Some(digits) => str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()),
    };
    name.eq_ignore_ascii_case(other_name) && or_default(port) == or_default(other_port)
}

/// The schemes of URIs that are served here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    /// Somebody in front has taken off the encryption.
    Https,
}

impl Scheme {
    fn default_port(self) -> Option<u16> {
        match self {
            Self::Http => Some(80),
            Self::Https => Some(443),
        }
    }
}

fn split_port(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    let ends_in_bracket = text.last() == Some(&b']');
    match text.iter().rposition(|byte| *byte == b':') {
        Some(colon) if !ends_in_bracket => (&text[..colon], Some(&text[colon + 1..])),
        _ => (text, None),
    }
}

/// The bytes of a host's name.
static NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0u8;
    while byte < 128 {
        table[byte as usize] =
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
        byte += 1;
    }
    table
};

fn is_port(digits: &[u8]) -> bool {
    let number = digits.iter().try_fold(0u16, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u16::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    });
    number.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for host in [
            "example.com",
            "EXAMPLE.com:80",
            "localhost:",
            "192.0.2.1:65535",
            "a:0000000080",
            "[::1]",
            "[::1]:8080",
            "[2001:db8::7]",
            "xn--bcher-kva.example",
            "a_b.example",
            "x",
        ] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for no_host in [
            "",
            ":80",
            "a b",
            "a,b",
            "a/b",
            "a@b",
            "a:b",
            "a:80:80",
            "a:65536",
            "a:99999999999999999999",
            "a:+80",
            "::1",
            "[::1",
            "[]",
            "[::g]",
            "[::1]x",
            "[::1]:x",
            "a\t",
            "ä.example",
            "a%20b",
            "a:-1",
            "a?b",
            "a#b",
            "a\\b",
            "<a>",
            "\"a\"",
            "a;b",
            "http://a",
        ] {
            assert!(!is_host(no_host.as_bytes()), "{no_host}");
        }
    }

    #[test]
    fn default_ports_may_be_left_out() {
        let same = |a: &str, b: &str, scheme| is_same(a.as_bytes(), b.as_bytes(), scheme);
        assert!(same("Example.com", "example.com:80", Scheme::Http));
        assert!(same("example.com:", "example.com", Scheme::Http));
        assert!(same("example.com:443", "example.com", Scheme::Https));
        assert!(same("[::1]:80", "[::1]", Scheme::Http));
        assert!(!same("example.com:443", "example.com", Scheme::Http));
        assert!(!same("example.com", "example.org", Scheme::Http));
        assert!(!same("example.com:81", "example.com:82", Scheme::Http));
    }
}
