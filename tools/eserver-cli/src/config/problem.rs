//! [`Problems`]: everything that is wrong with a configuration, shown where it stands.

use std::fmt;
use std::io::IsTerminal;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::secret::hide;
use super::source::{Source, SourceKind, Spot};

/// What is wrong within one value, before it is known which text the value stands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// The bytes to point at.
    pub(crate) span: Range<usize>,
    /// One sentence that names the key.
    pub(crate) title: String,
    /// What stands under the caret.
    pub(crate) label: String,
    /// What to write instead.
    pub(crate) help: Option<String>,
}

/// How bad a [`Problem`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can be used, but probably was meant otherwise.
    Note,
}

/// A [`Mistake`] and the text it stands in.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    pub(crate) severity: Severity,
    /// Index into the sources; `None` when there is no text to show.
    pub(crate) source: Option<usize>,
    pub(crate) mistake: Mistake,
}

/// Problems in the order of their sources, from top to bottom, with the texts to show. Passwords are
/// in none of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Problems {
    sources: Vec<Source>,
    list: Vec<Problem>,
}

impl Mistake {
    /// A mistake without advice.
    pub(crate) fn new(
        span: Range<usize>,
        title: impl Into<String>,
        label: impl Into<String>,
    ) -> Self {
        Mistake { span, title: title.into(), label: label.into(), help: None }
    }

    /// The same with advice.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same, `offset` bytes further on.
    pub(crate) fn shifted(mut self, offset: usize) -> Self {
        self.span = self.span.start + offset..self.span.end + offset;
        self
    }
}

impl Problem {
    /// An error in the source of this index.
    pub(crate) fn error(source: usize, mistake: Mistake) -> Self {
        Problem { severity: Severity::Error, source: Some(source), mistake }
    }

    /// An error at a place that was remembered.
    pub(crate) fn at(spot: &Spot, title: impl Into<String>, label: impl Into<String>) -> Self {
        Problem::error(spot.source, Mistake::new(spot.span.clone(), title, label))
    }

    /// The same with advice.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.mistake.help = Some(help.into());
        self
    }

    /// A note on the source of this index; without one, it is about a default.
    pub(crate) fn note(source: Option<usize>, mistake: Mistake) -> Self {
        Problem { severity: Severity::Note, source, mistake }
    }

    /// An error outside of any text, such as a file that cannot be read.
    pub(crate) fn elsewhere(title: impl Into<String>, help: impl Into<String>) -> Self {
        let mistake = Mistake::new(0..0, title, "").help(help);
        Problem { severity: Severity::Error, source: None, mistake }
    }
}

impl Problems {
    /// Puts the problems in reading order.
    pub(crate) fn new(mut sources: Vec<Source>, mut list: Vec<Problem>) -> Self {
        list.sort_by_key(|problem| (problem.source, problem.mistake.span.start));
        for problem in &mut list {
            let mistake = &mut problem.mistake;
            if let Some(source) = problem.source.and_then(|index| sources.get(index)) {
                mistake.span = hide(&source.text).shift(&mistake.span);
            }
            for text in
                [&mut mistake.title, &mut mistake.label].into_iter().chain(&mut mistake.help)
            {
                *text = hide(text).text.into_owned();
            }
        }
        for source in &mut sources {
            source.text = hide(&source.text).text.into_owned();
        }
        Problems { sources, list }
    }

    /// Whether there is nothing to say.
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether one of them rules the configuration out.
    pub(crate) fn has_errors(&self) -> bool {
        self.errors() > 0
    }

    fn errors(&self) -> usize {
        self.list.iter().filter(|problem| problem.severity == Severity::Error).count()
    }

    /// Everything as a person reads it: line, column, the line itself and a caret under it.
    pub(crate) fn render(&self, renderer: &Renderer) -> String {
        let groups: Vec<String> = self
            .list
            .iter()
            .map(|problem| renderer.render(&[self.group(problem)]) + "\n")
            .collect();
        let mut text = groups.join("\n");
        let errors = self.errors();
        if errors > 1 {
            text.push_str(&format!("\n{errors} errors in the configuration\n"));
        }
        text
    }

    /// Shows everything on stderr, in color on a terminal.
    pub(crate) fn print(&self) {
        if self.is_empty() {
            return;
        }
        let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        eprintln!("{}", self.render(&renderer).trim_end());
    }

    fn group<'a>(&'a self, problem: &'a Problem) -> Group<'a> {
        let mistake = &problem.mistake;
        let level = match problem.severity {
            Severity::Error => Level::ERROR,
            Severity::Note => Level::NOTE,
        };
        let title = level.primary_title(&mistake.title);
        let help = mistake.help.iter().map(|help| Level::HELP.message(help));
        let Some(source) = problem.source.and_then(|index| self.sources.get(index)) else {
            return Group::with_title(title).elements(help);
        };
        let mut span = mistake.span.clone();
        span.end = span.end.min(source.text.len());
        span.start = span.start.min(span.end);
        let annotation = AnnotationKind::Primary.span(span).label(&mistake.label);
        let snippet = Snippet::source(&source.text)
            .line_numbering(matches!(source.kind, SourceKind::File(_)))
            .path(source.name())
            .annotation(annotation);
        title.element(snippet).elements(help)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.render(&Renderer::plain()))
    }
}
