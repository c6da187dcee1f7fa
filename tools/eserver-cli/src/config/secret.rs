//! [`hide`]: passwords are read, but never shown: not in what `check` prints, not in the line that
//! an error points at, and not in what is logged.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::Range;

/// Bytes of a file with a password or a URL that are looked at, at most.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// What is shown in a password's place.
pub(crate) const HIDDEN: &str = "***";

/// Words before a `=` that say that a password follows.
const NAMES: [&str; 4] = ["password", "passwd", "pwd", "secret"];

/// A text that may hold a password: shown without it, compared with it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secretive(pub(crate) String);

impl fmt::Debug for Secretive {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&hide(&self.0).text, formatter)
    }
}

impl fmt::Display for Secretive {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hide(&self.0).text)
    }
}

/// A text without its passwords.
#[derive(Debug)]
pub(crate) struct Hidden<'t> {
    pub(crate) text: Cow<'t, str>,
    /// What was cut out of the original, in its order.
    cuts: Vec<Range<usize>>,
}

/// Puts `***` in the place of whatever looks like a password: in `engine://user:password@host`, and
/// behind `password=`. Where it ends is not always plain, in text that may be no valid file; then
/// rather more is hidden.
pub(crate) fn hide(text: &str) -> Hidden<'_> {
    let cuts = secrets(text);
    let mut shown = Cow::Borrowed(text);
    for cut in cuts.iter().rev() {
        shown.to_mut().replace_range(cut.clone(), HIDDEN);
    }
    Hidden { text: shown, cuts }
}

impl Hidden<'_> {
    /// The same bytes as those at `span` of the original, as far as they are shown.
    pub(crate) fn shift(&self, span: &Range<usize>) -> Range<usize> {
        self.place(span.start)..self.place(span.end)
    }

    fn place(&self, offset: usize) -> usize {
        let mut place = offset;
        for cut in self.cuts.iter().take_while(|cut| cut.start < offset) {
            let end = cut.end.min(offset);
            place = place - (end - cut.start) + if end == cut.end { HIDDEN.len() } else { 0 };
        }
        place
    }
}

/// Where passwords stand, in order and apart from each other. Never across lines.
fn secrets(text: &str) -> Vec<Range<usize>> {
    let in_urls = text.match_indices("://").filter_map(|(at, mark)| in_url(text, at, mark.len()));
    let lower = text.to_ascii_lowercase();
    let named = NAMES.iter().flat_map(|name| {
        let after = lower.match_indices(name).map(|(at, name)| at + name.len());
        after.filter_map(|after| assigned(text, after)).collect::<Vec<_>>()
    });
    let mut found: Vec<Range<usize>> = in_urls.chain(named).collect();
    found.sort_by_key(|range| range.start);
    let mut apart: Vec<Range<usize>> = Vec::new();
    for range in found {
        match apart.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => apart.push(range),
        }
    }
    apart
}

/// The password of a URL whose `://` is at `mark`: from the first `:` to the last `@`, since
/// passwords are written with anything in them.
fn in_url(text: &str, mark: usize, mark_bytes: usize) -> Option<Range<usize>> {
    let before = text[..mark].trim_end_matches(is_scheme).chars().next_back();
    let start = mark + mark_bytes;
    let line = up_to_next_url(text[start..].lines().next().unwrap_or_default());
    let quoted = match before {
        Some(quote @ ('"' | '\'')) => &line[..until(line, &[quote])],
        _ => line,
    };
    let within = |url: &str| {
        let (colon, at) = (url.find(':')?, url.rfind('@')?);
        (colon + 1 < at).then_some(start + colon + 1..start + at)
    };
    within(quoted).or_else(|| within(line))
}

fn is_scheme(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "+-.".contains(letter)
}

/// A line up to where another URL begins; what looks like one before any `@` is part of a password.
fn up_to_next_url(line: &str) -> &str {
    let mut next = line.match_indices("://").map(|(at, _)| line[..at].trim_end_matches(is_scheme));
    next.find(|before| before.contains('@')).unwrap_or(line)
}

/// What is assigned behind a name that ends at `after`.
fn assigned(text: &str, after: usize) -> Option<Range<usize>> {
    let line = text[after..].lines().next().unwrap_or_default();
    let value = line.trim_start_matches(['"', '\'']).trim_start().strip_prefix('=')?.trim_start();
    let (value, ends): (_, &[char]) = match value.chars().next()? {
        quote @ ('"' | '\'') => (&value[1..], if quote == '"' { &['"'] } else { &['\''] }),
        _ => (value, &['&', '"']),
    };
    let start = after + line.len() - value.len();
    let end = start + until(value, ends);
    (start < end).then_some(start..end)
}

/// Bytes before the first of `ends`; what stands behind a backslash is none of them.
fn until(text: &str, ends: &[char]) -> usize {
    let mut escaped = false;
    let is_end = |letter: char| {
        let ends_here = !escaped && ends.contains(&letter);
        escaped = !escaped && letter == '\\';
        ends_here
    };
    text.find(is_end).unwrap_or(text.len())
}

/// The first line of a file, without its end.
pub(crate) fn first_line(path: &str) -> io::Result<String> {
    let mut line = Vec::new();
    BufReader::new(File::open(path)?.take(SECRET_BYTES_MAX)).read_until(b'\n', &mut line)?;
    while line.ends_with(b"\n") || line.ends_with(b"\r") {
        line.pop();
    }
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    match String::from_utf8(line) {
        Ok(line) if line.is_empty() => Err(invalid("its first line is empty")),
        Ok(line) => Ok(line),
        Err(_) => Err(invalid("its first line is not UTF-8 text")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_hidden_wherever_they_stand() {
        for (text, shown) in [
            ("postgres://app:secret@db:5432/app", "postgres://app:***@db:5432/app"),
            ("postgres://app@db:5432/app", "postgres://app@db:5432/app"),
            ("mysql://app:@db/app", "mysql://app:@db/app"),
            ("sqlite:app.db", "sqlite:app.db"),
            ("x = 'mysql://a:p@ss/w:ord@db/app' # me@here", "x = 'mysql://a:***@db/app' # me@here"),
            (r#"url = "mysql://a:p\"x'@db/app" # @"#, r#"url = "mysql://a:***@db/app" # @"#),
            (r#"url = "mysql://a:p"x@db/app""#, r#"url = "mysql://a:***@db/app""#),
            ("url = mysql://a:b c@db/app", "url = mysql://a:***@db/app"),
            ("url = mysql://a:b://c@db/app", "url = mysql://a:***@db/app"),
            (r#""mysql://a@b/c" or "mysql://d@e/f""#, r#""mysql://a@b/c" or "mysql://d@e/f""#),
            ("`mysql://a:x@b/c`, `mysql://d:y@e/f`", "`mysql://a:***@b/c`, `mysql://d:***@e/f`"),
            ("URL=mysql://a:b\nc@d\nmysql://a:é@d", "URL=mysql://a:b\nc@d\nmysql://a:***@d"),
            ("postgres://db/app?password=x&user=a", "postgres://db/app?password=***&user=a"),
            ("postgres://a:x@db/app?password=y", "postgres://a:***@db/app?password=***"),
            ("password = \"x\\\" y\" # z", "password = \"***\" # z"),
            ("password = 'it is'", "password = '***'"),
            ("\"password\" = 'it is'", "\"password\" = '***'"),
            ("PASSWORD=it's me", "PASSWORD=***"),
            ("password_file = \"x\"", "password_file = \"x\""),
            ("password =", "password ="),
        ] {
            assert_eq!(hide(text).text, shown, "{text}");
        }
    }

    #[test]
    fn spans_follow_the_text() {
        let text = "a://b:secret@c password=x; d";
        let hidden = hide(text);
        assert_eq!(hidden.text, "a://b:***@c password=***");
        let follow = |part: &str| {
            let start = text.find(part).unwrap();
            let span = hidden.shift(&(start..start + part.len()));
            &hidden.text[span]
        };
        for (part, shown) in [
            ("a://b:", "a://b:"),
            ("secret", "***"),
            ("b:secret@c", "b:***@c"),
            ("@c password", "@c password"),
            ("password=x; d", "password=***"),
        ] {
            assert_eq!(follow(part), shown, "{part}");
        }
        for start in 0..=text.len() {
            for end in start..=text.len() {
                let span = hidden.shift(&(start..end));
                assert!(span.start <= span.end && span.end <= hidden.text.len(), "{start}..{end}");
            }
        }
    }

    #[test]
    fn what_is_compared_is_the_secret() {
        let secret = |password: &str| Secretive(format!("mysql://a:{password}@b/c"));
        assert_ne!(secret("x"), secret("y"));
        assert_eq!(format!("{0} {0:?}", secret("x")), "mysql://a:***@b/c \"mysql://a:***@b/c\"");
    }
}
