//! [`Bar`]: how far a run is, on the terminal; nothing where there is none.

use std::time::Duration;

use eserver_bench::hold::Progress;
use indicatif::{ProgressBar, ProgressStyle};

/// A line on stderr that is drawn again and again.
pub(super) struct Bar {
    bar: ProgressBar,
    what: String,
}

impl Bar {
    pub(super) fn new() -> Self {
        let style = ProgressStyle::with_template(
            "{prefix:18} {wide_bar} {human_pos}/{human_len}  {per_sec}  {msg}",
        );
        let bar = ProgressBar::new(0);
        // The template above is one; without it the bar looks as it likes.
        if let Ok(style) = style {
            bar.set_style(style.progress_chars("█▉ "));
        }
        Bar { bar, what: String::new() }
    }

    /// Shows where the run is.
    pub(super) fn show(&mut self, progress: Progress<'_>) {
        if self.what != progress.what {
            progress.what.clone_into(&mut self.what);
            self.bar.reset();
            self.bar.set_prefix(self.what.clone());
            self.bar.enable_steady_tick(Duration::from_millis(500));
        }
        let megabytes = |bytes: Option<u64>| {
            bytes.map_or("-".to_owned(), |bytes| format!("{} MB", bytes / 1_000_000))
        };
        self.bar.set_length(progress.total);
        self.bar.set_position(progress.done);
        self.bar.set_message(format!(
            "errors {}  server {}  client {}",
            progress.errors,
            megabytes(progress.server_rss_bytes),
            megabytes(progress.client_rss_bytes),
        ));
    }

    /// Takes the line away.
    pub(super) fn clear(self) {
        self.bar.finish_and_clear();
    }
}
