//! [`Room`]: those of a shard's connections that listen.

mod group;
mod seat;

use std::collections::HashMap;
use std::sync::Arc;

use thiserror::Error;

use crate::channel_name::ChannelName;
use crate::directory::Directory;
use crate::letter::{
    Access, Answer, HubLetter, Join, Joined, Leave, Refusal, RoomChannel, RoomLetter, Start, ToHub,
    ToRoom,
};
use crate::message::Message;
use crate::millis::{Millis, TICK_MS, Tick};
use crate::outgoing::{CursorText, Outgoing, SubscriberId, What};
use crate::position::{Position, Seq};
use crate::room::group::Group;
use crate::room::seat::{Audience, Heartbeats, Seat, Stage};
use crate::settings::Policies;
use crate::shards::{ShardId, Shards};
use crate::slots::{KEPT_MAX, NONE, Slab};
use crate::slow::Sent;
use crate::transport::Transport;
use crate::wheel::{Links, Wheel};

/// Who listens on a shard, and to what. `H` is what the owner knows a subscriber by.
///
/// The rule is *subscribe, then replay, then forward*: a subscriber is on its channel from the
/// moment its hub puts it there, the hub's answer has all that came before, and since letters from
/// one hub keep their order, what is delivered after the answer is what came after.
pub struct Room<H> {
    shards: Shards,
    policies: Arc<Policies>,
    channels: Directory<Audience>,
    seats: Slab<Seat<H>>,
    groups: Slab<Box<Group<H>>>,
    heartbeats: Wheel,
    /// Where those subscriptions are that are not live: they lag, or belong to a group and wait.
    positions: HashMap<u32, Position>,
    /// Kept to be used again.
    due: Vec<u32>,
    cursor: String,
}

/// Letters to the hubs, to be carried in this order.
pub type Letters = Vec<(ShardId, ToHub)>;

/// Who tells subscribers: it is given what to tell, and says what became of it. What an
/// [ending](Outgoing::ends) one becomes makes no difference.
pub type Tell<'t, H> = dyn FnMut(Outgoing<'_, H>) -> Sent + 't;

/// Somebody who wants to listen.
#[derive(Debug, Clone)]
pub struct Subscription<'a, H> {
    /// What its owner knows it by.
    pub handle: H,
    /// How it is to be told.
    pub transport: Transport,
    /// The channels, each with where to begin; one named twice counts once. icomet's transports
    /// have one, a socket may have none.
    pub channels: &'a [(ChannelName<'a>, Start)],
    /// By what right.
    pub access: Access,
    /// Where icomet's noop counter begins.
    pub noop: i32,
    /// Who it is, for presence.
    pub subject: Option<Arc<str>>,
    /// When its token's time is over.
    pub ends_at: Option<Millis>,
}

/// A hub's answer, and what it is the answer to.
struct Heard {
    /// The subscription.
    at: u32,
    /// What it was before.
    stage: Stage,
    /// Where it is when it has been told, if it stays.
    position: Position,
    stays: bool,
    /// How many messages it will never get.
    skipped: u64,
    answer: Answer,
}

/// Why nobody is subscribed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SubscribeError {
    /// A subscription is to something.
    #[error("a subscription needs a channel")]
    NoChannel,
    /// [`Settings::subscription_channels_max`](crate::Settings::subscription_channels_max) is
    /// reached, or for icomet's transports one.
    #[error("a subscription may have {channels_max} channels")]
    TooManyChannels {
        /// How many there may be.
        channels_max: usize,
    },
    /// There is no subscriber of that id that could have more channels.
    #[error("there is no such subscriber")]
    UnknownSubscriber,
}

impl<H: Copy> Room<H> {
    /// A room without subscribers.
    #[must_use]
    pub fn new(now: Millis, shards: Shards, policies: Arc<Policies>) -> Self {
        Room {
            shards,
            policies,
            channels: Directory::new(shards),
            seats: Slab::new(),
            groups: Slab::new(),
            heartbeats: Wheel::new(now.tick()),
            positions: HashMap::new(),
            due: Vec::new(),
            cursor: String::new(),
        }
    }

    /// How many subscriptions to a channel there are, those included that wait for an answer.
    #[must_use]
    pub fn subscriptions(&self) -> usize {
        self.seats.len()
    }

    /// How many channels somebody listens to.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.channels.records.len()
    }

    /// Gives back what is kept to be used again, and is not in use.
    pub fn trim(&mut self) {
        self.channels.trim();
        self.seats.trim();
        self.groups.trim();
        self.positions.shrink_to_fit();
        (self.due, self.cursor) = (Vec::new(), String::new());
    }

    /// Uses other settings from now on.
    pub fn reload(&mut self, policies: Arc<Policies>) {
        self.policies = policies;
    }

    /// Takes a subscriber in and asks the hubs of its channels. The answers come as letters, also
    /// the refusals.
    ///
    /// # Errors
    /// [`SubscribeError`]
    pub fn subscribe(
        &mut self,
        now: Millis,
        subscription: Subscription<'_, H>,
        letters: &mut Letters,
    ) -> Result<SubscriberId, SubscribeError> {
        let Subscription { handle, transport, channels, access, noop, subject, ends_at } =
            subscription;
        let channels_max = if transport.is_icomet() {
            1
        } else {
            self.policies.settings().subscription_channels_max
        };
        if channels.len() > channels_max {
            return Err(SubscribeError::TooManyChannels { channels_max });
        }
        if channels.is_empty() && transport != Transport::Socket {
            return Err(SubscribeError::NoChannel);
        }
        let is_plain = subject.is_none() && ends_at.is_none();
        if let ([(channel, start)], true) = (channels, is_plain || transport.is_icomet()) {
            let word = if transport.is_icomet() { noop.cast_unsigned() } else { NONE };
            let seat = self.sit_down(*channel, handle, transport, word);
            self.ask(seat, Stage::Asked, *start, access, None, letters);
            return Ok(SubscriberId(seat));
        }
        let heard = now.tick_after();
        let group = self.groups.insert(Box::new(Group {
            handle,
            transport,
            links: Links::new(),
            heard,
            ends_at: ends_at.map_or(Tick::MAX, Millis::tick_after),
            seats: Vec::new(),
            asked: 0,
            gathered: String::new(),
            answers_at_once: false,
            subject,
        }));
        for (channel, start) in channels {
            self.join_group(group, *channel, *start, &access, letters);
        }
        self.await_group(group);
        Ok(SubscriberId::of_group(group))
    }

    /// What the owner knows a subscriber by.
    #[must_use]
    pub fn handle(&self, id: SubscriberId) -> Option<H> {
        match id.group() {
            Some(slot) => self.groups.get(slot).map(|group| group.handle),
            None => self.seats.get(id.0).map(|seat| seat.handle),
        }
    }

    /// A subscriber is gone. One that is not there makes no difference.
    pub fn unsubscribe(&mut self, id: SubscriberId, letters: &mut Letters) {
        match id.group() {
            Some(slot) => self.end_group(slot, letters),
            None if self.seats.get(id.0).is_some_and(|seat| seat.stage != Stage::Doomed) => {
                self.stand_up(id.0, None, letters);
            }
            None => {}
        }
    }

    /// A subscriber that was sent something [later](Sent::Later) reads again: it is to get what it
    /// missed.
    pub fn catch_up(&mut self, id: SubscriberId, letters: &mut Letters) {
        let group = id.group().and_then(|slot| self.groups.get(slot));
        let subject = group.and_then(|group| group.subject.clone());
        let seats = group.map_or(vec![id.0], |group| group.seats.clone());
        for seat in seats {
            if self.seats.get(seat).is_some_and(|seat| seat.stage == Stage::Lagging) {
                let at = self.positions.get(&seat).copied().expect("who lags has a position");
                let subject = subject.clone();
                self.ask(seat, Stage::CatchingUp, Start::At(at), Access::Granted, subject, letters);
            }
        }
    }

    /// Takes what a hub wrote.
    pub fn receive(
        &mut self,
        now: Millis,
        letter: ToRoom,
        letters: &mut Letters,
        tell: &mut Tell<'_, H>,
    ) {
        match letter.0 {
            RoomLetter::Deliver { to, seq, message } => {
                self.deliver(now, to, seq, &message, letters, tell);
            }
            RoomLetter::Joined(joined) => self.joined(now, *joined, letters, tell),
            RoomLetter::Member { to, subject, joined } => {
                self.member(now, to, &subject, joined, letters, tell);
            }
            RoomLetter::Closed { to } => self.closed(to, letters, tell),
        }
    }

    /// When [`Room::wake`] may have something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        self.heartbeats.next()
    }

    /// Gives signs of life to those who heard nothing for long.
    pub fn wake(&mut self, now: Millis, letters: &mut Letters, tell: &mut Tell<'_, H>) {
        let mut due = std::mem::take(&mut self.due);
        let Room { seats, groups, heartbeats, .. } = self;
        heartbeats.expire(&mut Heartbeats { seats, groups }, now.tick(), &mut due);
        for id in due.drain(..) {
            // Telling one may have ended another.
            match SubscriberId(id).group() {
                Some(slot) if self.groups.get(slot).is_some() => {
                    self.wake_group(now, slot, letters, tell);
                }
                None if self.seats.get(id).is_some() => self.wake_seat(now, id, letters, tell),
                _ => {}
            }
        }
        due.shrink_to(KEPT_MAX);
        self.due = due;
    }

    /// Tells a subscriber that the server ends and when to come again; it is then gone.
    pub fn dismiss(
        &mut self,
        id: SubscriberId,
        retry_ms: u64,
        letters: &mut Letters,
        tell: &mut Tell<'_, H>,
    ) {
        match id.group() {
            Some(slot) if self.groups.get(slot).is_some() => {
                let what = What::Goodbye { retry_ms, noop: 0 };
                self.tell_group(slot, "", what, None, true, tell);
            }
            None if self.seats.get(id.0).is_some_and(|seat| seat.stage != Stage::Doomed) => {
                let noop = self.seats.at(id.0).word.cast_signed();
                let what = What::Goodbye { retry_ms, noop };
                self.tell_seat(id.0, what, self.position_of(id.0), true, tell);
            }
            _ => {}
        }
        self.unsubscribe(id, letters);
    }

    /// Appends the subscribers at `places_max` places from `place` on. Where to go on, unless these
    /// were all.
    pub fn subscribers(
        &self,
        place: u32,
        places_max: u32,
        found: &mut Vec<SubscriberId>,
    ) -> Option<u32> {
        let end = self.seats.end().max(self.groups.end());
        let until = place.saturating_add(places_max).min(end);
        for slot in place..until {
            let is_one = |seat: &Seat<H>| seat.group().is_none() && seat.stage != Stage::Doomed;
            if self.seats.get(slot).is_some_and(is_one) {
                found.push(SubscriberId(slot));
            }
            if self.groups.get(slot).is_some() {
                found.push(SubscriberId::of_group(slot));
            }
        }
        (until < end).then_some(until)
    }

    /// Whether nothing is left of anybody.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        let is_forgotten = self.positions.is_empty() && self.next_deadline().is_none();
        self.subscriptions() + self.channels() + self.groups.len() == 0 && is_forgotten
    }

    fn deliver(
        &mut self,
        now: Millis,
        to: RoomChannel,
        seq: Seq,
        message: &Message,
        letters: &mut Letters,
        tell: &mut Tell<'_, H>,
    ) {
        let Some(audience) = self.audience(to) else {
            return;
        };
        debug_assert_eq!(audience.position().next, seq, "letters of a hub keep their order");
        let position = Position { epoch: to.epoch, next: seq.next() };
        audience.set_position(position);
        let (mut at, hub) = (audience.head, audience.hub);
        let what = What::Message { seq, message };
        let (mut left, mut ended) = (0, Vec::new());
        while at != NONE {
            let seat = self.seats.at_mut(at);
            let next = seat.next;
            if seat.stage == Stage::Live {
                if let Some(group) = seat.group() {
                    if self.tell_live(now, group, at, what, tell) {
                        ended.push(group);
                    }
                } else {
                    seat.heard = now.tick_after() as u16;
                    let ends = seat.transport.is_poll();
                    match self.tell_seat(at, what, Some(position), ends, tell) {
                        Sent::Yes if !ends => {}
                        Sent::Later if !ends => self.lag(at, Position { next: seq, ..position }),
                        _ => {
                            left += 1;
                            self.vacate(at);
                        }
                    }
                }
            }
            at = next;
        }
        if left > 0 {
            let leave = Leave { hub, epoch: to.epoch, count: left, subject: None };
            let owner = self.owner(to.slot);
            letters.push((owner, ToHub(HubLetter::Leave(leave))));
        }
        for group in ended {
            self.end_group(group, letters);
        }
        self.close_if_empty(to.slot);
    }

    fn joined(
        &mut self,
        now: Millis,
        joined: Joined,
        letters: &mut Letters,
        tell: &mut Tell<'_, H>,
    ) {
        let Joined { ticket: at, hub, position, stays, subject, answer } = joined;
        let seat = self.seats.at_mut(at);
        let (channel, stage, group) = (seat.channel, seat.stage, seat.group());
        if stays {
            let audience = self.channels.records.at_mut(channel);
            // Those who listen already are there, too; when the last one left, it stood still.
            let is_there = audience.position() == position;
            audience.set_position(position);
            audience.hub = hub;
            debug_assert!(is_there || !self.is_heard(channel), "letters keep their order");
        }
        if stage == Stage::Doomed {
            if stays {
                let leave = Leave { hub, epoch: position.epoch, count: 1, subject };
                letters.push((self.owner(channel), ToHub(HubLetter::Leave(leave))));
            }
            self.vacate(at);
            self.close_if_empty(channel);
            return;
        }
        if stays {
            self.seats.at_mut(at).stage = Stage::Live;
        }
        let before = self.positions.remove(&at);
        let skipped = match (&answer, before) {
            (Answer::Missed { first, .. }, Some(before)) if stage == Stage::CatchingUp => {
                first.get().saturating_sub(before.next.get())
            }
            (Answer::Wait, Some(before)) if stage == Stage::CatchingUp => {
                position.next.get().saturating_sub(before.next.get())
            }
            _ => 0,
        };
        let heard = Heard { at, stage, position, stays, skipped, answer };
        match group {
            Some(group) => self.answer_group(now, group, &heard, letters, tell),
            None => self.answer_seat(now, &heard, letters, tell),
        }
    }

    /// Tells a subscriber that has no group what came of its asking.
    fn answer_seat(
        &mut self,
        now: Millis,
        heard: &Heard,
        letters: &mut Letters,
        tell: &mut Tell<'_, H>,
    ) {
        let Heard { at, stage, position, stays, skipped, ref answer } = *heard;
        let seat = self.seats.at_mut(at);
        let (transport, channel) = (seat.transport, seat.channel);
        seat.heard = now.tick_after() as u16;
        let is_modern = !transport.is_icomet();
        let greets = is_modern && !transport.is_poll() && stage == Stage::Asked;
        // What it is told, and where it is then.
        let mut told = Vec::with_capacity(3);
        let mut start = position;
        match answer {
            Answer::Missed { first, messages } => {
                start.next = *first;
                if greets {
                    told.push((What::Here(*first), start));
                }
                if skipped > 0 && is_modern {
                    told.push((What::Skipped(skipped), start));
                }
                told.push((What::Missed { first: *first, messages }, position));
            }
            Answer::Here => told.push((What::Here(position.next), position)),
            Answer::Wait if greets => told.push((What::Here(position.next), position)),
            Answer::Wait if skipped > 0 && is_modern => {
                told.push((What::Skipped(skipped), position));
            }
            Answer::Wait => {}
            Answer::Reset(reason) => told.push((What::Reset(*reason, position.next), position)),
            Answer::Refused(refusal) => told.push((What::Refused(*refusal), position)),
        }
        let mut gone = !stays;
        for (what, position) in told {
            let sent = self.tell_seat(at, what, Some(position), !stays, tell);
            if sent == Sent::Gone {
                gone = true;
                break;
            }
            if let (Sent::Later, What::Missed { .. }, true) = (sent, what, stays) {
                self.lag(at, start);
            }
        }
        if !gone {
            let silence = self.silence_of(channel);
            self.await_seat(at, now.tick_after() + silence);
        } else if stays {
            self.stand_up(at, None, letters);
        } else {
            self.vacate(at);
            self.close_if_empty(channel);
        }
    }

    fn closed(&mut self, to: RoomChannel, letters: &mut Letters, tell: &mut Tell<'_, H>) {
        let Some(audience) = self.audience(to) else {
            return;
        };
        // Nobody has to leave: the hub has forgotten them all.
        audience.hub = NONE;
        let (mut at, next) = (audience.head, audience.position().next);
        let what = What::Closed(next);
        let (mut finished, mut gone) = (Vec::new(), Vec::new());
        while at != NONE {
            let seat = self.seats.at(at);
            let (following, group, stage) = (seat.next, seat.group(), seat.stage);
            if matches!(stage, Stage::Live | Stage::Lagging | Stage::CatchingUp) {
                if let Some(group) = group {
                    let name = self.channels.name(to.slot).to_owned();
                    self.leave_group(group, at);
                    match self.tell_group(group, &name, what, None, false, tell) {
                        Sent::Gone => gone.push(group),
                        _ => finished.push(group),
                    }
                } else {
                    let position = Position { epoch: to.epoch, next };
                    self.tell_seat(at, what, Some(position), true, tell);
                }
                if stage == Stage::CatchingUp { self.doom(at) } else { self.vacate(at) }
            }
            at = following;
        }
        for group in gone {
            self.end_group(group, letters);
        }
        for group in finished {
            self.finish_group(group, letters, tell);
        }
        self.close_if_empty(to.slot);
    }

    fn member(
        &mut self,
        now: Millis,
        to: RoomChannel,
        subject: &str,
        joined: bool,
        letters: &mut Letters,
        tell: &mut Tell<'_, H>,
    ) {
        let Some(audience) = self.audience(to) else {
            return;
        };
        let (mut at, position) = (audience.head, audience.position());
        let what = What::Member { subject, joined };
        let mut gone = Vec::new();
        while at != NONE {
            let seat = self.seats.at_mut(at);
            let following = seat.next;
            // A poll does not end for this, and those who lag do without.
            let hears = !seat.transport.is_icomet() && !seat.transport.is_poll();
            if seat.stage == Stage::Live && hears {
                let (id, sent) = match seat.group() {
                    Some(group) => {
                        self.groups.at_mut(group).heard = now.tick_after();
                        let name = self.channels.name(to.slot).to_owned();
                        let sent = self.tell_group(group, &name, what, None, false, tell);
                        (SubscriberId::of_group(group), sent)
                    }
                    None => {
                        seat.heard = now.tick_after() as u16;
                        let sent = self.tell_seat(at, what, Some(position), false, tell);
                        (SubscriberId(at), sent)
                    }
                };
                if sent == Sent::Gone {
                    gone.push(id);
                }
            }
            at = following;
        }
        for id in gone {
            self.unsubscribe(id, letters);
        }
    }

    fn wake_seat(&mut self, now: Millis, at: u32, letters: &mut Letters, tell: &mut Tell<'_, H>) {
        let seat = self.seats.at(at);
        let silence = self.silence_of(seat.channel);
        let silent = Tick::from((now.tick() as u16).wrapping_sub(seat.heard));
        // What was heard this very tick counts as heard in the next.
        let silent = if silent > Tick::from(u16::MAX) - 2 { 0 } else { silent };
        if silent < silence {
            return self.await_seat(at, now.tick() + silence - silent);
        }
        let ends = seat.transport.is_poll();
        let what = What::Noop(seat.word.cast_signed());
        let sent = self.tell_seat(at, what, self.position_of(at), ends, tell);
        if ends || sent == Sent::Gone {
            return self.stand_up(at, None, letters);
        }
        let seat = self.seats.at_mut(at);
        if seat.transport.is_icomet() {
            seat.word = seat.word.wrapping_add(1);
        }
        seat.heard = now.tick() as u16;
        self.await_seat(at, now.tick() + silence);
    }

    /// Tells a group what was delivered to one of its live subscriptions; true if that was all.
    fn tell_live(
        &mut self,
        now: Millis,
        group: u32,
        at: u32,
        what: What<'_>,
        tell: &mut Tell<'_, H>,
    ) -> bool {
        let audience = self.channels.records.at(self.seats.at(at).channel);
        let position = audience.position();
        // On loan, so that the room can be told beside it.
        let name = self.channels.name(self.seats.at(at).channel).to_owned();
        self.groups.at_mut(group).heard = now.tick_after();
        let sent = self.tell_group(group, &name, what, Some((at, position)), false, tell);
        if let (Sent::Later, What::Message { seq, .. }) = (sent, what) {
            self.lag(at, Position { next: seq, ..position });
        }
        let group_is_done = self.groups.at(group).transport.is_poll() && self.is_finished(group);
        if group_is_done {
            self.finish_poll(group, tell);
        }
        sent == Sent::Gone || group_is_done
    }

    fn tell_seat(
        &mut self,
        at: u32,
        what: What<'_>,
        position: Option<Position>,
        ends: bool,
        tell: &mut Tell<'_, H>,
    ) -> Sent {
        let seat = self.seats.at(at);
        tell(Outgoing {
            id: SubscriberId(at),
            handle: seat.handle,
            transport: seat.transport,
            channel: self.channels.name(seat.channel),
            cursor: position.map_or(CursorText::None, CursorText::At),
            what,
            ends,
        })
    }

    fn position_of(&self, at: u32) -> Option<Position> {
        let seat = self.seats.at(at);
        if seat.stage != Stage::Live {
            return self.positions.get(&at).copied();
        }
        Some(self.channels.records.at(seat.channel).position())
    }

    /// A place on a channel, which is made if there is none.
    fn sit_down(
        &mut self,
        channel: ChannelName<'_>,
        handle: H,
        transport: Transport,
        word: u32,
    ) -> u32 {
        let name = channel.as_str();
        let slot =
            self.channels.find(name).unwrap_or_else(|| self.channels.insert(name, Audience::new));
        let audience = self.channels.records.at_mut(slot);
        let next = audience.head;
        let at = self.seats.insert(Seat {
            handle,
            channel: slot,
            previous: NONE,
            next,
            links: Links::new(),
            word,
            heard: 0,
            transport,
            stage: Stage::Asked,
        });
        audience.head = at;
        if next != NONE {
            self.seats.at_mut(next).previous = at;
        }
        at
    }

    fn ask(
        &mut self,
        at: u32,
        stage: Stage,
        start: Start,
        access: Access,
        subject: Option<Arc<str>>,
        letters: &mut Letters,
    ) {
        let seat = self.seats.at_mut(at);
        seat.stage = stage;
        let channel = seat.channel;
        let join = Join {
            channel: self.channels.name(channel).into(),
            room: channel,
            ticket: at,
            // A poll on several channels has to hear from all of them first.
            once: seat.transport.is_poll() && seat.group().is_none(),
            start,
            access,
            subject,
            catches_up: stage == Stage::CatchingUp,
        };
        letters.push((self.owner(channel), ToHub(HubLetter::Join(Box::new(join)))));
    }

    /// A subscription gets nothing more until it catches up from here.
    fn lag(&mut self, at: u32, position: Position) {
        self.seats.at_mut(at).stage = Stage::Lagging;
        self.positions.insert(at, position);
    }

    /// Gives a subscription up, and tells its hub or will.
    fn stand_up(&mut self, at: u32, subject: Option<Arc<str>>, letters: &mut Letters) {
        let Seat { stage, channel, .. } = *self.seats.at(at);
        match stage {
            Stage::Asked | Stage::CatchingUp => self.doom(at),
            Stage::Live | Stage::Lagging => {
                let audience = self.channels.records.at(channel);
                let (hub, epoch) = (audience.hub, audience.position().epoch);
                let leave = Leave { hub, epoch, count: 1, subject };
                letters.push((self.owner(channel), ToHub(HubLetter::Leave(leave))));
                self.vacate(at);
                self.close_if_empty(channel);
            }
            Stage::Doomed => {}
        }
    }

    /// The subscriber of a place is gone, but the hub will answer.
    fn doom(&mut self, at: u32) {
        self.positions.remove(&at);
        let Room { seats, groups, heartbeats, .. } = self;
        heartbeats.clear(&mut Heartbeats { seats, groups }, at);
        let seat = self.seats.at_mut(at);
        seat.stage = Stage::Doomed;
        if !seat.transport.is_icomet() {
            seat.word = NONE;
        }
    }

    /// A place is free again.
    fn vacate(&mut self, at: u32) {
        self.positions.remove(&at);
        let Room { seats, groups, heartbeats, .. } = self;
        heartbeats.clear(&mut Heartbeats { seats, groups }, at);
        let Some(seat) = self.seats.remove(at) else {
            return;
        };
        if seat.next != NONE {
            self.seats.at_mut(seat.next).previous = seat.previous;
        }
        if seat.previous != NONE {
            self.seats.at_mut(seat.previous).next = seat.next;
        } else {
            self.channels.records.at_mut(seat.channel).head = seat.next;
        }
    }

    fn close_if_empty(&mut self, channel: u32) {
        if self.channels.records.get(channel).is_some_and(|audience| audience.head == NONE) {
            self.channels.remove(channel);
        }
    }

    /// Whether a subscription to a channel is live.
    fn is_heard(&self, channel: u32) -> bool {
        let mut at = self.channels.records.at(channel).head;
        while at != NONE {
            let seat = self.seats.at(at);
            if seat.stage == Stage::Live {
                return true;
            }
            at = seat.next;
        }
        false
    }

    /// The audience that a letter is for, if that is still there.
    fn audience(&mut self, to: RoomChannel) -> Option<&mut Audience> {
        let audience = self.channels.records.get_mut(to.slot)?;
        (audience.is_live() && audience.position().epoch == to.epoch).then_some(audience)
    }

    fn owner(&self, channel: u32) -> ShardId {
        let name = ChannelName::new(self.channels.name(channel));
        self.shards.owner(name.expect("it was a name when it came"))
    }

    /// After how many ticks a subscriber of a channel gets a sign of life.
    fn silence_of(&self, channel: u32) -> Tick {
        ticks_of(self.policies.of(self.channels.name(channel)).poll_timeout_s)
    }

    fn await_seat(&mut self, at: u32, deadline: Tick) {
        let Room { seats, groups, heartbeats, .. } = self;
        heartbeats.set(&mut Heartbeats { seats, groups }, at, deadline);
    }
}

fn ticks_of(seconds: u32) -> Tick {
    (u64::from(seconds) * 1000).div_ceil(TICK_MS) as Tick
}

impl Refusal {
    /// As icomet says it.
    pub(crate) const fn icomet(self) -> (&'static str, &'static str) {
        match self {
            Refusal::Token => ("401", "Token error"),
            Refusal::Channels => ("429", "Too many channels"),
            Refusal::Subscribers => ("429", "Too many subscribers"),
            Refusal::Closed => ("close", ""),
        }
    }
}
