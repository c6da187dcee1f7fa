//! [`Group`]: a subscriber that has several subscriptions, or more to remember than fits into one.

use std::sync::Arc;

use crate::channel_name::ChannelName;
use crate::cursor::Cursor;
use crate::letter::{Access, Answer, Start};
use crate::millis::{Millis, Tick};
use crate::outgoing::{CursorText, Outgoing, SubscriberId, What};
use crate::position::{Position, Seq};
use crate::render;
use crate::room::seat::{Heartbeats, Stage};
use crate::room::{Heard, Letters, Room, SubscribeError, Tell, ticks_of};
use crate::slots::NONE;
use crate::slow::Sent;
use crate::transport::Transport;
use crate::wheel::Links;

#[derive(Debug)]
pub(crate) struct Group<H> {
    pub(crate) handle: H,
    pub(crate) transport: Transport,
    pub(crate) links: Links,
    /// The tick at which it was told something.
    pub(crate) heard: Tick,
    /// When its token's time is over.
    pub(crate) ends_at: Tick,
    /// Its subscriptions, by slot.
    pub(crate) seats: Vec<u32>,
    /// How many of them wait for their first answer.
    pub(crate) asked: usize,
    /// A poll is answered when all have been, with what has gathered here by then.
    pub(crate) gathered: String,
    /// A poll is answered then even if there is nothing.
    pub(crate) answers_at_once: bool,
    pub(crate) subject: Option<Arc<str>>,
}

impl<H: Copy> Room<H> {
    /// Makes a socket that has one channel one that may have more. Its name from then on; `None` if
    /// there is no such subscriber.
    pub fn expand(&mut self, now: Millis, id: SubscriberId) -> Option<SubscriberId> {
        if id.group().is_some() {
            return self.handle(id).map(|_| id);
        }
        let seat = self.seats.get(id.0)?;
        if seat.stage == Stage::Doomed || seat.transport != Transport::Socket {
            return None;
        }
        let group = Group {
            handle: seat.handle,
            transport: seat.transport,
            links: Links::new(),
            heard: now.tick_after(),
            ends_at: Tick::MAX,
            seats: vec![id.0],
            asked: usize::from(seat.stage == Stage::Asked),
            gathered: String::new(),
            answers_at_once: false,
            subject: None,
        };
        let slot = self.groups.insert(Box::new(group));
        let Room { seats, groups, heartbeats, .. } = self;
        heartbeats.clear(&mut Heartbeats { seats, groups }, id.0);
        self.seats.at_mut(id.0).word = slot;
        self.await_group(slot);
        Some(SubscriberId::of_group(slot))
    }

    /// One more channel for a socket. One that it has already makes no difference. If the time of the
    /// token that is the right to it is over at `ends_at`, so is the subscriber's, unless that is over
    /// before.
    ///
    /// # Errors
    /// [`SubscribeError`]
    pub fn add(
        &mut self,
        id: SubscriberId,
        channel: ChannelName<'_>,
        start: Start,
        access: &Access,
        ends_at: Option<Millis>,
        letters: &mut Letters,
    ) -> Result<(), SubscribeError> {
        let slot = id.group().ok_or(SubscribeError::UnknownSubscriber)?;
        let group = self.groups.get(slot).ok_or(SubscribeError::UnknownSubscriber)?;
        let channels_max = self.policies.settings().subscription_channels_max;
        if group.seats.len() >= channels_max {
            return Err(SubscribeError::TooManyChannels { channels_max });
        }
        if self.join_group(slot, channel, start, access, letters)
            && let Some(ends_at) = ends_at
        {
            let group = self.groups.at_mut(slot);
            group.ends_at = group.ends_at.min(ends_at.tick_after());
            self.await_group(slot);
        }
        Ok(())
    }

    /// One channel less for a socket. Whether it had it.
    pub fn remove(
        &mut self,
        id: SubscriberId,
        channel: ChannelName<'_>,
        letters: &mut Letters,
    ) -> bool {
        let Some(slot) = id.group().filter(|slot| self.groups.get(*slot).is_some()) else {
            return false;
        };
        let Some(seat) = self.seat_of(slot, channel) else {
            return false;
        };
        let subject = self.groups.at(slot).subject.clone();
        self.leave_group(slot, seat);
        self.stand_up(seat, subject, letters);
        true
    }

    /// Tells a group what came of the asking for one of its channels.
    pub(super) fn answer_group(
        &mut self,
        now: Millis,
        group: u32,
        heard: &Heard,
        letters: &mut Letters,
        tell: &mut Tell<'_, H>,
    ) {
        let Heard { at, stage, position: here, stays, skipped, ref answer } = *heard;
        let channel = self.seats.at(at).channel;
        let name = self.channels.name(channel).to_owned();
        let is_poll = self.groups.at(group).transport.is_poll();
        let mut sent = Sent::Yes;
        // Who may not stay is nowhere.
        let place = |next| stays.then_some((at, Position { next, ..here }));
        let greets = !is_poll && stage == Stage::Asked;
        let mut say = |room: &mut Self, what: What<'_>, next: Seq| {
            if sent == Sent::Yes {
                sent = room.tell_group(group, &name, what, place(next), false, tell);
                match (sent, what) {
                    (Sent::Later, What::Missed { first, .. }) => {
                        room.lag(at, Position { next: first, ..here });
                    }
                    (Sent::Later, _) => sent = Sent::Yes,
                    _ => {}
                }
            }
        };
        match answer {
            Answer::Missed { first, messages } => {
                if greets {
                    say(self, What::Here(*first), *first);
                }
                if skipped > 0 {
                    say(self, What::Skipped(skipped), *first);
                }
                let mut seq = *first;
                for messages in messages.chunks(1) {
                    // Each has a cursor of its own.
                    say(self, What::Missed { first: seq, messages }, seq.next());
                    seq = seq.next();
                }
            }
            Answer::Here if is_poll => self.groups.at_mut(group).answers_at_once = true,
            Answer::Here => say(self, What::Here(here.next), here.next),
            Answer::Wait if greets => say(self, What::Here(here.next), here.next),
            Answer::Wait if skipped > 0 => say(self, What::Skipped(skipped), here.next),
            Answer::Wait => {}
            Answer::Reset(reason) => say(self, What::Reset(*reason, here.next), here.next),
            Answer::Refused(refusal) => say(self, What::Refused(*refusal), here.next),
        }
        // The answer is in: who may not stay has nothing to give up.
        if !stays {
            self.leave_group(group, at);
            self.vacate(at);
            self.close_if_empty(channel);
        } else if stage == Stage::Asked {
            self.groups.at_mut(group).asked -= 1;
        }
        self.groups.at_mut(group).heard = now.tick_after();
        if sent == Sent::Gone {
            return self.end_group(group, letters);
        }
        self.finish_group(group, letters, tell);
    }

    pub(super) fn wake_group(
        &mut self,
        now: Millis,
        slot: u32,
        letters: &mut Letters,
        tell: &mut Tell<'_, H>,
    ) {
        let silence = self.group_silence();
        let group = self.groups.at_mut(slot);
        let is_poll = group.transport.is_poll();
        let (what, ends) = if group.ends_at <= now.tick() {
            (What::TokenExpired, true)
        } else if group.heard + silence > now.tick() {
            return self.await_group(slot);
        } else {
            group.heard = now.tick();
            (What::Noop(0), false)
        };
        if is_poll {
            self.groups.at_mut(slot).answers_at_once = true;
            if ends || self.groups.at(slot).asked == 0 {
                self.finish_poll(slot, tell);
                return self.end_group(slot, letters);
            }
        } else if self.tell_group(slot, "", what, None, ends, tell) == Sent::Gone || ends {
            return self.end_group(slot, letters);
        }
        self.await_group(slot);
    }

    /// Tells a group something of a channel, or gathers it for the answer of a poll. `place` is where
    /// one of its subscriptions is when it has been told.
    pub(super) fn tell_group(
        &mut self,
        slot: u32,
        channel: &str,
        what: What<'_>,
        place: Option<(u32, Position)>,
        ends: bool,
        tell: &mut Tell<'_, H>,
    ) -> Sent {
        let group = self.groups.at_mut(slot);
        if group.transport.is_poll() && !ends {
            let gathered = &mut group.gathered;
            if !gathered.is_empty() {
                gathered.push(',');
            }
            render::write_object(channel, what, None, gathered);
            return Sent::Yes;
        }
        let (handle, transport) = (group.handle, group.transport);
        let mut cursor = std::mem::take(&mut self.cursor);
        self.write_cursor(slot, place, &mut cursor);
        let sent = tell(Outgoing {
            id: SubscriberId::of_group(slot),
            handle,
            transport,
            channel,
            cursor: CursorText::Several(&cursor),
            what,
            ends,
        });
        self.cursor = cursor;
        sent
    }

    /// Where a group is: its live subscriptions where their channels are, others where they wait.
    pub(super) fn write_cursor(
        &self,
        slot: u32,
        place: Option<(u32, Position)>,
        cursor: &mut String,
    ) {
        cursor.clear();
        let seats = self.groups.at(slot).seats.iter();
        let positions = seats.filter_map(|at| {
            let position = match place {
                Some((told, position)) if told == *at => position,
                _ => self.position_of(*at)?,
            };
            Some((self.channels.name(self.seats.at(*at).channel), position))
        });
        Cursor::write_several(positions, cursor);
    }

    /// Whether a group has nothing to wait for any more.
    pub(super) fn is_finished(&self, slot: u32) -> bool {
        let group = self.groups.at(slot);
        match group.transport {
            Transport::Socket => false,
            Transport::Poll => {
                let answers = group.answers_at_once || !group.gathered.is_empty();
                group.asked == 0 && (answers || group.seats.is_empty())
            }
            _ => group.seats.is_empty(),
        }
    }

    /// Ends a group that has nothing to wait for any more.
    pub(super) fn finish_group(
        &mut self,
        slot: u32,
        letters: &mut Letters,
        tell: &mut Tell<'_, H>,
    ) {
        if !self.is_finished(slot) {
            return;
        }
        if self.groups.at(slot).transport.is_poll() {
            self.finish_poll(slot, tell);
        } else {
            self.tell_group(slot, "", What::Answer(""), None, true, tell);
        }
        self.end_group(slot, letters);
    }

    pub(super) fn finish_poll(&mut self, slot: u32, tell: &mut Tell<'_, H>) {
        let gathered = std::mem::take(&mut self.groups.at_mut(slot).gathered);
        self.tell_group(slot, "", What::Answer(&gathered), None, true, tell);
    }

    /// Takes a place for a group; false if it has one on that channel.
    pub(super) fn join_group(
        &mut self,
        slot: u32,
        channel: ChannelName<'_>,
        start: Start,
        access: &Access,
        letters: &mut Letters,
    ) -> bool {
        if self.seat_of(slot, channel).is_some() {
            return false;
        }
        let group = self.groups.at_mut(slot);
        group.asked += 1;
        let (handle, transport, subject) = (group.handle, group.transport, group.subject.clone());
        let seat = self.sit_down(channel, handle, transport, slot);
        self.groups.at_mut(slot).seats.push(seat);
        if let Start::At(position) = start {
            self.positions.insert(seat, position);
        }
        self.ask(seat, Stage::Asked, start, access.clone(), subject, letters);
        true
    }

    /// A subscription is none of its group any more.
    pub(super) fn leave_group(&mut self, slot: u32, at: u32) {
        let is_asked = self.seats.at(at).stage == Stage::Asked;
        self.seats.at_mut(at).word = NONE;
        let group = self.groups.at_mut(slot);
        group.seats.retain(|held| *held != at);
        group.asked -= usize::from(is_asked);
    }

    pub(super) fn end_group(&mut self, slot: u32, letters: &mut Letters) {
        if self.groups.get(slot).is_none() {
            return;
        }
        let id = SubscriberId::of_group(slot);
        let Room { seats, groups, heartbeats, .. } = self;
        heartbeats.clear(&mut Heartbeats { seats, groups }, id.0);
        let Some(group) = self.groups.remove(slot) else {
            return;
        };
        for seat in group.seats {
            self.seats.at_mut(seat).word = NONE;
            self.stand_up(seat, group.subject.clone(), letters);
        }
    }

    pub(super) fn seat_of(&self, slot: u32, channel: ChannelName<'_>) -> Option<u32> {
        let channel = self.channels.find(channel.as_str())?;
        let mut seats = self.groups.at(slot).seats.iter().copied();
        seats.find(|at| self.seats.at(*at).channel == channel)
    }

    pub(super) fn group_silence(&self) -> Tick {
        ticks_of(self.policies.settings().channel.poll_timeout_s)
    }

    pub(super) fn await_group(&mut self, slot: u32) {
        let silence = self.group_silence();
        let group = self.groups.at(slot);
        let deadline = (group.heard + silence).min(group.ends_at);
        let id = SubscriberId::of_group(slot);
        let Room { seats, groups, heartbeats, .. } = self;
        heartbeats.set(&mut Heartbeats { seats, groups }, id.0, deadline);
    }
}
