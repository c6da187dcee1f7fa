//! `State`, the queue without its log: what each message is up to, and what may happen to it.
//!
//! Pure: no disk, no clock, no chance. A command is decided against the state and becomes an
//! [`Event`] or a refusal; the event, once in the log, is applied. Recovery applies the events of
//! the log in order and arrives at the same state, leases apart, which no restart outlives.

pub(crate) mod ages;
pub(crate) mod deadlines;
pub(crate) mod index;
pub(crate) mod usage;

use std::collections::{BTreeMap, BTreeSet};

use crate::event::{Event, Hold};
use crate::log::place::Place;
use crate::state::ages::Ages;
use crate::state::deadlines::Deadlines;
use crate::state::index::{Entry, Index, STATUSES, Status};
use crate::state::usage::Usage;
use crate::{Millis, Seq};

/// What is asked of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    /// A consumer has done its work.
    Acknowledge(Seq),
    /// A consumer gives it back, for then or for now.
    Release(Seq, Option<Millis>),
    /// A consumer sets it aside.
    Bury(Seq),
    /// It shall be ready, whether buried or delayed.
    Kick(Seq),
    /// It shall go, whatever it is up to.
    Delete(Seq),
}

/// Why a command does nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is no such message, or no more.
    Missing,
    /// The message is there and not in a state in which this can be done.
    Status,
}

/// Everything known about the messages of a queue.
#[derive(Debug)]
pub(crate) struct State {
    index: Index,
    /// Ready messages stand at or after this, or in `returned`.
    cursor: Seq,
    /// Ready messages that the cursor has passed: they came back.
    returned: BTreeSet<Seq>,
    delays: Deadlines,
    /// When leases run out; those without an end are not in it. Empty while the log is being read:
    /// leases are volatile.
    leases: Deadlines,
    /// Where the reason of each buried message stands.
    buried: BTreeMap<Seq, Place>,
    counts: [u64; STATUSES],
    payload_bytes: u64,
    usage: Usage,
    ages: Ages,
}

impl State {
    pub(crate) fn new() -> Self {
        Self {
            index: Index::new(Seq::FIRST),
            cursor: Seq::FIRST,
            returned: BTreeSet::new(),
            delays: Deadlines::default(),
            leases: Deadlines::default(),
            buried: BTreeMap::new(),
            counts: [0; STATUSES],
            payload_bytes: 0,
            usage: Usage::default(),
            ages: Ages::default(),
        }
    }

    pub(crate) fn next_seq(&self) -> Seq {
        self.index.next()
    }

    pub(crate) fn count(&self, status: Status) -> u64 {
        self.counts[status as usize]
    }

    /// Messages that are not removed.
    pub(crate) fn held(&self) -> u64 {
        self.counts[Status::Ready as usize..=Status::Buried as usize].iter().sum()
    }

    pub(crate) fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    pub(crate) fn usage(&self) -> &Usage {
        &self.usage
    }

    pub(crate) fn ages(&self) -> &Ages {
        &self.ages
    }

    pub(crate) fn entry(&self, seq: Seq) -> Option<&Entry> {
        self.index.get(seq)
    }

    /// When a delayed message is due.
    pub(crate) fn due(&self, seq: Seq) -> Option<Millis> {
        self.delays.get(seq)
    }

    /// Whether a consumer in this process has it, for as long as it likes: leased, and no end to it.
    pub(crate) fn is_taken(&self, seq: Seq) -> bool {
        let is_leased = self.index.get(seq).is_some_and(|entry| entry.status == Status::Leased);
        is_leased && self.leases.get(seq).is_none()
    }

    /// Where the reason of a buried message stands.
    pub(crate) fn reason(&self, seq: Seq) -> Option<Place> {
        self.buried.get(&seq).copied()
    }

    /// The buried messages from `from` on.
    pub(crate) fn buried(&self, from: Seq) -> impl Iterator<Item = (Seq, Place)> {
        self.buried.range(from..).map(|(&seq, &place)| (seq, place))
    }

    /// When the oldest message was put.
    pub(crate) fn oldest_put_at(&self) -> Option<Millis> {
        self.ages.put_at(self.index.oldest()?)
    }

    /// The messages whose record stands in segment `number`, from `from` on, where `next` is the
    /// first message that was put into a later segment.
    pub(crate) fn in_segment(
        &self,
        number: u32,
        from: Seq,
        next: Seq,
    ) -> impl Iterator<Item = Seq> {
        let messages = self.index.iter_from(from).take_while(move |&(seq, _)| seq < next);
        messages.filter(move |(_, entry)| entry.place().segment == number).map(|(seq, _)| seq)
    }

    /// The earliest instant at which [`State::wake`] has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Millis> {
        self.delays.next().into_iter().chain(self.leases.next()).min()
    }

    /// The oldest message that can be taken.
    #[inline]
    pub(crate) fn next_ready(&mut self) -> Option<Seq> {
        if self.count(Status::Ready) == 0 {
            return None;
        }
        if let Some(&seq) = self.returned.first() {
            return Some(seq);
        }
        self.cursor = self.cursor.max(self.index.ring_first());
        while self.cursor < self.index.next() {
            if self.index.get(self.cursor).is_some_and(|entry| entry.status == Status::Ready) {
                return Some(self.cursor);
            }
            self.cursor = self.cursor.next();
        }
        None
    }

    /// The oldest message that may be overwritten: no consumer holds it, nobody set it aside.
    pub(crate) fn next_overwritten(&mut self) -> Option<Seq> {
        self.next_ready().into_iter().chain(self.delays.oldest()).min()
    }

    /// What a command comes to.
    pub(crate) fn decide(&self, command: Command) -> Result<Event, Refusal> {
        let (Command::Acknowledge(seq)
        | Command::Release(seq, _)
        | Command::Bury(seq)
        | Command::Kick(seq)
        | Command::Delete(seq)) = command;
        let status = self.index.get(seq).ok_or(Refusal::Missing)?.status;
        match (command, status) {
            // A lease that ran out, or that another consumer has by now, does not undo the work.
            (Command::Acknowledge(_), Status::Ready | Status::Delayed | Status::Leased)
            | (Command::Delete(_), _) => Ok(Event::Removed { first: seq, count: 1 }),
            (Command::Release(_, due), Status::Leased) => Ok(Event::Released { seq, due }),
            (Command::Bury(_), Status::Leased) => Ok(Event::Buried { seq }),
            (Command::Kick(_), Status::Buried | Status::Delayed) => Ok(Event::Kicked { seq }),
            _ => Err(Refusal::Status),
        }
    }

    /// Makes an event so. `place` is where its record stands.
    #[inline]
    pub(crate) fn apply(&mut self, event: &Event, place: Place) {
        match *event {
            Event::Put { seq, due, payload_bytes } => self.put(seq, due, place, payload_bytes),
            Event::Removed { first, count } => {
                self.expect_next(Seq::new(first.get().saturating_add(count)));
                for number in run(first, count, self.index.next()) {
                    self.remove(number);
                }
            }
            Event::Reserved { first, count } => {
                for seq in run(first, count, self.index.next()) {
                    if let Some(entry) = self.index.get_mut(seq) {
                        entry.attempts = entry.attempts.saturating_add(1);
                        self.change(seq, Status::Leased);
                    }
                }
            }
            Event::Released { seq, due: None } | Event::Kicked { seq } => {
                self.change(seq, Status::Ready);
            }
            Event::Released { seq, due: Some(due) } => {
                if self.change(seq, Status::Delayed) {
                    self.delays.set(seq, due);
                }
            }
            Event::Buried { seq } => {
                if self.change(seq, Status::Buried) {
                    self.buried.insert(seq, place);
                }
            }
            Event::Moved { seq, moved, payload_bytes } => {
                let (status, due) = match moved.hold {
                    Hold::Free => (Status::Ready, None),
                    Hold::Until(due) => (Status::Delayed, Some(due)),
                    Hold::Buried => (Status::Buried, None),
                };
                let mut entry = Entry::new(place, payload_bytes, status);
                entry.attempts = moved.attempts;
                self.replace(seq, entry, due);
            }
            Event::Clock(at) => self.ages.mark(self.index.next(), at),
        }
    }

    #[inline]
    fn put(&mut self, seq: Seq, due: Option<Millis>, place: Place, payload_bytes: u32) {
        self.expect_next(seq);
        if seq != self.index.next() {
            return;
        }
        let status = if due.is_some() { Status::Delayed } else { Status::Ready };
        let entry = Entry::new(place, payload_bytes, status);
        self.index.push(entry);
        self.enter(&entry);
        if let Some(due) = due {
            self.delays.set(seq, due);
        }
    }

    /// The next put is `seq`'s: numbers below it that nothing is known about were lost to damage.
    pub(crate) fn expect_next(&mut self, seq: Seq) {
        while self.index.next() < seq {
            self.index.push(Entry::new(Place::default(), 0, Status::Missing));
            self.counts[Status::Missing as usize] += 1;
        }
    }

    /// The log starts with `seq`: what was before is known not to matter.
    pub(crate) fn start_at(&mut self, seq: Seq) {
        self.index.start_at(seq);
    }

    fn enter(&mut self, entry: &Entry) {
        self.counts[entry.status as usize] += 1;
        if entry.status != Status::Missing {
            self.payload_bytes += u64::from(entry.payload_bytes);
            self.usage.gain(entry);
        }
    }

    #[inline]
    fn remove(&mut self, seq: Seq) {
        let Some(entry) = self.index.remove(seq) else {
            return;
        };
        self.leave(seq, &entry);
        while let Some((straggler, entry)) = self.index.trim() {
            if entry.status == Status::Ready {
                self.returned.insert(straggler);
            }
        }
        if self.held() == 0 {
            self.ages.forget_before(self.index.next());
        } else if seq.get().is_multiple_of(1024) {
            self.ages.forget_before(self.index.oldest().unwrap_or(seq));
        }
    }

    fn leave(&mut self, seq: Seq, entry: &Entry) {
        self.leave_status(seq, entry.status);
        if entry.status != Status::Missing {
            self.payload_bytes -= u64::from(entry.payload_bytes);
            self.usage.lose(entry);
        }
    }

    fn leave_status(&mut self, seq: Seq, status: Status) {
        self.counts[status as usize] -= 1;
        match status {
            Status::Ready => {
                self.returned.remove(&seq);
            }
            Status::Delayed => self.delays.remove(seq),
            Status::Leased => self.leases.remove(seq),
            Status::Buried => {
                self.buried.remove(&seq);
            }
            Status::Removed | Status::Missing => {}
        }
    }

    /// Changes the status of a message that is there, and whose record is.
    fn change(&mut self, seq: Seq, status: Status) -> bool {
        let Some(entry) = self.index.get_mut(seq) else {
            return false;
        };
        if entry.status == Status::Missing {
            return false;
        }
        let before = entry.status;
        entry.status = status;
        self.leave_status(seq, before);
        self.counts[status as usize] += 1;
        if status == Status::Ready {
            self.return_to_place(seq);
        }
        true
    }

    fn return_to_place(&mut self, seq: Seq) {
        if seq < self.cursor || seq < self.index.ring_first() {
            self.returned.insert(seq);
        }
    }

    /// A message's newest record is another one now. A lease that runs goes on: it is not a part of
    /// any record.
    fn replace(&mut self, seq: Seq, mut entry: Entry, due: Option<Millis>) {
        self.expect_next(seq.next());
        let lease = self.leases.get(seq);
        if let Some(old) = self.index.get(seq).copied() {
            if (old.status, entry.status) == (Status::Leased, Status::Ready) {
                entry.status = Status::Leased;
            }
            self.leave(seq, &old);
        }
        self.index.insert(seq, entry);
        self.enter(&entry);
        match entry.status {
            Status::Ready => self.return_to_place(seq),
            Status::Delayed => self.delays.set(seq, due.unwrap_or_default()),
            Status::Buried => {
                self.buried.insert(seq, entry.place());
            }
            Status::Leased => {
                if let Some(until) = lease {
                    self.leases.set(seq, until);
                }
            }
            Status::Removed | Status::Missing => {}
        }
    }

    /// A reserved message comes back by itself at `until`.
    pub(crate) fn lease(&mut self, seq: Seq, until: Millis) {
        self.leases.set(seq, until);
    }

    /// Returns what is due to its place: leases that ran out, delays that are over. Both follow
    /// from what is known anyway and are not events.
    pub(crate) fn wake(&mut self, now: Millis) {
        while let Some(seq) = self.leases.due(now) {
            self.leases.remove(seq);
            self.change(seq, Status::Ready);
        }
        while let Some(seq) = self.delays.due(now) {
            self.delays.remove(seq);
            self.change(seq, Status::Ready);
        }
    }

    /// Ends the reading of the log. Leases are void; messages in segments before `oldest` were
    /// gone when that was written; and what is missing by now is lost. Returns the lost ones.
    pub(crate) fn finish_recovery(&mut self, oldest: u32) -> Vec<Seq> {
        let mut lost = Vec::new();
        let mut gone = Vec::new();
        let mut leased = Vec::new();
        for (seq, entry) in self.index.iter_from(Seq::new(0)) {
            match entry.status {
                Status::Missing => lost.push(seq),
                _ if entry.place().segment < oldest => gone.push(seq),
                Status::Leased => leased.push(seq),
                _ => {}
            }
        }
        for &seq in lost.iter().chain(&gone) {
            self.remove(seq);
        }
        for seq in leased {
            self.change(seq, Status::Ready);
        }
        self.usage.forget_before(oldest);
        lost
    }

    /// Segments before `oldest` are no more.
    pub(crate) fn forget_before(&mut self, oldest: u32) {
        self.usage.forget_before(oldest);
    }

    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Seq, &Entry)> {
        self.index.iter_from(Seq::new(0))
    }
}

fn run(first: Seq, count: u64, next: Seq) -> impl Iterator<Item = Seq> {
    let end = first.get().saturating_add(count).min(next.get());
    (first.get()..end).map(Seq::new)
}
