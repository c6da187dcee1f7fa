//! TOML's own errors, said for someone who does not write TOML every day.

use std::ops::Range;

use super::key::{self, Kind};
use super::problem::Mistake;

const TITLE: &str = "not valid TOML";

/// What TOML calls a key or a section that is written twice.
const DUPLICATE: &str = "duplicate key";

/// The places of a file that are not TOML.
pub(crate) struct Broken<'s> {
    text: &'s str,
    /// In the parser's order, at most one for each line: what follows on a line mostly follows from
    /// the first.
    mistakes: Vec<Mistake>,
    /// Broken `[section]` lines, below which keys seem to be another section's.
    headers: Vec<Range<usize>>,
}

impl<'s> Broken<'s> {
    /// What the parser complained about.
    pub(crate) fn new(text: &'s str, errors: &[toml::de::Error]) -> Self {
        let mut broken = Broken { text, mistakes: Vec::new(), headers: Vec::new() };
        // Past the first sign of an open list the parser takes keys and sections for its items.
        let mut lost = usize::MAX;
        for error in errors {
            let start = error.span().map_or(text.len(), |span| span.start);
            let line = line_at(text, start);
            if start >= lost || broken.is_broken(&line) {
                continue;
            }
            if is_header(text, &line) && error.message() != DUPLICATE {
                broken.headers.push(line.clone());
            }
            if error.message().contains("array") && is_blank(text, line.start..start) {
                lost = start;
                let label = "expected `]` or `,`: the list above is not closed";
                broken.mistakes.push(Mistake::new(start..start, TITLE, label));
            } else {
                let mistake = unquoted(text, line, start).unwrap_or_else(|| plain(text, error));
                broken.mistakes.push(mistake);
            }
        }
        broken
    }

    /// Whether what stands at `span` may be made up by the parser, so that it says nothing new.
    ///
    /// That is what shares a line with an error, as an open list does, and what stands below a broken
    /// `[section]` line, because TOML takes it for another section's.
    pub(crate) fn touches(&self, span: &Range<usize>) -> bool {
        let shares_line = self.mistakes.iter().any(|mistake| {
            let line = line_at(self.text, mistake.span.start);
            span.start <= line.end && line.start <= span.end
        });
        shares_line || self.is_below_broken_header(span.start)
    }

    fn is_below_broken_header(&self, offset: usize) -> bool {
        let mut header = None;
        let mut start = 0;
        while start < offset {
            let line = line_at(self.text, start);
            start = line.end + 1;
            if is_header(self.text, &line) {
                header = Some(line);
            }
        }
        header.is_some_and(|header| self.headers.contains(&header))
    }

    fn is_broken(&self, line: &Range<usize>) -> bool {
        self.mistakes.iter().any(|mistake| line_at(self.text, mistake.span.start) == *line)
    }

    /// The mistakes, to be reported.
    pub(crate) fn into_mistakes(self) -> Vec<Mistake> {
        self.mistakes
    }
}

fn is_header(text: &str, line: &Range<usize>) -> bool {
    text.get(line.clone()).is_some_and(|line| line.trim_start().starts_with('['))
}

fn is_blank(text: &str, span: Range<usize>) -> bool {
    text.get(span).is_some_and(|text| text.trim().is_empty())
}

/// What TOML says about one value outside of a file.
pub(crate) fn plain(text: &str, error: &toml::de::Error) -> Mistake {
    let span = error.span().unwrap_or(text.len()..text.len());
    let message = error.message();
    let label = match message.split_once(", expected ") {
        Some((what, "nothing")) => what.to_owned(),
        Some((what, expected)) => format!("{what}: expected {expected}"),
        None if message == DUPLICATE => "already written above".to_owned(),
        None => message.to_owned(),
    };
    Mistake::new(span, TITLE, label)
}

/// The commonest error by far: `key = text` without quotes, or without anything.
fn unquoted(text: &str, line: Range<usize>, error_start: usize) -> Option<Mistake> {
    let content = text.get(line.clone())?;
    let (name, value) = content.split_once('=')?;
    let value_start = line.start + name.len() + 1;
    let value = value.split('#').next().unwrap_or_default();
    let name = name.trim();
    if name.is_empty() || error_start < value_start {
        return None;
    }
    let bare = value.trim();
    if bare.is_empty() {
        let end = line.start + content.trim_end().len();
        return Some(Mistake::new(end..end, TITLE, "a value is missing after `=`"));
    }
    let is_text = !bare.contains(['"', '\'', '[', ']', '{', '}', '=']);
    let is_number =
        key::all().any(|key| key.name() == name && matches!(key.kind, Kind::Integer { .. }));
    if !is_text || is_number {
        return None;
    }
    let start = value_start + value.find(bare)?;
    let mistake = Mistake::new(start..start + bare.len(), TITLE, "a text needs quotes");
    Some(mistake.help(format!("write {name} = {bare:?}")))
}

/// The bytes of the line that `offset` stands in, without its end.
fn line_at(text: &str, offset: usize) -> Range<usize> {
    let bytes = text.as_bytes();
    let offset = offset.min(bytes.len());
    let start = bytes[..offset].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let end = bytes[offset..].iter().position(|byte| *byte == b'\n');
    start..end.map_or(bytes.len(), |at| offset + at)
}
