//! [`Watchers`]: who wants to know what becomes of channels.

use std::fmt::Write;

use eserver::Conns;
use eserver::http::StreamTo;

use crate::letter::{Event, EventKind};
use crate::message::write_quoted;
use crate::slots::Slab;

/// Somebody who wants to know.
#[derive(Debug, Clone)]
pub(crate) struct Watcher {
    pub(crate) stream: StreamTo,
    pub(crate) dialect: Dialect,
    /// Channels of this beginning only.
    pub(crate) prefix: Box<str>,
}

/// How a watcher is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// icomet's `/psub`: lines `1 NAME` and `0 NAME`.
    Icomet,
    /// Server-sent events.
    Events,
}

/// Those of one shard, by slot.
pub(crate) struct Watchers {
    watchers: Slab<Watcher>,
    text: String,
}

impl Default for Watchers {
    fn default() -> Self {
        Watchers { watchers: Slab::new(), text: String::new() }
    }
}

impl Watchers {
    pub(crate) fn is_empty(&self) -> bool {
        self.watchers.len() == 0
    }

    pub(crate) fn insert(&mut self, watcher: Watcher) -> u32 {
        self.watchers.insert(watcher)
    }

    pub(crate) fn remove(&mut self, slot: u32) {
        self.watchers.remove(slot);
    }

    /// Tells all of them.
    pub(crate) fn tell(&mut self, events: &[Event], conns: &mut Conns<'_>) {
        let Watchers { watchers, text } = self;
        for watcher in (0..watchers.end()).filter_map(|slot| watchers.get(slot)) {
            text.clear();
            for event in events {
                if event.channel.starts_with(&*watcher.prefix) {
                    watcher.dialect.write(event, text);
                }
            }
            watcher.stream.chunk(conns, text.as_bytes());
        }
    }

    /// Gives a sign of life, which shows to both sides whether the other is there, to those whose
    /// dialect has one.
    pub(crate) fn show_life(&mut self, conns: &mut Conns<'_>) {
        let all = (0..self.watchers.end()).filter_map(|slot| self.watchers.get(slot));
        for watcher in all.filter(|watcher| watcher.dialect == Dialect::Events) {
            watcher.stream.chunk(conns, b":\n\n");
        }
    }

    /// Ends what one is told. Its connection's slot is released then, and that removes it.
    pub(crate) fn finish_one(&mut self, slot: u32, conns: &mut Conns<'_>) {
        if let Some(watcher) = self.watchers.get(slot) {
            watcher.stream.finish(conns);
        }
    }

    /// Ends what all are told: the server ends.
    pub(crate) fn finish(&mut self, conns: &mut Conns<'_>) {
        for slot in 0..self.watchers.end() {
            self.finish_one(slot, conns);
        }
    }
}

impl Dialect {
    fn write(self, Event { channel, what }: &Event, out: &mut String) {
        match self {
            Dialect::Icomet => {
                let sign = match what {
                    EventKind::Created | EventKind::StillThere => '1',
                    EventKind::Removed => '0',
                    _ => return,
                };
                // A line feed in a name would be another line.
                let channel = channel.replace(['\n', '\r'], " ");
                writeln!(out, "{sign} {channel}").expect("a string takes all");
            }
            Dialect::Events => {
                let (kind, subject) = match what {
                    EventKind::Created => ("created", None),
                    EventKind::Removed => ("removed", None),
                    EventKind::Occupied => ("occupied", None),
                    EventKind::Vacated => ("vacated", None),
                    EventKind::MemberJoined(subject) => ("join", Some(subject)),
                    EventKind::MemberLeft(subject) => ("leave", Some(subject)),
                    EventKind::StillThere => return,
                };
                write!(out, "event: {kind}\ndata: ").expect("a string takes all");
                write_event(kind, channel, subject.map(AsRef::as_ref), out);
                out.push_str("\n\n");
            }
        }
    }
}

/// Appends an event as a JSON object.
pub(crate) fn write_event(kind: &str, channel: &str, subject: Option<&str>, out: &mut String) {
    write!(out, "{{\"type\":\"{kind}\",\"channel\":").expect("a string takes all");
    write_quoted(channel, out);
    if let Some(subject) = subject {
        out.push_str(",\"subject\":");
        write_quoted(subject, out);
    }
    out.push('}');
}
