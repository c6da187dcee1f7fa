//! Header fields, found where they stand.

use memchr::memchr;

/// The header fields of a head, in the order they came in.
///
/// A look-up walks the lines: most heads are asked for one or two fields, if any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fields<'a> {
    /// Valid lines, each with its CRLF, without the blank one.
    lines: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The fields of a head, of which `headers` are parsed, or `None` when one of its lines ends
    /// without a carriage return, which the parser does not mind.
    pub(super) fn of_head(head: &'a [u8], headers: &[httparse::Header<'a>]) -> Option<Self> {
        let start_of = |header: &httparse::Header<'_>| {
            header.name.as_ptr().addr().checked_sub(head.as_ptr().addr())
        };
        let follows_crlf = |start: usize| head.get(..start).is_some_and(|f| f.ends_with(b"\r\n"));
        for header in headers {
            if !start_of(header).is_some_and(follows_crlf) {
                return None;
            }
        }
        let lines = head.strip_suffix(b"\r\n").filter(|lines| lines.ends_with(b"\r\n"))?;
        let start = headers.first().and_then(start_of).unwrap_or(lines.len());
        Some(Self { lines: &lines[start..] })
    }

    /// Names as they were sent, and values without the white space around them.
    ///
    /// A value has no control characters but tabs; it need not be UTF-8.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        self.lines().map(|(name, value)| (str::from_utf8(name).expect("a token is ASCII"), value))
    }

    /// The value of the first field of that name, whatever its case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// The value of the first field of that name, unless it is not UTF-8.
    #[must_use]
    pub fn get_str(&self, name: &str) -> Option<&'a str> {
        str::from_utf8(self.get(name)?).ok()
    }

    /// The values of all fields of that name.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.lines()
            .filter(move |(other, _)| other.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value)
    }

    fn lines(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let mut lines = self.lines;
        std::iter::from_fn(move || {
            let colon = memchr(b':', lines)?;
            let (name, rest) = lines.split_at(colon);
            let end = memchr(b'\n', rest)?;
            lines = &rest[end + 1..];
            Some((name, rest[1..end].trim_ascii()))
        })
    }
}

/// The elements of a comma-separated value, without the white space around them; empty ones too.
pub(super) fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// Whether this is a token: one or more of the characters that names are made of.
pub(super) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().copied().all(is_token_byte)
}

/// Whether names of methods, fields and codings may have this byte.
pub(super) const fn is_token_byte(byte: u8) -> bool {
    TOKEN[byte as usize]
}

/// Whether this may be a field's value.
pub(super) fn is_value(text: &[u8]) -> bool {
    text.iter().copied().all(is_value_byte)
}

/// Whether a field's value may have this byte.
pub(super) const fn is_value_byte(byte: u8) -> bool {
    VALUE[byte as usize]
}

/// The bytes of a field's value: all but control characters, of which the tab may be there.
static VALUE: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = byte >= 0x20 && byte != 0x7f || byte == b'\t' as usize;
        byte += 1;
    }
    table
};

/// The bytes of a token (RFC 9110, section 5.6.2).
static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_out_in_order() {
        let of_lines = |lines| Fields { lines };
        let fields = of_lines(b"Host: a\r\nx-Empty:\r\nX-List:\t1, 2 \r\nx-list:3\r\n");
        let expected: [(&str, &[u8]); 4] =
            [("Host", b"a"), ("x-Empty", b""), ("X-List", b"1, 2"), ("x-list", b"3")];
        assert!(fields.iter().eq(expected));
        assert_eq!(fields.get("HOST"), Some(b"a".as_slice()));
        assert_eq!(fields.get_str("x-empty"), Some(""));
        assert!(fields.all("X-list").eq([b"1, 2".as_slice(), b"3"]));
        assert_eq!(fields.get("none"), None);
        assert_eq!(of_lines(b"").iter().next(), None);
        assert_eq!(of_lines(b"a: \xff\r\n").get_str("a"), None);
    }

    #[test]
    fn tokens_are_those_of_the_rfc() {
        assert!(is_token(b"!#$%&'*+-.^_`|~09azAZ"));
        for delimiter in b"\"(),/:;<=>?@[\\]{} \t\r\n\0\x7f\x80\xff" {
            assert!(!is_token(&[b'a', *delimiter]), "{delimiter:#x}");
        }
        assert!(!is_token(b""));
    }
}
