//! [`Source`]: one text that configuration came from, and [`Spot`] and [`Origin`], how to point at
//! it and name it later.

use std::fmt;
use std::ops::Range;

use super::secret::hide;

/// A text that was read: a whole file, one environment variable, or one flag.
///
/// All three are shown the same way when something in them is wrong.
#[derive(Clone)]
pub(crate) struct Source {
    /// What kind of text this is.
    pub(crate) kind: SourceKind,
    /// What is in it: the file's content, `NAME=value`, or `--set KEY=VALUE`.
    pub(crate) text: String,
}

/// Where a [`Source`] was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SourceKind {
    /// A configuration file, by its path as given.
    File(String),
    /// An environment variable.
    Environment,
    /// The command line: a flag of its own for the key at this path, or `--set` for any.
    Flag(Option<&'static str>),
}

/// Bytes of one of the sources, to point at later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spot {
    /// Index into the sources.
    pub(crate) source: usize,
    pub(crate) span: Range<usize>,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nobody gave one.
    Default,
    /// A line of a file.
    File {
        /// The path as given.
        path: String,
        /// Counted from 1.
        line: usize,
    },
    /// The environment variable of this name.
    Environment(String),
    /// The flag of this name.
    Flag(String),
}

impl fmt::Debug for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, text) = (&self.kind, hide(&self.text).text);
        formatter.debug_struct("Source").field("kind", kind).field("text", &text).finish()
    }
}

impl Source {
    /// What to call the whole of it, in front of line and column.
    pub(crate) fn name(&self) -> &str {
        match &self.kind {
            SourceKind::File(path) => path,
            SourceKind::Environment => "environment",
            SourceKind::Flag(_) => "command line",
        }
    }

    /// The origin of the value at `span`.
    pub(crate) fn origin(&self, span: &Range<usize>) -> Origin {
        let until = |end: char| self.text.split(end).next().unwrap_or_default().to_owned();
        match &self.kind {
            SourceKind::File(path) => {
                Origin::File { path: path.clone(), line: self.line_index(span.start) + 1 }
            }
            SourceKind::Environment => Origin::Environment(until('=')),
            SourceKind::Flag(_) => Origin::Flag(until(' ')),
        }
    }

    /// The line the byte at `offset` stands in, counted from 0.
    pub(crate) fn line_index(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().get(..offset).unwrap_or(self.text.as_bytes());
        before.iter().filter(|byte| **byte == b'\n').count()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => formatter.write_str("default"),
            Origin::File { path, line } => write!(formatter, "{path}:{line}"),
            Origin::Environment(variable) => write!(formatter, "environment {variable}"),
            Origin::Flag(flag) => formatter.write_str(flag),
        }
    }
}
