//! [`Line`]: how a subscriber's connection is reached. [`Teller`]: what is told, as bytes on it.

use std::collections::HashMap;
use std::sync::Arc;

use eserver::http::{StreamTo, Ticket};
use eserver::{ConnId, Conns, ReplyTo};

use crate::message::Message;
use crate::outgoing::{CursorText, Outgoing, SubscriberId, What};
use crate::position::{Epoch, Position, Seq};
use crate::render::{self, Callback, Rendered};
use crate::service::asker::Asker;
use crate::service::counters::StationCounters;
use crate::service::sockets::Sockets;
use crate::settings::Policies;
use crate::slow::{Sent, SlowPolicy};

/// How a subscriber's connection is reached.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Line {
    /// An answer that has not begun.
    Answer(Ticket),
    /// One that goes on; a poll of icomet's, too, whose head leaves before there is anything to
    /// tell.
    Stream(StreamTo),
    /// A WebSocket, and its number.
    Socket(ConnId, u32),
}

impl Line {
    /// Whose answer it is, if it is one.
    pub(crate) fn to(self) -> Option<ReplyTo> {
        match self {
            Line::Answer(ticket) => Some(ticket.to),
            Line::Stream(stream) => Some(stream.to),
            Line::Socket(..) => None,
        }
    }

    pub(crate) fn conn(self) -> ConnId {
        match self {
            Line::Answer(ticket) => ticket.to.conn(),
            Line::Stream(stream) => stream.to.conn(),
            Line::Socket(conn, _) => conn,
        }
    }
}

/// What the slot of a connection stands for. The engine's slots have 31 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    /// Somebody who was answered.
    Subscriber(SubscriberId),
    /// A WebSocket, by its number.
    Socket(u32),
}

/// Set in the number of a subscriber that has a group.
const GROUP: u32 = 1 << 31;

impl Slot {
    /// The number that the connection keeps.
    pub(crate) fn get(self) -> u32 {
        match self {
            Slot::Subscriber(id) => (id.get() & !GROUP) << 2 | id.get() >> 31,
            Slot::Socket(number) => number << 2 | 2,
        }
    }

    /// The slot of this number.
    pub(crate) fn new(number: u32) -> Self {
        match number & 3 {
            2 => Slot::Socket(number >> 2),
            kind => Slot::Subscriber(SubscriberId::new(number >> 2 | kind << 31)),
        }
    }
}

/// How much room for frames is kept for the next ones, in bytes.
const FRAMES_BYTES_KEPT: usize = 256 * 1024;

/// Tells subscribers what a room wants them told.
pub(crate) struct Teller {
    pub(crate) policies: Arc<Policies>,
    pub(crate) counters: Arc<StationCounters>,
    rendered: Rendered,
    /// What polls are to be answered with a call of, by the number of the subscriber.
    callbacks: HashMap<u32, Box<str>>,
    /// The pages that may read the answers of polls, by the number of the subscriber; nothing where
    /// all may.
    origins: HashMap<u32, Box<str>>,
    /// Those whose connections had ended when the room let go of them: the engine is yet to tell, and
    /// their names may be others' by then.
    forgotten: Vec<SubscriberId>,
    /// The one that was told its last most recently.
    pub(crate) ended: Option<SubscriberId>,
    pub(crate) sockets: Sockets,
    /// Kept to be used again.
    text: String,
    bytes: Vec<u8>,
}

impl Teller {
    pub(crate) fn new(policies: Arc<Policies>, counters: Arc<StationCounters>) -> Self {
        Teller {
            policies,
            counters,
            rendered: Rendered::default(),
            callbacks: HashMap::new(),
            origins: HashMap::new(),
            forgotten: Vec::new(),
            ended: None,
            sockets: Sockets::default(),
            text: String::new(),
            bytes: Vec::new(),
        }
    }

    /// Gives back what is kept to be used again, and is not in use.
    pub(crate) fn trim(&mut self) {
        self.rendered = Rendered::default();
        self.callbacks.shrink_to_fit();
        self.origins.shrink_to_fit();
        self.forgotten.shrink_to_fit();
        self.sockets.trim();
        (self.text, self.bytes) = (String::new(), Vec::new());
    }

    /// A poll is to be answered with a call of this.
    pub(crate) fn call_back(&mut self, id: SubscriberId, callback: Callback<'_>) {
        self.callbacks.insert(id.get(), callback.as_str().into());
    }

    /// A poll has come from a page of this origin, which is let in.
    pub(crate) fn remember_origin(&mut self, id: SubscriberId, origin: &str) {
        self.origins.insert(id.get(), origin.into());
    }

    /// It is over with the answer of a poll.
    fn forget_answer(&mut self, id: SubscriberId) {
        self.callbacks.remove(&id.get());
        self.origins.remove(&id.get());
    }

    /// A connection has ended: who is to be unsubscribed, if that is not over already.
    pub(crate) fn release(&mut self, slot: u32) -> Option<SubscriberId> {
        match Slot::new(slot) {
            Slot::Socket(number) => self.sockets.remove(number),
            Slot::Subscriber(id) => {
                if let Some(at) = self.forgotten.iter().position(|forgotten| *forgotten == id) {
                    self.forgotten.swap_remove(at);
                    return None;
                }
                self.forget_answer(id);
                Some(id)
            }
        }
    }

    /// Who a connection's slot is about, if anybody.
    pub(crate) fn subscriber(&self, slot: u32) -> Option<SubscriberId> {
        match Slot::new(slot) {
            Slot::Socket(number) => self.sockets.subscriber(number),
            Slot::Subscriber(id) => Some(id),
        }
    }

    /// Tells one subscriber something.
    pub(crate) fn tell(&mut self, outgoing: &Outgoing<'_, Line>, conns: &mut Conns<'_>) -> Sent {
        let Outgoing { id, handle: line, ends, .. } = *outgoing;
        let conn = line.conn();
        if ends {
            self.ended = Some(id);
        }
        let Some(waiting_bytes) = conns.waiting_bytes(conn) else {
            // Its end is on its way here, and is what the subscriber ends by.
            match line {
                Line::Socket(_, number) if ends => self.sockets.forget_subscriber(number, conn),
                Line::Answer(_) | Line::Stream(_) if ends => {
                    self.forget_answer(id);
                    self.forgotten.push(id);
                }
                _ => {}
            }
            return Sent::Yes;
        };
        if let (Line::Socket(..), What::Missed { first, messages }) = (line, outgoing.what) {
            return self.tell_each(outgoing, first, messages, waiting_bytes, conns);
        }
        if waiting_bytes > 0 {
            let bytes = self.rendered.of(outgoing).len();
            match self.admit(outgoing, waiting_bytes, bytes, conns) {
                Sent::Yes => {}
                other => return other,
            }
        }
        let text = self.rendered.of(outgoing);
        if text.is_empty() && !ends {
            return Sent::Yes;
        }
        self.counters.told.add(1);
        match line {
            Line::Stream(stream) => {
                let mut text = text;
                if ends && outgoing.transport.is_poll() {
                    self.text.clear();
                    let callback = self.callbacks.remove(&id.get());
                    let callback = callback.as_deref().and_then(Callback::new);
                    render::enclose(callback, text, &mut self.text);
                    text = &self.text;
                }
                self.bytes.clear();
                StreamTo::encode(stream.following, text.as_bytes(), &mut self.bytes);
                if ends {
                    self.bytes.extend_from_slice(StreamTo::end(stream.following));
                    conns.forget_slot(conn);
                    conns.finish(stream.to, &self.bytes);
                } else {
                    // What may wait was decided above; a word in between does not end a stream.
                    conns.part_whatever_waits(stream.to, &self.bytes);
                }
            }
            Line::Socket(_, number) => {
                let key = message_of(outgoing);
                self.sockets.send(conn, number, key, text, conns);
                if ends {
                    self.sockets.forget_subscriber(number, conn);
                    Sockets::end(conn, outgoing.what, conns);
                }
            }
            Line::Answer(ticket) => {
                debug_assert!(ends, "a poll is told one thing");
                conns.forget_slot(conn);
                let media_type = render::media_type(outgoing.transport, false);
                let origin = self.origins.remove(&id.get());
                let origins = &self.policies.settings().origins;
                let asker = Asker::remembered(origin.as_deref(), origins);
                ticket.reply(conns, 200, |mut response| {
                    response.line(&super::NO_STORE);
                    asker.tell(&mut response);
                    if response.field("Content-Type", media_type.as_bytes()).is_ok() {
                        response.body(text.as_bytes());
                    }
                });
            }
        }
        Sent::Yes
    }

    /// Whether so many bytes may go to a subscriber for whom others wait.
    fn admit(
        &mut self,
        outgoing: &Outgoing<'_, Line>,
        waiting_bytes: usize,
        bytes: usize,
        conns: &mut Conns<'_>,
    ) -> Sent {
        let Outgoing { id, handle: line, channel, what, .. } = *outgoing;
        if waiting_bytes == 0 || bytes == 0 {
            return Sent::Yes; // One message may be longer than what may wait.
        }
        let settings = self.policies.of(channel);
        let bytes_max = settings.outbox_bytes_max.min(conns.outbox_bytes_max());
        let sent = match what {
            // icomet's clients cannot be told that something was skipped meanwhile.
            What::Missed { .. } if !outgoing.transport.is_icomet() => {
                SlowPolicy::pace(waiting_bytes + bytes, bytes_max)
            }
            // Of members there may be many.
            What::Message { .. } | What::Missed { .. } | What::Member { .. } => {
                settings.slow.decide(waiting_bytes + bytes, bytes_max)
            }
            _ => Sent::Yes,
        };
        match sent {
            Sent::Yes => {}
            Sent::Later => {
                conns.tell_drained(line.conn());
                self.counters.skipped.add(u64::from(!matches!(what, What::Missed { .. })));
            }
            Sent::Gone => {
                let conn = line.conn();
                tracing::debug!(%conn, channel, "closed a slow subscriber");
                self.counters.slow.add(1);
                self.forget_answer(id);
                let too_slow =
                    Outgoing { what: What::TooSlow, cursor: CursorText::None, ..*outgoing };
                let text = self.rendered.of(&too_slow);
                match line {
                    Line::Socket(_, number) => {
                        self.sockets.send(conn, number, None, text, conns);
                        self.sockets.forget_subscriber(number, conn);
                        Sockets::end(conn, What::TooSlow, conns);
                    }
                    Line::Stream(stream) => {
                        self.bytes.clear();
                        StreamTo::encode(stream.following, text.as_bytes(), &mut self.bytes);
                        self.bytes.extend_from_slice(StreamTo::end(stream.following));
                        conns.forget_slot(conn);
                        conns.part_whatever_waits(stream.to, &self.bytes);
                    }
                    Line::Answer(_) => conns.forget_slot(conn),
                }
                conns.close_slow_reader(conn);
            }
        }
        sent
    }

    /// Tells a socket messages of before: each is a message of its own there. All of them or none.
    fn tell_each(
        &mut self,
        outgoing: &Outgoing<'_, Line>,
        first: Seq,
        messages: &[Arc<Message>],
        waiting_bytes: usize,
        conns: &mut Conns<'_>,
    ) -> Sent {
        let Line::Socket(conn, number) = outgoing.handle else { return Sent::Yes };
        let mut frames = std::mem::take(&mut self.bytes);
        frames.clear();
        let mut seq = first;
        for message in messages {
            let cursor = match outgoing.cursor {
                CursorText::At(at) => CursorText::At(Position { next: seq.next(), ..at }),
                other => other,
            };
            let what = What::Message { seq, message };
            let each = Outgoing { what, cursor, ..*outgoing };
            let text = self.rendered.of(&each);
            self.sockets.encode(number, message_of(&each), text, &mut frames);
            seq = seq.next();
        }
        let sent = self.admit(outgoing, waiting_bytes, frames.len(), conns);
        if sent == Sent::Yes {
            self.counters.told.add(messages.len() as u64);
            conns.send_whatever_waits(conn, &frames);
        }
        if frames.capacity() <= FRAMES_BYTES_KEPT {
            self.bytes = frames;
        }
        sent
    }
}

/// Which message it is that is told, if it is one.
fn message_of(outgoing: &Outgoing<'_, Line>) -> Option<(Epoch, Seq)> {
    match (outgoing.what, outgoing.cursor) {
        (What::Message { seq, .. }, CursorText::At(position)) => Some((position.epoch, seq)),
        _ => None,
    }
}
