//! [`Caller`]: takes events from the queue and tells the application.

use std::fmt::Write;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use eserver::{Feed, FeedFailed, Taken, Turn};
use eserver_wire::http::{HeadLimits, Request, RequestBody, ResponseHead};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{sleep, timeout};

use crate::webhook::WebhookSettings;

/// Bytes of events taken at once.
const EVENT_BYTES_MAX: usize = 256 * 1024;

/// How long to wait after a failure, and after many.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How it has gone so far.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Events that the application has answered for.
    pub(crate) delivered: u64,
    /// Requests that were not answered well.
    pub(crate) failed: u64,
    /// What is wrong now.
    pub(crate) trouble: Option<String>,
}

/// Why the application did not get a request.
#[derive(Debug, Error)]
enum CallError {
    #[error("it cannot be reached: {0}")]
    Io(#[from] io::Error),
    #[error("it did not answer in {} s", .0.as_secs_f64())]
    Timeout(Duration),
    #[error("its answer is not HTTP")]
    NoHttp,
    #[error("it answered with the status {0}")]
    Status(u16),
}

/// Takes events from the queue and tells the application.
pub(crate) struct Caller {
    settings: WebhookSettings,
    feed: Arc<dyn Feed>,
    progress: Arc<Mutex<Progress>>,
}

impl Caller {
    pub(crate) fn new(
        settings: WebhookSettings,
        feed: Arc<dyn Feed>,
        progress: Arc<Mutex<Progress>>,
    ) -> Self {
        Caller { settings, feed, progress }
    }

    /// Works until `stop` says so.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) -> Result<(), FeedFailed> {
        let ready = Arc::new(Notify::new());
        let waker = Arc::clone(&ready);
        self.feed.wake_by(Box::new(move || waker.notify_one()));
        let mut done = Vec::new();
        loop {
            let stopping = *stop.borrow();
            let messages_max = if stopping { 0 } else { self.settings.batch_max.max(1) };
            if stopping && done.is_empty() {
                return Ok(());
            }
            let bytes_max = EVENT_BYTES_MAX;
            let turn = Turn { done, messages_max, bytes_max, ..Turn::default() };
            let taken = self.turn(turn).await?;
            if taken.is_empty() {
                done = Vec::new();
                if !stopping {
                    tokio::select! {
                        () = ready.notified() => {}
                        _ = stop.changed() => {}
                    }
                }
                continue;
            }
            done = taken.iter().map(|event| event.id).collect();
            if !self.deliver(&taken, &mut stop).await {
                let turn = Turn { returned: done, ..Turn::default() };
                self.turn(turn).await?;
                return Ok(());
            }
        }
    }

    async fn turn(&self, turn: Turn) -> Result<Taken, FeedFailed> {
        let (sender, receiver) = oneshot::channel();
        self.feed.turn(turn, Box::new(move |taken| drop(sender.send(taken))));
        let closed = |_| Err(FeedFailed("the queue is closed".to_owned()));
        receiver.await.unwrap_or_else(closed)
    }

    /// Tells the application, again and again until it has answered; false if it is to stop first.
    async fn deliver(&self, events: &Taken, stop: &mut watch::Receiver<bool>) -> bool {
        let body = body_of(self.feed.epoch(), events);
        let mut wait = FIRST_WAIT;
        loop {
            let called = timeout(self.settings.timeout, self.call(&body)).await;
            let failure = match called.unwrap_or(Err(CallError::Timeout(self.settings.timeout))) {
                Ok(()) => {
                    self.delivered(events.len());
                    return true;
                }
                Err(error) => error,
            };
            self.failed(&failure);
            tokio::select! {
                () = sleep(wait.mul_f64(0.5 + f64::from(body.len() as u8) / 512.0)) => {}
                _ = stop.changed() => return false,
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// Makes one request.
    async fn call(&self, body: &str) -> Result<(), CallError> {
        let url = &self.settings.url;
        let signature = self.signature(body);
        let mut fields = vec![("Content-Type", "application/json"), ("Connection", "close")];
        if let Some(signature) = &signature {
            fields.push(("Webhook-Signature", signature));
        }
        let request = Request {
            method: "POST",
            target: url.target(),
            host: url.authority(),
            fields: &fields,
            body: RequestBody::Whole(body.as_bytes()),
        };
        let mut bytes = Vec::new();
        request.encode(&mut bytes).map_err(io::Error::other)?;
        let mut socket = TcpStream::connect(url.address()).await?;
        socket.write_all(&bytes).await?;
        let (mut answer, limits) = (Vec::new(), HeadLimits::default());
        loop {
            let head = ResponseHead::parse(&answer, "POST", &limits);
            let head = head.map_err(|_| CallError::NoHttp)?;
            match head.map(|head| (head.status, head.encoded_bytes)) {
                Some((..200, used)) => drop(answer.drain(..used)),
                Some((200..300, _)) => return Ok(()),
                Some((status, _)) => return Err(CallError::Status(status)),
                None if socket.read_buf(&mut answer).await? == 0 => return Err(CallError::NoHttp),
                None => {}
            }
        }
    }

    fn signature(&self, body: &str) -> Option<String> {
        let secret = self.settings.secret.as_bytes();
        if secret.is_empty() {
            return None;
        }
        let mut mac =
            Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
        mac.update(body.as_bytes());
        let mut text = String::from("sha256=");
        for byte in mac.finalize().into_bytes() {
            write!(text, "{byte:02x}").expect("a string takes all");
        }
        Some(text)
    }

    fn delivered(&self, count: usize) {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.delivered += count as u64;
        if progress.trouble.take().is_some() {
            tracing::info!(url = %self.settings.url, "the webhook's application answers again");
        }
    }

    /// Says so once, until it goes well again.
    fn failed(&self, error: &CallError) {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.failed += 1;
        if progress.trouble.is_none() {
            let url = &self.settings.url;
            tracing::warn!(%url, %error, "the webhook's application is not told; trying again");
        }
        progress.trouble = Some(error.to_string());
    }
}

/// The body of a request: what is stored of each event, with its id in front.
fn body_of(epoch: u64, events: &Taken) -> String {
    let mut body = String::from("{\"events\":[");
    for (nth, event) in events.iter().enumerate() {
        let payload = String::from_utf8_lossy(event.payload);
        let rest = payload.strip_prefix('{').unwrap_or("}");
        let comma = if nth > 0 { "," } else { "" };
        let id = event.id;
        write!(body, "{comma}{{\"id\":\"{epoch:x}-{id}\",{rest}").expect("a string takes all");
    }
    body.push_str("]}");
    body
}
