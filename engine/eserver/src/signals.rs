//! Being asked to end, or to read the configuration again.

use std::io;

use nix::sys::signal::{SigSet, Signal};
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};

/// Waits for SIGTERM or SIGINT. From then on a second one ends the process at once, with exit code
/// 1; the tokio runtime that this is called in watches for it.
///
/// # Errors
/// When the signal handlers cannot be installed.
pub async fn asked_to_end() -> io::Result<()> {
    let mut signals = Signals::new()?;
    signals.next_to_end().await;
    tokio::spawn(async move {
        signals.next_to_end().await;
        tracing::warn!("asked to end again: ending at once");
        std::process::exit(1);
    });
    Ok(())
}

/// Leaves signals to other threads, but for those that say what went wrong in this one.
pub(crate) fn block_signals() {
    let mut signals = SigSet::all();
    for own in [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGFPE, Signal::SIGILL, Signal::SIGABRT] {
        signals.remove(own);
    }
    if let Err(error) = signals.thread_block() {
        tracing::warn!(%error, "signals cannot be left to other threads");
    }
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// SIGTERM or SIGINT.
    End,
    /// SIGHUP.
    Reload,
}

/// The signals a server obeys, as a stream.
pub struct Signals {
    terminate: SignalStream,
    interrupt: SignalStream,
    hang_up: SignalStream,
}

impl Signals {
    /// Takes the signals over; must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the signal handlers cannot be installed.
    pub fn new() -> io::Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next_to_end(&mut self) {
        while self.next().await == Asked::Reload {}
    }

    /// The next signal.
    pub async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::End,
            _ = self.interrupt.recv() => Asked::End,
            _ = self.hang_up.recv() => Asked::Reload,
        }
    }
}
