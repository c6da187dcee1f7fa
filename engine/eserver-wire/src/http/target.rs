//! Request targets: what a request is for, and its parts decoded.

use std::borrow::Cow;

use memchr::memchr;
use percent_encoding::percent_decode_str;

use super::BadRequest;
use super::host::{Scheme, is_host};

/// What the first line of a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target<'a> {
    /// Where it says whom it asks, as it does to a proxy.
    pub(super) authority: Option<Authority<'a>>,
    /// Begins with `/`, or is `*`.
    pub(super) path: &'a str,
    /// What follows the first `?`.
    pub(super) query: Option<&'a str>,
}

/// A host that stands in a URI of that scheme.
type Authority<'a> = (Scheme, &'a str);

impl<'a> Target<'a> {
    /// The parts of `target`, which stands after `method`.
    ///
    /// # Errors
    /// [`BadRequest`] when it has characters that no target may have, or a form that its method
    /// may not have.
    pub(super) fn parse(method: &str, target: &'a str) -> Result<Self, BadRequest> {
        if target == "*" {
            if method != "OPTIONS" {
                return Err(BadRequest::new("only OPTIONS can be asked of `*`"));
            }
            return Ok(Self { authority: None, path: target, query: None });
        }
        let (authority, rest) = split_authority(target)?;
        // Paths are short: one look at each byte costs less than several fast searches.
        let mut seen = 0;
        let mark = rest.bytes().position(|byte| {
            let kind = KIND[usize::from(byte)];
            seen |= kind;
            kind == MARK
        });
        let (path, query) = match mark {
            Some(mark) => (&rest[..mark], Some(&rest[mark + 1..])),
            None => (rest, None),
        };
        if seen & FORBIDDEN != 0 {
            return Err(NOT_VISIBLE);
        }
        if seen & PERCENT != 0 {
            check_escapes(path)?;
        }
        if !query.unwrap_or_default().bytes().all(is_target_byte) {
            return Err(NOT_VISIBLE);
        }
        let path = match (path, method) {
            ("", "OPTIONS") => "*",
            ("", _) => "/",
            _ => path,
        };
        Ok(Self { authority, path, query })
    }
}

const NOT_VISIBLE: BadRequest =
    BadRequest::new("the target has a fragment, or characters that must be percent-encoded");

/// The authority of a target in absolute form, and the rest, which is `""` or begins with `/`, or
/// with `?` after an authority.
fn split_authority(target: &str) -> Result<(Option<Authority<'_>>, &str), BadRequest> {
    if target.starts_with('/') {
        return Ok((None, target));
    }
    let strip = |scheme: &str| {
        let (front, rest) = target.split_at_checked(scheme.len())?;
        front.eq_ignore_ascii_case(scheme).then_some(rest)
    };
    let (scheme, rest) = strip("http://")
        .map(|rest| (Scheme::Http, rest))
        .or_else(|| Some((Scheme::Https, strip("https://")?)))
        .ok_or(BadRequest::new("the target is neither a path nor an http URI"))?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    if !is_host(authority.as_bytes()) {
        return Err(BadRequest::new("the target's authority is not a host"));
    }
    Ok((Some((scheme, authority)), rest))
}

/// Bits of [`KIND`].
const FORBIDDEN: u8 = 1;
const PERCENT: u8 = 2;
const MARK: u8 = 4;

/// What a byte is in a path or at its end.
static KIND: [u8; 256] = {
    let mut table = [FORBIDDEN; 256];
    let mut byte = 0;
    while byte < 128 {
        // A backslash is a slash to some; browsers never send one in a path.
        if is_target_byte(byte) && byte != b'\\' {
            table[byte as usize] = 0;
        }
        byte += 1;
    }
    table[b'%' as usize] = PERCENT;
    table[b'?' as usize] = MARK;
    table
};

/// Whether the escapes of `path` mean visible characters.
fn check_escapes(path: &str) -> Result<(), BadRequest> {
    let bytes = path.as_bytes();
    for percent in memchr::memchr_iter(b'%', bytes) {
        let digits = bytes.get(percent + 1..percent + 3);
        let Some(&[high, low]) = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
        else {
            return Err(BadRequest::new("a percent sign in the path has no two hex digits"));
        };
        if matches!((high, low), (b'0' | b'1', _) | (b'7', b'f' | b'F')) {
            return Err(CONTROL);
        }
    }
    Ok(())
}

const CONTROL: BadRequest = BadRequest::new("the path has an encoded control character");

/// Browsers leave some characters as they are that RFC 3986 wants encoded, so these may pass.
const fn is_target_byte(byte: u8) -> bool {
    (byte > b' ') & (byte < 0x7f) & (byte != b'#')
}

/// The path, or a segment of one, without its percent-encoding.
///
/// What is decided with the result must not be undone by what is done with it: it may have slashes
/// and dots that were not in the path as sent.
///
/// # Errors
/// [`BadRequest`] when it is no UTF-8 then, or has control characters.
pub fn decode_path(path: &str) -> Result<Cow<'_, str>, BadRequest> {
    if memchr(b'%', path.as_bytes()).is_none() {
        return Ok(Cow::Borrowed(path));
    }
    let decoded = percent_decode_str(path)
        .decode_utf8()
        .map_err(|_| BadRequest::new("the path is not UTF-8"))?;
    if decoded.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(CONTROL);
    }
    Ok(decoded)
}

/// What stands between the slashes of `path`, decoded one by one: an encoded slash separates
/// nothing. `/` has one segment, which is empty, and `*` is one.
///
/// # Errors
/// As for [`decode_path`].
pub fn path_segments(path: &str) -> impl Iterator<Item = Result<Cow<'_, str>, BadRequest>> {
    path.strip_prefix('/').unwrap_or(path).split('/').map(decode_path)
}

/// The names and values of a query, or of a form that was sent as a body.
///
/// A plus sign is a space, what is no escape stands for itself, and what is no UTF-8 becomes
/// `U+FFFD`: a query is whatever people type.
pub fn query_pairs(query: &[u8]) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    form_urlencoded::parse(query)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_targets() {
        let check = |method, target, authority: Option<Authority<'_>>, path: &str, query| {
            let parsed = Target::parse(method, target).unwrap();
            assert_eq!(parsed, Target { authority, path, query }, "{target}");
        };
        let http = |authority| Some((Scheme::Http, authority));
        check("GET", "/", None, "/", None);
        check("GET", "/where?q=now", None, "/where", Some("q=now"));
        check("GET", "/?", None, "/", Some(""));
        check("GET", "/?a?b", None, "/", Some("a?b"));
        check("GET", "//a//b", None, "//a//b", None);
        check("GET", "/%E4%BD%A0%2f", None, "/%E4%BD%A0%2f", None);
        check("GET", "/a|b{}[]^`\"<>", None, "/a|b{}[]^`\"<>", None);
        check("GET", "/?\\%zz", None, "/", Some("\\%zz"));
        check("GET", "http://www.example.org/p?q", http("www.example.org"), "/p", Some("q"));
        check("GET", "HTTP://a:80", http("a:80"), "/", None);
        check("GET", "http://a?q", http("a"), "/", Some("q"));
        check("GET", "https://a/", Some((Scheme::Https, "a")), "/", None);
        check("OPTIONS", "*", None, "*", None);
        check("OPTIONS", "http://a:8001", http("a:8001"), "*", None);
    }

    #[test]
    fn no_targets() {
        for target in [
            "",
            "a",
            "*",
            "**",
            "?q",
            "#",
            "/#",
            "/?#f",
            "/\u{e4}",
            "/\0",
            "/ ",
            "/?\x7f",
            "/\\",
            "/%",
            "/%4",
            "/%zz",
            "/%0",
            "/%00",
            "/a%0d%0aB:",
            "/%1f",
            "/%7F",
            "ftp://a/",
            "http:/a",
            "http://",
            "http:///p",
            "http://u@h/",
            "http://a b/",
            "a:80",
            "http://[::1/",
            "../a",
        ] {
            assert!(Target::parse("GET", target).is_err(), "{target:?}");
        }
    }

    #[test]
    fn paths_are_decoded() {
        assert!(matches!(decode_path("/plain"), Ok(Cow::Borrowed("/plain"))));
        assert_eq!(decode_path("/%e6%88%90%E5%8A%9F%2F..").unwrap(), "/成功/..");
        for bad in ["/%c0%af", "/%ff", "/%00", "/%0a", "/%7f"] {
            assert!(decode_path(bad).is_err(), "{bad}");
        }
        let segments = |path| path_segments(path).collect::<Result<Vec<_>, _>>();
        assert_eq!(segments("/").unwrap(), [""]);
        assert_eq!(segments("/a/b%2Fc//").unwrap(), ["a", "b/c", "", ""]);
        assert!(segments("/a/%ff").is_err());
    }

    #[test]
    fn queries_are_decoded() {
        let pairs: Vec<_> = query_pairs(b"a=1&b=x+y%26%zz&&c&d=%ff=").collect();
        let expected = [("a", "1"), ("b", "x y&%zz"), ("c", ""), ("d", "\u{fffd}=")];
        assert!(pairs.iter().map(|(n, v)| (&**n, &**v)).eq(expected), "{pairs:?}");
    }
}
