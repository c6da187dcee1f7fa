//! `Queue`: the state, its log, and what can be asked of the two.
//!
//! One thread owns a queue. It gathers the commands that wait, calls a method for each, calls
//! [`Queue::commit`] once, and only then answers: whatever a method returned is a promise from the
//! commit on, and not before.

pub(crate) mod moving;
pub(crate) mod outcome;
pub(crate) mod stats;

use std::path::PathBuf;

use crate::disk::{Disk, RealDisk};
use crate::event::{self, DUE_BYTES, Event};
use crate::log::place::Place;
use crate::log::record::Kind;
use crate::log::room::Need;
use crate::log::{AppendError, Committed, Log, LogFailed};
use crate::opening;
use crate::opening::recovery::{OpenError, Recovery};
use crate::queue::outcome::{Buried, ChangeError, Outcome, PutError, ReadError, Reserved};
use crate::queue::stats::{Stats, Totals};
use crate::state::index::{Entry, Status};
use crate::state::{Command, Refusal, State};
use crate::{Millis, Placeholder, QueueSettings, Seq, WhenFull};

/// The longest reason kept with a buried message, in bytes; longer ones are cut.
pub const REASON_BYTES_MAX: usize = 512;

/// The reason given to a message that is found damaged when its turn comes.
const DAMAGED: &str = "damaged on disk";

/// Bytes of the records that come with overwriting a message: its removal, the time, the end of a
/// segment.
const OVERWRITE_BYTES: usize = 128;

/// A durable queue on a [`Disk`].
#[derive(Debug)]
pub struct Queue<D: Disk = RealDisk> {
    pub(crate) state: State,
    pub(crate) log: Log<D>,
    pub(crate) totals: Totals,
    /// The latest instant a caller told.
    pub(crate) now: Millis,
    /// Where moving messages out of the oldest segment goes on.
    pub(crate) moving: Option<(u32, Seq)>,
    /// Scratch for a payload that is moved.
    pub(crate) scratch: Vec<u8>,
}

impl Queue<RealDisk> {
    /// Opens the queue in a directory of its own, which is made if it does not exist.
    ///
    /// # Errors
    /// [`OpenError`]; damaged contents are not an error but a part of the [`Recovery`].
    pub fn open(
        directory: impl Into<PathBuf>,
        settings: &QueueSettings,
        now: Millis,
    ) -> Result<(Self, Recovery), OpenError> {
        let path = directory.into();
        let disk = RealDisk::open(&path).map_err(|source| OpenError::Disk {
            operation: "open",
            path,
            source,
        })?;
        Self::open_on(disk, settings, now)
    }
}

impl<D: Disk> Queue<D> {
    /// Opens the queue on a disk of its own.
    ///
    /// # Errors
    /// [`OpenError`]; damaged contents are not an error but a part of the [`Recovery`].
    pub fn open_on(
        disk: D,
        settings: &QueueSettings,
        now: Millis,
    ) -> Result<(Self, Recovery), OpenError> {
        let (log, mut state, recovery) = opening::open(disk, settings, now)?;
        state.wake(now);
        let lost = recovery.lost.iter().map(|(first, last)| last.get() - first.get() + 1).sum();
        let totals = Totals { damaged: lost, ..Totals::default() };
        let mut queue = Self { state, log, totals, now, moving: None, scratch: Vec::new() };
        queue.retire_segments();
        Ok((queue, recovery))
    }

    /// Takes new bounds from now on; segment sizes hold for new segments.
    pub fn configure(&mut self, settings: &QueueSettings) {
        let normalized = settings.normalized();
        // The bound on payloads follows from the smallest segment there may be, and some exist.
        let segment_bytes_min = self.log.settings.segment_bytes_min;
        self.log.configure(QueueSettings { segment_bytes_min, ..normalized }.normalized());
    }

    /// Appends a message, to be taken once `delay_ms` milliseconds have passed, and returns its
    /// number. A placeholder, parsed from this very payload, is rendered with that number.
    ///
    /// # Errors
    /// [`PutError`]; the queue is as it was.
    #[inline]
    pub fn put(
        &mut self,
        payload: &[u8],
        placeholder: Option<Placeholder>,
        delay_ms: u64,
        now: Millis,
    ) -> Result<Seq, PutError> {
        self.advance(now);
        self.log.check()?;
        let seq = self.state.next_seq();
        let bytes = self.check_length(payload, placeholder, seq)?;
        if self.state.held() >= self.log.settings.length_max {
            self.overwrite_oldest(bytes)?;
        }
        self.mark_time()?;
        let due = (delay_ms > 0).then(|| self.now.plus(delay_ms));
        let body_bytes = bytes + if due.is_some() { DUE_BYTES } else { 0 };
        self.log.make_room(body_bytes, Need::Put, self.now).map_err(|error| self.refused(error))?;
        let kind = if due.is_some() { Kind::PutDelayed } else { Kind::Put };
        let place = self.log.append(kind, seq.get(), |out| {
            if let Some(due) = due {
                out.extend_from_slice(&due.get().to_le_bytes());
            }
            match placeholder {
                None => out.extend_from_slice(payload),
                Some(placeholder) => placeholder.render(payload, seq, out),
            }
        });
        self.state.apply(&Event::Put { seq, due, payload_bytes: bytes as u32 }, place);
        self.totals.put += 1;
        Ok(seq)
    }

    /// Bytes of the payload as it will be stored, if that is allowed.
    #[inline]
    fn check_length(
        &self,
        payload: &[u8],
        placeholder: Option<Placeholder>,
        seq: Seq,
    ) -> Result<usize, PutError> {
        let most = self.log.settings.payload_bytes_max;
        let bytes_max = most as u64;
        if payload.len() > most {
            return Err(PutError::TooLong { bytes: payload.len() as u64, bytes_max });
        }
        let Some(placeholder) = placeholder else {
            return Ok(payload.len());
        };
        let bytes = placeholder.rendered_bytes(payload, seq);
        if bytes > bytes_max {
            return Err(PutError::RenderedTooLong { bytes, bytes_max });
        }
        Ok(bytes as usize)
    }

    fn overwrite_oldest(&mut self, bytes: usize) -> Result<(), PutError> {
        let length_max = self.log.settings.length_max;
        let oldest = match self.log.settings.full {
            WhenFull::Reject => None,
            WhenFull::OverwriteOldest => self.state.next_overwritten(),
        };
        let Some(seq) = oldest else {
            self.totals.refused_full += 1;
            return Err(PutError::Full { length_max });
        };
        // Room for both and what comes with them, so that nothing is removed for a put that is
        // then refused.
        let body_bytes = bytes + DUE_BYTES + OVERWRITE_BYTES;
        self.log.make_room(body_bytes, Need::Put, self.now).map_err(|error| self.refused(error))?;
        self.remove(seq).map_err(|error| match error {
            ChangeError::NoSpace => PutError::NoSpace,
            ChangeError::Failed(failed) => PutError::Failed(failed),
        })?;
        self.totals.overwritten += 1;
        Ok(())
    }

    fn refused(&mut self, error: AppendError) -> PutError {
        match error {
            AppendError::NoSpace => {
                self.totals.refused_no_space += 1;
                PutError::NoSpace
            }
            AppendError::Failed(failed) => PutError::Failed(failed),
        }
    }

    /// Writes down the time once a second, for messages' ages.
    #[inline]
    fn mark_time(&mut self) -> Result<(), PutError> {
        if self.state.ages().is_mark_due(self.now) {
            self.log.make_room(0, Need::Put, self.now).map_err(|error| self.refused(error))?;
            let place = self.log.append(Kind::Clock, self.now.get(), |_| {});
            self.state.apply(&Event::Clock(self.now), place);
        }
        Ok(())
    }

    /// Takes the oldest ready message for good, at most once: appends its payload to `payload` and
    /// returns its number, or `None` when no message is ready.
    ///
    /// # Errors
    /// [`ReadError`]; the queue and `payload` are as they were.
    pub fn pop(&mut self, now: Millis, payload: &mut Vec<u8>) -> Result<Option<Seq>, ReadError> {
        self.advance(now);
        self.log.check()?;
        while let Some(seq) = self.state.next_ready() {
            self.log.make_room(0, Need::Consume, self.now).map_err(ChangeError::from)?;
            let read = self.read_payload(seq, |bytes| payload.extend_from_slice(bytes));
            if !read? {
                self.bury_damaged(seq)?;
                continue;
            }
            self.remove(seq)?;
            self.totals.popped += 1;
            return Ok(Some(seq));
        }
        Ok(None)
    }

    /// Bytes of the payload that [`Queue::pop`] or [`Queue::reserve`] would hand out next, or `None`
    /// when no message is ready.
    pub fn next_payload_bytes(&mut self, now: Millis) -> Option<usize> {
        self.advance(now);
        let seq = self.state.next_ready()?;
        self.state.entry(seq).map(|entry| entry.payload_bytes as usize)
    }

    /// Hands up to `max` ready messages, oldest first, to a consumer for `lease_ms` milliseconds,
    /// and returns how many. Each comes back by itself unless it is acknowledged, released or
    /// buried by then. A restart of the server ends all leases.
    ///
    /// # Errors
    /// [`ReadError`]; messages handed over before it are leased all the same.
    pub fn reserve(
        &mut self,
        now: Millis,
        lease_ms: u64,
        max: usize,
        each: impl FnMut(Reserved<'_>),
    ) -> Result<usize, ReadError> {
        self.advance(now);
        let until = self.now.plus(lease_ms.max(1));
        self.hand_out(Some(until), max, usize::MAX, each)
    }

    /// Hands ready messages, oldest first, to a consumer in this process, and returns how many: up
    /// to `messages_max`, and up to `bytes_max` bytes of payload, the first message whatever its
    /// length. They are its own until it acknowledges them, gives them back or sets them aside, or
    /// the process ends: no lease runs out, and [`Queue::release`] and [`Queue::bury`] do not apply.
    ///
    /// # Errors
    /// [`ReadError`]; messages handed over before it are taken all the same.
    pub fn take(
        &mut self,
        now: Millis,
        messages_max: usize,
        bytes_max: usize,
        each: impl FnMut(Reserved<'_>),
    ) -> Result<usize, ReadError> {
        self.advance(now);
        self.hand_out(None, messages_max, bytes_max, each)
    }

    fn hand_out(
        &mut self,
        until: Option<Millis>,
        messages_max: usize,
        bytes_max: usize,
        mut each: impl FnMut(Reserved<'_>),
    ) -> Result<usize, ReadError> {
        self.log.check()?;
        let (mut reserved, mut bytes) = (0, 0_usize);
        while reserved < messages_max
            && let Some(seq) = self.state.next_ready()
            && let Some(&Entry { attempts, payload_bytes, .. }) = self.state.entry(seq)
        {
            bytes = bytes.saturating_add(payload_bytes as usize);
            if reserved > 0 && bytes > bytes_max {
                break;
            }
            let attempts = attempts.saturating_add(1);
            let hand_over = |payload: &[u8]| {
                each(Reserved { seq, attempts, payload });
            };
            if !self.read_payload(seq, hand_over)? {
                self.bury_damaged(seq)?;
                continue;
            }
            // Without room the attempt is not written down: nothing hangs on that record, and the
            // room is for those that make more.
            let place = match self.log.make_room(0, Need::Put, self.now) {
                Ok(()) => self.log.append_to_run(Kind::Reserve, seq.get()),
                Err(AppendError::NoSpace) => Place::default(),
                Err(AppendError::Failed(failed)) => return Err(failed.into()),
            };
            self.state.apply(&Event::Reserved { first: seq, count: 1 }, place);
            if let Some(until) = until {
                self.state.lease(seq, until);
            }
            self.totals.reserved += 1;
            reserved += 1;
        }
        Ok(reserved)
    }

    /// Removes a message whose work is done. Also when its lease ran out meanwhile, or another
    /// consumer holds it: what is done is done.
    ///
    /// # Errors
    /// [`ChangeError`]; the queue is as it was.
    pub fn ack(&mut self, seq: Seq, now: Millis) -> Result<Outcome, ChangeError> {
        self.advance(now);
        let outcome = self.change(Command::Acknowledge(seq), "")?;
        self.totals.acknowledged += u64::from(outcome == Outcome::Done);
        Ok(outcome)
    }

    /// Gives a leased message back, to be taken again once `delay_ms` milliseconds have passed. Not
    /// one that was [taken](Queue::take): a late consumer must not get hold of what is being worked
    /// off.
    ///
    /// # Errors
    /// [`ChangeError`]; the queue is as it was.
    pub fn release(
        &mut self,
        seq: Seq,
        delay_ms: u64,
        now: Millis,
    ) -> Result<Outcome, ChangeError> {
        self.advance(now);
        if self.state.is_taken(seq) {
            return Ok(Outcome::NotApplicable);
        }
        let due = (delay_ms > 0).then(|| self.now.plus(delay_ms));
        self.let_go(seq, due)
    }

    /// Gives a [taken](Queue::take) message back, to be taken again at once.
    ///
    /// # Errors
    /// [`ChangeError`]; the queue is as it was.
    pub fn give_back(&mut self, seq: Seq, now: Millis) -> Result<Outcome, ChangeError> {
        self.advance(now);
        if self.state.is_taken(seq) { self.let_go(seq, None) } else { Ok(self.not_taken(seq)) }
    }

    fn let_go(&mut self, seq: Seq, due: Option<Millis>) -> Result<Outcome, ChangeError> {
        let outcome = self.change(Command::Release(seq, due), "")?;
        self.totals.released += u64::from(outcome == Outcome::Done);
        Ok(outcome)
    }

    /// Sets a leased message aside, with a reason, cut to [`REASON_BYTES_MAX`] bytes. Not one that
    /// was [taken](Queue::take).
    ///
    /// # Errors
    /// [`ChangeError`]; the queue is as it was.
    pub fn bury(&mut self, seq: Seq, reason: &str, now: Millis) -> Result<Outcome, ChangeError> {
        self.advance(now);
        if self.state.is_taken(seq) {
            return Ok(Outcome::NotApplicable);
        }
        self.put_aside(seq, reason)
    }

    /// Sets a [taken](Queue::take) message aside, with a reason as for [`Queue::bury`].
    ///
    /// # Errors
    /// [`ChangeError`]; the queue is as it was.
    pub fn set_aside(
        &mut self,
        seq: Seq,
        reason: &str,
        now: Millis,
    ) -> Result<Outcome, ChangeError> {
        self.advance(now);
        if self.state.is_taken(seq) { self.put_aside(seq, reason) } else { Ok(self.not_taken(seq)) }
    }

    fn not_taken(&self, seq: Seq) -> Outcome {
        self.state.entry(seq).map_or(Outcome::Missing, |_| Outcome::NotApplicable)
    }

    fn put_aside(&mut self, seq: Seq, reason: &str) -> Result<Outcome, ChangeError> {
        let outcome = self.change(Command::Bury(seq), reason)?;
        self.totals.buried += u64::from(outcome == Outcome::Done);
        Ok(outcome)
    }

    /// Makes a buried or delayed message ready, in its place.
    ///
    /// # Errors
    /// [`ChangeError`]; the queue is as it was.
    pub fn kick(&mut self, seq: Seq, now: Millis) -> Result<Outcome, ChangeError> {
        self.advance(now);
        let outcome = self.change(Command::Kick(seq), "")?;
        self.totals.kicked += u64::from(outcome == Outcome::Done);
        Ok(outcome)
    }

    /// Removes a message, whatever state it is in.
    ///
    /// # Errors
    /// [`ChangeError`]; the queue is as it was.
    pub fn delete(&mut self, seq: Seq, now: Millis) -> Result<Outcome, ChangeError> {
        self.advance(now);
        let outcome = self.change(Command::Delete(seq), "")?;
        self.totals.deleted += u64::from(outcome == Outcome::Done);
        Ok(outcome)
    }

    /// Removes a buried message, and no other.
    ///
    /// # Errors
    /// [`ChangeError`]; the queue is as it was.
    pub fn delete_buried(&mut self, seq: Seq, now: Millis) -> Result<Outcome, ChangeError> {
        match self.state.entry(seq) {
            None => Ok(Outcome::Missing),
            Some(entry) if entry.status != Status::Buried => Ok(Outcome::NotApplicable),
            Some(_) => self.delete(seq, now),
        }
    }

    /// Up to `max` buried messages from `from` on.
    pub fn buried_seqs(&self, from: Seq, max: usize) -> impl Iterator<Item = Seq> {
        self.state.buried(from).take(max).map(|(seq, _)| seq)
    }

    /// Messages that can be taken, as of the latest instant the queue was told.
    #[must_use]
    pub fn ready(&self) -> u64 {
        self.state.count(Status::Ready)
    }

    /// Messages that are ready, delayed or leased.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.state.held() - self.state.count(Status::Buried)
    }

    /// Whether there is such a message, whatever its state.
    #[must_use]
    pub fn holds(&self, seq: Seq) -> bool {
        self.state.entry(seq).is_some()
    }

    /// The queue in numbers, as of the latest instant it was told.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            ready: self.state.count(Status::Ready),
            delayed: self.state.count(Status::Delayed),
            leased: self.state.count(Status::Leased),
            buried: self.state.count(Status::Buried),
            payload_bytes: self.state.payload_bytes(),
            disk_bytes: self.log.disk_bytes(),
            segments: self.log.segments.len() as u64,
            oldest_age_ms: self.state.oldest_put_at().map(|at| self.now.since(at)),
            next_seq: self.state.next_seq().get(),
            totals: self.totals,
        }
    }

    /// Shows up to `max` buried messages from `from` on, and returns how many.
    ///
    /// # Errors
    /// [`ReadError::Disk`].
    pub fn buried(
        &mut self,
        from: Seq,
        max: usize,
        mut each: impl FnMut(Buried<'_>),
    ) -> Result<usize, ReadError> {
        let found: Vec<_> = self.state.buried(from).take(max).collect();
        // Reasons first, then payloads: each kind stands close together in the log, and going to and
        // fro would read the same stretches again and again.
        let mut shown = Vec::new();
        for (seq, place) in found {
            let read = self.read(place)?;
            let bytes = read.and_then(|(kind, body)| event::reason(kind, body)).unwrap_or_default();
            shown.push((seq, String::from_utf8_lossy(bytes).into_owned()));
        }
        for (seq, reason) in &shown {
            let (seq, attempts) = (*seq, self.state.entry(*seq).map_or(0, |entry| entry.attempts));
            let is_read = self.read_payload(seq, |payload| {
                each(Buried { seq, attempts, reason, payload });
            })?;
            if !is_read {
                each(Buried { seq, attempts, reason, payload: b"" });
            }
        }
        Ok(shown.len())
    }

    /// Writes everything since the last commit, and syncs it as the policy says. What the methods
    /// before it returned is true for good once it has returned.
    ///
    /// # Errors
    /// [`LogFailed`], from then on always.
    pub fn commit(&mut self) -> Result<Committed, LogFailed> {
        self.commit_with(false)
    }

    /// Like [`Queue::commit`], and syncs whatever the policy says.
    ///
    /// # Errors
    /// [`LogFailed`], from then on always.
    pub fn sync(&mut self) -> Result<Committed, LogFailed> {
        self.commit_with(true)
    }

    fn commit_with(&mut self, sync: bool) -> Result<Committed, LogFailed> {
        self.move_stragglers()?;
        let committed = self.log.commit(sync, self.now)?;
        self.totals.commits += u64::from(committed.bytes > 0);
        self.totals.bytes += committed.bytes;
        Ok(committed)
    }

    /// Whether work that adds at most so many bytes to the log, and its commit, will be one write,
    /// and a sync only if each commit syncs: no new segment is needed, no interval is over, and no
    /// messages are to be moved.
    #[must_use]
    pub(crate) fn is_short_work(&self, log_bytes: usize, now: Millis) -> bool {
        self.log.room_at_hand() > log_bytes
            && self.log.sync_due().is_none_or(|due| due > now)
            && !self.has_moving_to_do()
    }

    /// When [`Queue::tick`] has something to do, if ever, as things stand.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        self.state.next_deadline().into_iter().chain(self.log.sync_due()).min()
    }

    /// Returns messages whose lease or delay is over, and syncs what an interval says is due.
    ///
    /// # Errors
    /// [`LogFailed`], from then on always.
    pub fn tick(&mut self, now: Millis) -> Result<(), LogFailed> {
        self.advance(now);
        if self.log.sync_due().is_some_and(|due| due <= self.now) {
            self.commit_with(true)?;
        }
        Ok(())
    }

    /// Commits and syncs everything, and writes down that nothing is missing.
    ///
    /// # Errors
    /// [`LogFailed`]; what was committed before is safe.
    pub fn close(mut self) -> Result<(), LogFailed> {
        match self.log.make_room(0, Need::Keep, self.now) {
            Ok(()) => {
                self.log.append(Kind::CleanEnd, 0, |_| {});
            }
            Err(AppendError::NoSpace) => {}
            Err(AppendError::Failed(failed)) => return Err(failed),
        }
        self.log.commit(true, self.now).map(|_| ())
    }

    /// Time goes on, never back.
    #[inline]
    fn advance(&mut self, now: Millis) {
        self.now = self.now.max(now);
        if self.state.next_deadline().is_some_and(|due| due <= self.now) {
            self.state.wake(self.now);
        }
    }

    /// Decides a command and carries it out.
    fn change(&mut self, command: Command, reason: &str) -> Result<Outcome, ChangeError> {
        self.log.check()?;
        let event = match self.state.decide(command) {
            Ok(event) => event,
            Err(Refusal::Missing) => return Ok(Outcome::Missing),
            Err(Refusal::Status) => return Ok(Outcome::NotApplicable),
        };
        match event {
            Event::Removed { first, .. } => self.remove(first)?,
            Event::Released { seq, due } => self.write_down(Kind::Release, seq, &event, |out| {
                out.extend_from_slice(&due.map_or([0; 8], |due| due.get().to_le_bytes()));
                if due.is_none() {
                    out.truncate(out.len() - DUE_BYTES);
                }
            })?,
            Event::Buried { seq } => {
                let reason = cut(reason).as_bytes();
                self.write_down(Kind::Bury, seq, &event, |out| out.extend_from_slice(reason))?;
            }
            Event::Kicked { seq } => self.write_down(Kind::Kick, seq, &event, |_| {})?,
            Event::Put { .. } | Event::Reserved { .. } | Event::Moved { .. } | Event::Clock(_) => {}
        }
        Ok(Outcome::Done)
    }

    fn write_down(
        &mut self,
        kind: Kind,
        seq: Seq,
        event: &Event,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), ChangeError> {
        self.log.make_room(REASON_BYTES_MAX, Need::Consume, self.now)?;
        let place = self.log.append(kind, seq.get(), write);
        self.state.apply(event, place);
        Ok(())
    }

    /// Takes a message out of log and state, and lets segments go that held nothing else.
    #[inline]
    fn remove(&mut self, seq: Seq) -> Result<(), ChangeError> {
        self.log.make_room(0, Need::Consume, self.now)?;
        let place = self.log.append_to_run(Kind::Remove, seq.get());
        self.state.apply(&Event::Removed { first: seq, count: 1 }, place);
        self.retire_segments();
        Ok(())
    }

    #[inline]
    pub(crate) fn retire_segments(&mut self) {
        while let Some(oldest) = self.log.oldest_of_several() {
            if self.state.usage().of(oldest).messages > 0 || !self.log.retire_oldest(self.now) {
                break;
            }
            self.state.forget_before(oldest + 1);
        }
    }

    /// Shows a message's payload; `false` when it is damaged.
    #[inline]
    pub(crate) fn read_payload(
        &mut self,
        seq: Seq,
        show: impl FnOnce(&[u8]),
    ) -> Result<bool, ReadError> {
        self.log.check()?;
        let Some(entry) = self.state.entry(seq).copied() else {
            return Ok(false);
        };
        let read = self.read(entry.place())?;
        let payload = read.and_then(|(kind, body)| event::payload(kind, body));
        let sound = payload.filter(|payload| payload.len() == entry.payload_bytes as usize);
        let Some(payload) = sound else {
            return Ok(false);
        };
        show(payload);
        Ok(true)
    }

    #[inline]
    fn read(&mut self, place: Place) -> Result<Option<(Kind, &[u8])>, ReadError> {
        Ok(self.log.read(place)?)
    }

    /// Sets a message aside that cannot be read any more, so that those behind it can be.
    fn bury_damaged(&mut self, seq: Seq) -> Result<(), ReadError> {
        let write = |out: &mut Vec<u8>| out.extend_from_slice(DAMAGED.as_bytes());
        self.write_down(Kind::Bury, seq, &Event::Buried { seq }, write)?;
        self.totals.damaged += 1;
        Ok(())
    }
}

/// As much of the reason as is kept, whole characters.
fn cut(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)]
}
