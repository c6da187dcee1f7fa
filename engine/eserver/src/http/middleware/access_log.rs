//! [`AccessLog`]: one in so many requests, written by a task beside the shards.

use std::net::IpAddr;
use std::time::Instant;

use tokio::sync::mpsc;

use crate::http::app::Request;
use crate::http::reply::Reply;

/// Entries that may wait to be written; past it they are dropped.
const ENTRIES_MAX: usize = 1024;

/// A shard's access log.
pub(super) struct AccessLog {
    one_in: u32,
    /// Requests until the next one is logged.
    skip: u32,
    entries: mpsc::Sender<Line>,
}

/// A request that will be logged when its reply is there.
pub(super) struct Entry {
    line: Line,
    started: Instant,
    entries: mpsc::Sender<Line>,
}

struct Line {
    peer: IpAddr,
    method: String,
    path: String,
    id: Option<String>,
    status: u16,
    body_bytes: Option<u64>,
    microseconds: u64,
}

impl AccessLog {
    pub(super) fn new(one_in: u32, runtime: &tokio::runtime::Handle) -> Self {
        let (entries, lines) = mpsc::channel(ENTRIES_MAX);
        runtime.spawn(write(lines));
        AccessLog { one_in: one_in.max(1), skip: 0, entries }
    }

    /// An entry for this request, if it is the turn of one.
    pub(super) fn enter(&mut self, request: &Request<'_>) -> Option<Entry> {
        let skip = self.skip.checked_sub(1);
        self.skip = skip.unwrap_or(self.one_in - 1);
        if skip.is_some() {
            return None;
        }
        let line = Line {
            peer: request.peer(),
            method: request.method().to_owned(),
            path: request.path().to_owned(),
            id: request.id().map(str::to_owned),
            status: 0,
            body_bytes: None,
            microseconds: 0,
        };
        Some(Entry { line, started: Instant::now(), entries: self.entries.clone() })
    }
}

impl Entry {
    /// Logs the request with its reply. It must not wait, so a writer that is behind gets nothing.
    pub(super) fn write(mut self, reply: &Reply) {
        self.line.status = reply.status();
        self.line.body_bytes = reply.body_bytes();
        self.line.microseconds =
            u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let _ = self.entries.try_send(self.line);
    }
}

async fn write(mut lines: mpsc::Receiver<Line>) {
    while let Some(line) = lines.recv().await {
        tracing::info!(
            target: "eserver::access",
            peer = %line.peer,
            method = line.method,
            path = line.path,
            status = line.status,
            body_bytes = line.body_bytes,
            microseconds = line.microseconds,
            id = line.id,
        );
    }
}
