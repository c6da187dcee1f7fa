//! [`Webhook`]: tells a web application what becomes of channels, from a durable queue.
//!
//! Events wait in the queue until the application has answered with a status from 200 to 299, so
//! each comes at least once, and in order. What it gets is
//! `POST` with `{"events":[{"id":"…","type":"occupied","channel":"…","time_unix_ms":…}, …]}`; the
//! types are `occupied`, `vacated`, `join` and `leave`, the last two with a `subject`. An event that
//! comes again has the same `id`. With a secret there is a field `Webhook-Signature`: `sha256=` and
//! the HMAC-SHA256 of the body in hexadecimal.

mod caller;
mod url;

use std::io;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use eserver::{Consumer, Feed, Report};
use tokio::sync::watch;

use crate::webhook::caller::{Caller, Progress};

pub use url::{BadUrl, WebhookUrl};

/// Where to and how.
#[derive(Debug, Clone)]
pub struct WebhookSettings {
    /// Where the application listens.
    pub url: WebhookUrl,
    /// What bodies are signed with; empty signs none.
    pub secret: String,
    /// How long the application may take for its answer; then it is tried again.
    pub timeout: Duration,
    /// How many events one request has at most; at least 1.
    pub batch_max: usize,
}

/// Tells an application; to the queue it is the consumer.
pub struct Webhook {
    settings: WebhookSettings,
    progress: Arc<Mutex<Progress>>,
}

impl Webhook {
    /// One that is not at work yet.
    #[must_use]
    pub fn new(settings: WebhookSettings) -> Self {
        Webhook { settings, progress: Arc::default() }
    }

    /// Starts to work on a thread of its own.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(&self, feed: Arc<dyn Feed>) -> io::Result<Calling> {
        let (stop, stopped) = watch::channel(false);
        let (ended, has_ended) = mpsc::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let caller = Caller::new(self.settings.clone(), feed, Arc::clone(&self.progress));
        let work = move || {
            if let Err(error) = runtime.block_on(caller.run(stopped)) {
                // The queue's failure is reported by the queue, and ends the process.
                tracing::warn!(%error, "webhooks have ended");
            }
            drop(ended);
        };
        thread::Builder::new().name("webhook".to_owned()).spawn(work)?;
        Ok(Calling { stop, has_ended })
    }
}

impl Consumer for Webhook {
    /// Only this process puts there.
    fn admit(&self, _: &[u8]) -> Result<(), String> {
        Err("this queue is for webhooks; nobody else can put into it".to_owned())
    }

    fn report(&self) -> Report {
        let progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        Report {
            state: progress.trouble.clone().unwrap_or_else(|| "running".to_owned()),
            numbers: vec![("delivered", progress.delivered), ("failed", progress.failed)],
        }
    }
}

/// Webhooks at work.
pub struct Calling {
    stop: watch::Sender<bool>,
    has_ended: mpsc::Receiver<()>,
}

impl Calling {
    /// Takes no more events, and waits for the request that is under way, for so long at most. What
    /// was not answered comes again after the next start.
    pub fn stop(self, patience: Duration) {
        // Nobody listens when it has ended already.
        let _ = self.stop.send(true);
        let _ = self.has_ended.recv_timeout(patience);
    }
}
