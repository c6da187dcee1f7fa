//! Where log events go: stderr, as text for a person and as JSON for a collector.

use std::fmt;
use std::io::IsTerminal;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use crate::config::{LogConfig, LogFormat};

/// What is worth a line: a level, and directives for single modules.
///
/// The text is kept because a filter is used up when it is put into place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogLevel(String);

/// Why a text is no [`LogLevel`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotALevel(String);

impl LogLevel {
    /// What may be written.
    pub(crate) const HELP: &str =
        "off, error, warn, info, debug or trace; per module as in \"info,eserver_queue=debug\"";

    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

    /// Reads `info` or `info,eserver_queue=debug`.
    ///
    /// A lone word that is no level would name a module to the filter, and a slip such as `inof`
    /// would silence everything; it is refused.
    ///
    /// # Errors
    /// [`NotALevel`] with the part that is not understood.
    pub(crate) fn parse(text: &str) -> Result<Self, NotALevel> {
        for part in text.split(',').map(str::trim) {
            let level = part.rsplit_once('=').map_or(part, |(_, level)| level);
            let is_level = Self::LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level));
            if !is_level || EnvFilter::builder().parse(part).is_err() {
                return Err(NotALevel(part.to_owned()));
            }
        }
        Ok(LogLevel(text.to_owned()))
    }

    fn filter(&self) -> EnvFilter {
        EnvFilter::builder().parse_lossy(&self.0)
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for NotALevel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?} is not understood", self.0)
    }
}

/// The running log, whose level can change.
#[derive(Debug)]
pub(crate) struct Log(reload::Handle<EnvFilter, Registry>);

/// Sends the log events of this process to stderr. Only the first call of a process counts.
pub(crate) fn start(config: &LogConfig) -> Log {
    let terminal = std::io::stderr().is_terminal();
    let text = match config.format {
        LogFormat::Text => true,
        LogFormat::Json => false,
        LogFormat::Auto => terminal,
    };
    let (filter, handle) = reload::Layer::new(config.level.filter());
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let layer: Box<dyn Layer<_> + Send + Sync> = if text {
        let color = terminal && std::env::var_os("NO_COLOR").is_none();
        layer.with_ansi(color).boxed()
    } else {
        layer.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
    };
    // Fails only when a log is running already; that one then goes on.
    let _ = tracing_subscriber::registry().with(filter).with(layer).try_init();
    Log(handle)
}

impl Log {
    /// Changes what is worth a line from now on.
    pub(crate) fn set_level(&self, level: &LogLevel) {
        // Fails only when the log is gone, and then nobody reads it.
        let _ = self.0.reload(level.filter());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_directives_are_read() {
        for text in
            ["info", "WARN", "off", "info,eserver_queue=debug", "warn, eserver::shard=trace"]
        {
            assert_eq!(LogLevel::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn slips_do_not_silence_the_log() {
        for (text, part) in [
            ("inof", "inof"),
            ("", ""),
            ("info,", ""),
            ("info,eserver=loud", "eserver=loud"),
            ("eserver", "eserver"),
        ] {
            assert_eq!(LogLevel::parse(text), Err(NotALevel(part.to_owned())), "{text:?}");
        }
    }
}
