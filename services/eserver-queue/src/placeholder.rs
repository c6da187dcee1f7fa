//! `Placeholder`, the one Python `%` conversion in a text, and what a sequence number makes of it.
//!
//! Clients of the Python eserver send `insert into t values (%d)` and expect the server's counter
//! in its place: the text went through Python's `text % counter`. Python raises unless exactly one
//! conversion stands in the text, and then we store the text as it came. So the rules are Python's
//! own: flags, width, precision and the ignored length letter; `%%` is a literal percent sign, but
//! only in a text that is rendered at all.
//!
//! Two conversions that Python would take are left alone on purpose, because a counter is not what
//! they ask for: a character (`%c`) and a floating-point number (`%e`, `%f`, `%g`).

use crate::Seq;

/// Where a text wants its sequence number, and how it wants it written.
///
/// It is found by [`Placeholder::parse`], away from the queue, and belongs to that text alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placeholder {
    /// The conversion stands at `start..end` of the text, in bytes.
    start: usize,
    end: usize,
    /// How many `%%` become `%`, each a byte less.
    escapes: usize,
    specification: Specification,
}

/// What stands between `%` and the conversion's letter, and the letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Specification {
    left: bool,
    plus: bool,
    space: bool,
    alternate: bool,
    zero: bool,
    /// Bytes; as large as the sender likes, so nothing is allocated by it before it is compared
    /// with a bound.
    width: u64,
    precision: Option<u64>,
    conversion: Conversion,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Conversion {
    /// `%d`, `%i`, `%u`.
    Decimal,
    /// `%o`.
    Octal,
    /// `%x`.
    HexadecimalLower,
    /// `%X`.
    HexadecimalUpper,
    /// `%s`, `%r`, `%a`: the number as text, which a precision cuts and zeros do not fill.
    Text,
}

/// What one percent sign introduces.
enum Found {
    /// A literal percent sign.
    Escape,
    Number(Specification),
}

/// Python refuses a larger precision as malformed: the largest C `int`.
const PRECISION_MAX: u64 = i32::MAX as u64;

/// Python refuses a larger width as malformed: the largest `Py_ssize_t`.
const WIDTH_MAX: u64 = i64::MAX as u64;

/// The digits of the largest sequence number in base 8.
const DIGITS_MAX: usize = 22;

impl Placeholder {
    /// The placeholder of `text`, or `None` when the text is to be stored as it is: because it has
    /// no conversion or several, or because Python would call one of them malformed.
    ///
    /// ```
    /// use eserver_queue::{Placeholder, Seq};
    ///
    /// let text = b"insert into t values ('100%%', %05d)";
    /// let placeholder = Placeholder::parse(text).expect("one conversion");
    /// let mut rendered = Vec::new();
    /// placeholder.render(text, Seq::new(42), &mut rendered);
    /// assert_eq!(rendered, b"insert into t values ('100%', 00042)");
    ///
    /// assert_eq!(Placeholder::parse(b"select * from t where name like 'a%'"), None);
    /// ```
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut conversion = None;
        let mut escapes = 0;
        let mut from = 0;
        while let Some(start) = find_percent(text, from) {
            let (found, end) = scan(text, start)?;
            match found {
                Found::Escape => escapes += 1,
                Found::Number(_) if conversion.is_some() => return None,
                Found::Number(specification) => conversion = Some((start, end, specification)),
            }
            from = end;
        }
        let (start, end, specification) = conversion?;
        Some(Self { start, end, escapes, specification })
    }

    /// Bytes of `text` once rendered with `seq`, without rendering it.
    #[must_use]
    pub fn rendered_bytes(&self, text: &[u8], seq: Seq) -> u64 {
        let kept = text.len().saturating_sub(self.end - self.start + self.escapes);
        (kept as u64).saturating_add(Number::new(&self.specification, seq).bytes())
    }

    /// Appends `text`, the very one this was parsed from, rendered with `seq`.
    ///
    /// The caller compares [`Placeholder::rendered_bytes`] with its bound first: a width is as
    /// large as the sender liked.
    pub fn render(&self, text: &[u8], seq: Seq, out: &mut Vec<u8>) {
        let (Some(before), Some(after)) = (text.get(..self.start), text.get(self.end..)) else {
            out.extend_from_slice(text);
            return;
        };
        if self.escapes == 0 {
            out.extend_from_slice(before);
            Number::new(&self.specification, seq).write(out);
            out.extend_from_slice(after);
        } else {
            write_unescaped(before, out);
            Number::new(&self.specification, seq).write(out);
            write_unescaped(after, out);
        }
    }
}

fn find_percent(text: &[u8], from: usize) -> Option<usize> {
    text[from..].iter().position(|&byte| byte == b'%').map(|at| from + at)
}

/// Copies a stretch in which every percent sign introduces an escape.
fn write_unescaped(text: &[u8], out: &mut Vec<u8>) {
    let mut from = 0;
    while let Some(start) = find_percent(text, from) {
        out.extend_from_slice(&text[from..=start]);
        from = (start + 2).min(text.len());
    }
    out.extend_from_slice(&text[from..]);
}

/// Reads what the percent sign at `start` introduces, and where it ends.
fn scan(text: &[u8], start: usize) -> Option<(Found, usize)> {
    let mut at = start + 1;
    if text.get(at) == Some(&b'%') {
        return Some((Found::Escape, at + 1));
    }
    let mut specification = Specification {
        left: false,
        plus: false,
        space: false,
        alternate: false,
        zero: false,
        width: 0,
        precision: None,
        conversion: Conversion::Decimal,
    };
    loop {
        match *text.get(at)? {
            b'-' => specification.left = true,
            b'+' => specification.plus = true,
            b' ' => specification.space = true,
            b'#' => specification.alternate = true,
            b'0' => specification.zero = true,
            _ => break,
        }
        at += 1;
    }
    specification.width = digits(text, &mut at, WIDTH_MAX)?;
    if text.get(at) == Some(&b'.') {
        at += 1;
        specification.precision = Some(digits(text, &mut at, PRECISION_MAX)?);
    }
    if matches!(text.get(at), Some(b'h' | b'l' | b'L')) {
        at += 1;
    }
    specification.conversion = match *text.get(at)? {
        b'd' | b'i' | b'u' => Conversion::Decimal,
        b'o' => Conversion::Octal,
        b'x' => Conversion::HexadecimalLower,
        b'X' => Conversion::HexadecimalUpper,
        b's' | b'r' | b'a' => Conversion::Text,
        _ => return None,
    };
    Some((Found::Number(specification), at + 1))
}

/// The number at `at`, 0 when there is none, `None` past `most`.
fn digits(text: &[u8], at: &mut usize, most: u64) -> Option<u64> {
    let mut number = 0_u64;
    while let Some(digit) = text.get(*at).filter(|byte| byte.is_ascii_digit()) {
        number = number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
        if number > most {
            return None;
        }
        *at += 1;
    }
    Some(number)
}

/// A sequence number laid out: blanks, sign, prefix, zeros, digits, blanks, in this order.
struct Number {
    blanks_left: u64,
    sign: &'static [u8],
    prefix: &'static [u8],
    zeros: u64,
    digits: [u8; DIGITS_MAX],
    digits_from: usize,
    digits_to: usize,
    blanks_right: u64,
}

impl Number {
    fn new(specification: &Specification, seq: Seq) -> Self {
        let (base, letters, prefix): (u64, &[u8; 16], &[u8]) = match specification.conversion {
            Conversion::Decimal | Conversion::Text => (10, b"0123456789abcdef", b""),
            Conversion::Octal => (8, b"0123456789abcdef", b"0o"),
            Conversion::HexadecimalLower => (16, b"0123456789abcdef", b"0x"),
            Conversion::HexadecimalUpper => (16, b"0123456789ABCDEF", b"0X"),
        };
        let mut digits = [b'0'; DIGITS_MAX];
        let mut digits_from = DIGITS_MAX;
        let mut rest = seq.get();
        while rest > 0 || digits_from == DIGITS_MAX {
            digits_from -= 1;
            digits[digits_from] = letters[(rest % base) as usize];
            rest /= base;
        }
        let mut number = Self {
            blanks_left: 0,
            sign: b"",
            prefix: b"",
            zeros: 0,
            digits,
            digits_from,
            digits_to: DIGITS_MAX,
            blanks_right: 0,
        };
        if specification.conversion == Conversion::Text {
            number.cut(specification.precision);
        } else {
            number.sign = match (specification.plus, specification.space) {
                (true, _) => b"+",
                (false, true) => b" ",
                (false, false) => b"",
            };
            number.prefix = if specification.alternate { prefix } else { b"" };
            let least = specification.precision.unwrap_or(0);
            number.zeros = least.saturating_sub(number.bytes_of_digits());
        }
        number.fill(specification);
        number
    }

    fn bytes_of_digits(&self) -> u64 {
        (self.digits_to - self.digits_from) as u64
    }

    /// Keeps the first `precision` characters.
    fn cut(&mut self, precision: Option<u64>) {
        if let Some(precision) = precision.filter(|&most| most < self.bytes_of_digits()) {
            self.digits_to = self.digits_from + precision as usize;
        }
    }

    /// Fills up to the width.
    fn fill(&mut self, specification: &Specification) {
        let missing = specification.width.saturating_sub(self.bytes());
        if specification.left {
            self.blanks_right = missing;
        } else if specification.zero && specification.conversion != Conversion::Text {
            self.zeros += missing;
        } else {
            self.blanks_left = missing;
        }
    }

    fn bytes(&self) -> u64 {
        let fixed = (self.sign.len() + self.prefix.len()) as u64 + self.bytes_of_digits();
        fixed.saturating_add(self.blanks_left + self.zeros).saturating_add(self.blanks_right)
    }

    fn write(&self, out: &mut Vec<u8>) {
        let fill = |out: &mut Vec<u8>, byte, count: u64| {
            let count = usize::try_from(count).unwrap_or(usize::MAX - out.len());
            out.resize(out.len() + count, byte);
        };
        fill(out, b' ', self.blanks_left);
        out.extend_from_slice(self.sign);
        out.extend_from_slice(self.prefix);
        fill(out, b'0', self.zeros);
        out.extend_from_slice(&self.digits[self.digits_from..self.digits_to]);
        fill(out, b' ', self.blanks_right);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn render(text: &str, number: u64) -> String {
        let text = text.as_bytes();
        let mut out = Vec::new();
        let Some(placeholder) = Placeholder::parse(text) else {
            return String::from_utf8(text.to_vec()).unwrap();
        };
        let bytes = placeholder.rendered_bytes(text, Seq::new(number));
        placeholder.render(text, Seq::new(number), &mut out);
        assert_eq!(bytes, out.len() as u64, "{text:?}");
        String::from_utf8(out).unwrap()
    }

    /// What CPython 3.11 makes of `text % 42` and `text % (2**64 - 1)`; the text itself where it
    /// raises.
    #[rustfmt::skip]
    const PYTHON: &[(&str, &str, &str)] = &[
        ("%d", "42", "18446744073709551615"),
        ("%i", "42", "18446744073709551615"),
        ("%u", "42", "18446744073709551615"),
        ("%s", "42", "18446744073709551615"),
        ("%r", "42", "18446744073709551615"),
        ("%a", "42", "18446744073709551615"),
        ("%x", "2a", "ffffffffffffffff"),
        ("%X", "2A", "FFFFFFFFFFFFFFFF"),
        ("%o", "52", "1777777777777777777777"),
        ("%05d", "00042", "18446744073709551615"),
        ("%6d", "    42", "18446744073709551615"),
        ("%-6d", "42    ", "18446744073709551615"),
        ("%+d", "+42", "+18446744073709551615"),
        ("% d", " 42", " 18446744073709551615"),
        ("%+ d", "+42", "+18446744073709551615"),
        ("%#x", "0x2a", "0xffffffffffffffff"),
        ("%#X", "0X2A", "0XFFFFFFFFFFFFFFFF"),
        ("%#o", "0o52", "0o1777777777777777777777"),
        ("%#d", "42", "18446744073709551615"),
        ("%08x", "0000002a", "ffffffffffffffff"),
        ("%#08x", "0x00002a", "0xffffffffffffffff"),
        ("%#010o", "0o00000052", "0o1777777777777777777777"),
        ("%-#8x", "0x2a    ", "0xffffffffffffffff"),
        ("%.3d", "042", "18446744073709551615"),
        ("%06.3d", "000042", "18446744073709551615"),
        ("%-06d", "42    ", "18446744073709551615"),
        ("%-06.3d|", "042   |", "18446744073709551615|"),
        ("%6.4x", "  002a", "ffffffffffffffff"),
        ("%#8.4x", "  0x002a", "0xffffffffffffffff"),
        ("%.0d", "42", "18446744073709551615"),
        ("%.d", "42", "18446744073709551615"),
        ("%.2s", "42", "18"),
        ("%.0s", "", ""),
        ("%.s", "", ""),
        ("%8.1s", "       4", "       1"),
        ("%-8s", "42      ", "18446744073709551615"),
        ("%08s", "      42", "18446744073709551615"),
        ("%+s", "42", "18446744073709551615"),
        ("%ld", "42", "18446744073709551615"),
        ("%hd", "42", "18446744073709551615"),
        ("%Ld", "42", "18446744073709551615"),
        ("%lld", "%lld", "%lld"),
        ("%+05d", "+0042", "+18446744073709551615"),
        ("% 05d", " 0042", " 18446744073709551615"),
        ("%+#x", "+0x2a", "+0xffffffffffffffff"),
        ("% #08x", " 0x0002a", " 0xffffffffffffffff"),
        ("%00005d", "00042", "18446744073709551615"),
        ("%--5d", "42   ", "18446744073709551615"),
        ("%- 5d", " 42  ", " 18446744073709551615"),
        ("%5%%d", "%5%%d", "%5%%d"),
        ("%-5%%d", "%-5%%d", "%-5%%d"),
        ("%%%d", "%42", "%18446744073709551615"),
        ("%d%%", "42%", "18446744073709551615%"),
        ("%%d", "%%d", "%%d"),
        ("%%%%", "%%%%", "%%%%"),
        ("%", "%", "%"),
        ("%d%", "%d%", "%d%"),
        ("%d %d", "%d %d", "%d %d"),
        ("%c%d", "%c%d", "%c%d"),
        ("%(a)d", "%(a)d", "%(a)d"),
        ("%*d", "%*d", "%*d"),
        ("%.*d", "%.*d", "%.*d"),
        ("%5.d", "   42", "18446744073709551615"),
        ("%05.0d", "00042", "18446744073709551615"),
        ("%d LIKE 'a%'", "%d LIKE 'a%'", "%d LIKE 'a%'"),
        ("10 % 3", "10 % 3", "10 % 3"),
        ("10 % d", "10  42", "10  18446744073709551615"),
        ("%hs", "42", "18446744073709551615"),
        ("%lx", "2a", "ffffffffffffffff"),
        ("%5", "%5", "%5"),
        ("%.", "%.", "%."),
        ("%5.", "%5.", "%5."),
        ("%z", "%z", "%z"),
        ("%-", "%-", "%-"),
        ("%#", "%#", "%#"),
        ("%d %%", "42 %", "18446744073709551615 %"),
        ("%%%s%%", "%42%", "%18446744073709551615%"),
        ("100%% %d", "100% 42", "100% 18446744073709551615"),
        ("%d %s", "%d %s", "%d %s"),
        ("%%d %d", "%d 42", "%d 18446744073709551615"),
        ("%l%%d", "%l%%d", "%l%%d"),
        ("%.5%%d", "%.5%%d", "%.5%%d"),
        ("%é %d", "%é %d", "%é %d"),
        ("é%dé", "é42é", "é18446744073709551615é"),
        ("%99999999999999999999d", "%99999999999999999999d", "%99999999999999999999d"),
        ("%.99999999999d", "%.99999999999d", "%.99999999999d"),
        ("%9223372036854775808d", "%9223372036854775808d", "%9223372036854775808d"),
        ("", "", ""),
        ("no conversion", "no conversion", "no conversion"),
        ("%-% %d", "%-% %d", "%-% %d"),
        ("%0% %d", "%0% %d", "%0% %d"),
    ];

    #[test]
    fn renders_as_python_does() {
        for &(text, small, large) in PYTHON {
            assert_eq!(render(text, 42), small, "{text:?} % 42");
            assert_eq!(render(text, u64::MAX), large, "{text:?} % {}", u64::MAX);
        }
    }

    #[test]
    fn characters_and_floats_are_left_alone() {
        for text in ["%c", "%e", "%f", "%g", "%.2F", "like '%foo'"] {
            assert_eq!(Placeholder::parse(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn an_absurd_width_is_measured_and_not_allocated() {
        for (text, bytes) in [
            ("%9223372036854775807d", 9_223_372_036_854_775_807),
            ("%.2147483647d", 2_147_483_647),
            ("%09999999999d;", 10_000_000_000),
        ] {
            let placeholder = Placeholder::parse(text.as_bytes()).unwrap();
            assert_eq!(placeholder.rendered_bytes(text.as_bytes(), Seq::FIRST), bytes);
        }
    }

    #[test]
    fn a_placeholder_of_another_text_does_no_harm() {
        let placeholder = Placeholder::parse(b"a long text with %% and %d").unwrap();
        for text in [&b""[..], b"%", b"a longer text, ending as it should not: %%%", b"%%%%%%%%%"] {
            let mut out = Vec::new();
            let _ = placeholder.rendered_bytes(text, Seq::FIRST);
            placeholder.render(text, Seq::FIRST, &mut out);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_rendered_to_its_announced_length(
            text in "[%a0-9 .#+dsx-]{0,24}", number: u64,
        ) {
            prop_assume!(!text.contains(|c: char| c.is_ascii_digit()) || text.len() < 8);
            render(&text, number);
        }
    }
}
