//! [`Hub`]: the channels that a shard owns.

mod channel;
mod members;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use thiserror::Error;

use crate::channel_name::ChannelName;
use crate::hub::channel::{Channels, Chores, Expiries, PublishKey};
use crate::letter::{
    Access, Answer, Effects, Event, EventKind, HubLetter, Join, Joined, Leave, Refusal,
    ResetReason, RoomChannel, RoomLetter, Start, ToHub, ToRoom,
};
use crate::message::{Data, Kind, Message};
use crate::millis::{Millis, Tick};
use crate::position::{Epoch, Position, Seq};
use crate::secrets::Secrets;
use crate::settings::{Auth, Policies};
use crate::shards::{ShardId, Shards};
use crate::slots::{KEPT_MAX, NONE};
use crate::slow::SlowPolicy;
use crate::token::ChannelToken;
use crate::wheel::Wheel;

/// How many channels all hubs of a process have. Its clones are the same count.
#[derive(Debug, Clone, Default)]
pub struct ChannelCount(Arc<AtomicUsize>);

/// The channels that a shard owns: their messages, who listens to them, and when they end.
///
/// It is told everything, the time too, and answers at once; what is to be carried to rooms it adds
/// to [`Effects`].
pub struct Hub {
    shard: ShardId,
    policies: Arc<Policies>,
    secrets: Secrets,
    count: ChannelCount,
    channels: Channels,
    /// Lives that have begun.
    lives: u32,
    subscribers: u64,
    expiries: Wheel,
    chores: Wheel,
    watches_events: bool,
    /// Kept to be used again.
    due: Vec<u32>,
}

/// What is to be published.
#[derive(Debug, Clone)]
pub struct Publication<'a> {
    /// What it says.
    pub data: Data,
    /// What the publisher calls this sort of message.
    pub event: Option<&'a str>,
    /// The same key again, soon, is the same message: it is not published twice.
    pub idempotency_key: Option<&'a str>,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// The life of the channel.
    pub epoch: Epoch,
    /// The message's number in it.
    pub seq: Seq,
    /// How many listen to the channel.
    pub subscribers: u32,
    /// It was published before, and not again.
    pub is_repeated: bool,
}

/// Why a message is not published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PublishError {
    /// The channel would be a new one.
    #[error("there are as many channels as there may be")]
    ChannelsFull,
    /// Data, event or key is too long.
    #[error("the {part} may have {bytes_max} bytes, not {bytes}")]
    TooLong {
        /// Which of them.
        part: &'static str,
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        bytes_max: usize,
    },
}

/// There are as many channels as there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("there are as many channels as there may be")]
pub struct ChannelsFull;

/// There is no such channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("there is no such channel")]
pub struct UnknownChannel;

/// A channel that was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The number of the oldest message that it keeps, or of the next one.
    pub seq: Seq,
    /// What subscribers need to have.
    pub token: ChannelToken,
    /// How long it lives without subscribers from now on, in seconds.
    pub expires_s: u32,
    /// How long a poll waits, in seconds.
    pub poll_timeout_s: u32,
}

/// What is known of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelInfo {
    /// Its name.
    pub name: Box<str>,
    /// Where it is.
    pub position: Position,
    /// The number of the oldest message that it keeps, or of the next one.
    pub first: Seq,
    /// How many listen.
    pub subscribers: u32,
    /// How many subjects are on it.
    pub members: usize,
}

/// A part of a channel's history.
#[derive(Debug, Clone)]
pub struct HistoryPage {
    /// Where the channel is.
    pub position: Position,
    /// The number of the oldest message that it keeps, or of the next one.
    pub first: Seq,
    /// Why this is not all that was missed, if it is not.
    pub reset: Option<ResetReason>,
    /// The messages, oldest first.
    pub messages: Vec<(Seq, Arc<Message>)>,
}

/// A broadcast on its way: channels get it in several steps, so that a million of them stop nobody.
#[derive(Debug, Clone)]
pub struct Broadcast {
    message: Arc<Message>,
    /// The channel to go on with.
    slot: u32,
    /// How many channels have got it.
    reached: usize,
}

impl Hub {
    /// A hub without channels. The other shards have clones of the same values.
    #[must_use]
    pub fn new(
        now: Millis,
        shard: ShardId,
        shards: Shards,
        policies: Arc<Policies>,
        secrets: Secrets,
        count: ChannelCount,
    ) -> Self {
        Hub {
            shard,
            policies,
            secrets,
            count,
            channels: Channels::new(shards),
            lives: 0,
            subscribers: 0,
            expiries: Wheel::new(now.tick()),
            chores: Wheel::new(now.tick()),
            watches_events: false,
            due: Vec::new(),
        }
    }

    /// Gives back what is kept to be used again, and is not in use.
    pub fn trim(&mut self) {
        self.channels.trim();
        self.due = Vec::new();
    }

    /// How many channels there are.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.channels.len()
    }

    /// How many subscriptions they have.
    #[must_use]
    pub fn subscribers(&self) -> u64 {
        self.subscribers
    }

    /// Whether [`Effects::events`] are wanted from now on.
    pub fn watch_events(&mut self, watch: bool) {
        self.watches_events = watch;
    }

    /// Uses other settings from now on.
    pub fn reload(&mut self, policies: Arc<Policies>) {
        self.policies = policies;
    }

    /// Takes what a room of shard `from` wrote.
    pub fn receive(&mut self, now: Millis, from: ShardId, letter: ToHub, effects: &mut Effects) {
        match letter.0 {
            HubLetter::Join(join) => self.join(now, from, *join, effects),
            HubLetter::Leave(leave) => self.leave(now, from, &leave),
        }
    }

    /// Publishes to a channel, which is made if there is none.
    ///
    /// # Errors
    /// [`PublishError`]; nothing was published then.
    pub fn publish(
        &mut self,
        now: Millis,
        channel: ChannelName<'_>,
        publication: Publication<'_>,
        effects: &mut Effects,
    ) -> Result<Published, PublishError> {
        let Publication { data, event, idempotency_key: key } = publication;
        let settings = self.policies.settings();
        for (part, text, bytes_max) in [
            ("data", Some(data.as_json()), settings.message_bytes_max),
            ("event", event, settings.event_bytes_max),
            ("idempotency key", key, settings.idempotency_key_bytes_max),
        ] {
            let bytes = text.map_or(0, str::len);
            if bytes > bytes_max {
                return Err(PublishError::TooLong { part, bytes, bytes_max });
            }
        }
        let slot = self.find_or_create(now, channel.as_str(), effects);
        let (slot, _) = slot.map_err(|ChannelsFull| PublishError::ChannelsFull)?;
        if let Some(seq) = key.and_then(|key| self.published_before(now, slot, key)) {
            return Ok(self.published(slot, seq, true));
        }
        let event = event.map(Box::from);
        let message = Arc::new(Message { kind: Kind::Data, event, data, at: now });
        let seq = self.append(now, slot, message, effects);
        if let Some(key) = key {
            self.remember(now, slot, key, seq);
        }
        Ok(self.published(slot, seq, false))
    }

    /// Begins a broadcast to all channels there are; [`Hub::go_on`] is what sends it.
    #[must_use]
    pub fn broadcast(now: Millis, data: Data) -> Broadcast {
        let message = Message { kind: Kind::Broadcast, event: None, data, at: now };
        Broadcast { message: Arc::new(message), slot: 0, reached: 0 }
    }

    /// Sends a broadcast to further channels, after a look at so many places for one. True when all
    /// have got it.
    pub fn go_on(
        &mut self,
        now: Millis,
        broadcast: &mut Broadcast,
        places_max: u32,
        effects: &mut Effects,
    ) -> bool {
        let end = self.channels.end();
        let until = broadcast.slot.saturating_add(places_max).min(end);
        for slot in broadcast.slot..until {
            if self.channels.contains(slot) {
                self.append(now, slot, Arc::clone(&broadcast.message), effects);
                broadcast.reached += 1;
            }
        }
        broadcast.slot = until;
        until == end
    }

    /// Gives a channel, which is made if there is none, its token. `expires_s` is how long it lives
    /// without subscribers from now on; what is not positive means as long as others.
    ///
    /// # Errors
    /// [`ChannelsFull`]
    pub fn sign(
        &mut self,
        now: Millis,
        channel: ChannelName<'_>,
        expires_s: i64,
        effects: &mut Effects,
    ) -> Result<Signed, ChannelsFull> {
        let (slot, _) = self.find_or_create(now, channel.as_str(), effects)?;
        let settings = self.policies.of(channel.as_str());
        let expires_s = match expires_s {
            ..=0 => settings.idle_s,
            _ => u32::try_from(expires_s).unwrap_or(u32::MAX),
        };
        self.channels.at_mut(slot).expires = now.plus_s(expires_s).tick_after();
        let signed = Signed {
            seq: self.channels.first(slot),
            token: ChannelToken::new(&self.secrets, channel.as_str(), self.epoch(slot)),
            expires_s,
            poll_timeout_s: settings.poll_timeout_s,
        };
        self.await_expiry(slot);
        Ok(signed)
    }

    /// Ends a channel and all subscriptions to it. The number of the message that would have come
    /// next.
    ///
    /// # Errors
    /// [`UnknownChannel`]
    pub fn close(
        &mut self,
        channel: ChannelName<'_>,
        effects: &mut Effects,
    ) -> Result<Seq, UnknownChannel> {
        let slot = self.channels.find(channel.as_str()).ok_or(UnknownChannel)?;
        let next = self.channels.at(slot).next;
        self.for_listeners(slot, effects, |to| RoomLetter::Closed { to });
        self.remove(slot, effects);
        Ok(next)
    }

    /// Drops a channel's history. The number of the message that comes next, which stays the same.
    ///
    /// # Errors
    /// [`UnknownChannel`]
    pub fn clear(&mut self, channel: ChannelName<'_>) -> Result<Seq, UnknownChannel> {
        let slot = self.channels.find(channel.as_str()).ok_or(UnknownChannel)?;
        if let Some(extra) = self.channels.extra_mut(slot) {
            extra.history.clear();
        }
        self.channels.drop_empty_extra(slot);
        Ok(self.channels.at(slot).next)
    }

    /// What is known of a channel, if there is one.
    #[must_use]
    pub fn info(&self, channel: ChannelName<'_>) -> Option<ChannelInfo> {
        self.channels.find(channel.as_str()).map(|slot| self.info_at(slot))
    }

    /// Appends what is known of channels whose name begins with `prefix` to `found`, after a look at
    /// `places_max` places from `place` on. Where to go on, unless these were all: a channel that is
    /// there all the time is found once.
    pub fn list(
        &self,
        prefix: &str,
        place: u32,
        places_max: u32,
        found: &mut Vec<ChannelInfo>,
    ) -> Option<u32> {
        let end = self.channels.end();
        let until = place.saturating_add(places_max).min(end);
        for slot in place..until {
            if self.channels.contains(slot) && self.channels.name(slot).starts_with(prefix) {
                found.push(self.info_at(slot));
            }
        }
        (until < end).then_some(until)
    }

    /// The messages that a channel keeps since a position, or all; `messages_max` of them at most,
    /// the oldest first.
    ///
    /// # Errors
    /// [`UnknownChannel`]
    pub fn history(
        &mut self,
        now: Millis,
        channel: ChannelName<'_>,
        since: Option<Position>,
        messages_max: usize,
    ) -> Result<HistoryPage, UnknownChannel> {
        let slot = self.channels.find(channel.as_str()).ok_or(UnknownChannel)?;
        self.age(now, slot);
        let position = self.position(slot);
        let first = self.channels.first(slot);
        let reset = since.and_then(|since| reset_of(since, position, first, false));
        let from = since.filter(|_| reset.is_none()).map_or(first, |since| since.next);
        let extra = self.channels.extra(slot).into_iter();
        let kept = extra.flat_map(|extra| extra.history.since(from, position.next));
        let mut seq = from.max(first);
        let mut messages = Vec::new();
        for message in kept.take(messages_max) {
            messages.push((seq, Arc::clone(message)));
            seq = seq.next();
        }
        Ok(HistoryPage { position, first, reset, messages })
    }

    /// Who is on a channel, by subject, with the number of their subscriptions: 0 for who has just
    /// left and may come back.
    ///
    /// # Errors
    /// [`UnknownChannel`]
    pub fn members(
        &self,
        channel: ChannelName<'_>,
    ) -> Result<Vec<(Arc<str>, u32)>, UnknownChannel> {
        let slot = self.channels.find(channel.as_str()).ok_or(UnknownChannel)?;
        let extra = self.channels.extra(slot).into_iter();
        let members = extra.flat_map(|extra| extra.members.iter());
        Ok(members.map(|(subject, count)| (Arc::clone(subject), count)).collect())
    }

    /// When [`Hub::wake`] may have something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        self.expiries.next().into_iter().chain(self.chores.next()).min()
    }

    /// Ends what has come to its time.
    pub fn wake(&mut self, now: Millis, effects: &mut Effects) {
        let mut due = std::mem::take(&mut self.due);
        self.expiries.expire(&mut Expiries(&mut self.channels), now.tick(), &mut due);
        for slot in due.drain(..) {
            if self.channels.at(slot).expires <= now.tick() {
                self.remove(slot, effects);
            } else {
                if std::mem::take(&mut self.channels.at_mut(slot).is_occupied) {
                    self.tell(slot, EventKind::Vacated, effects);
                }
                self.await_expiry(slot);
            }
        }
        self.chores.expire(&mut Chores(&mut self.channels), now.tick(), &mut due);
        for slot in due.drain(..) {
            self.age(now, slot);
            self.see_off(now, slot, effects);
            self.plan(slot);
        }
        due.shrink_to(KEPT_MAX);
        self.due = due;
    }

    /// Whether nothing is left of any channel.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.channels.is_empty() && self.next_deadline().is_none() && self.subscribers == 0
    }

    fn join(&mut self, now: Millis, from: ShardId, join: Join, effects: &mut Effects) {
        let mut joined = Joined {
            ticket: join.ticket,
            hub: NONE,
            position: Position { epoch: Epoch::new(0), next: Seq::FIRST },
            stays: false,
            answer: Answer::Refused(Refusal::Closed),
            subject: None,
        };
        match self.admit(now, &join, effects) {
            Err(refusal) => joined.answer = Answer::Refused(refusal),
            Ok((slot, is_new)) => {
                self.age(now, slot);
                joined.hub = slot;
                joined.answer = self.answer(slot, &join, is_new);
                joined.position = self.position(slot);
                joined.stays = !join.once || matches!(joined.answer, Answer::Wait);
            }
        }
        if joined.hub != NONE && !join.catches_up {
            self.prolong(now, joined.hub);
            if joined.stays {
                self.attend(from, joined.hub, &join, effects);
            } else {
                // Who polls and got its answer at once comes again: the channel is not left yet.
                self.await_end(now, joined.hub);
            }
        }
        joined.subject = join.subject;
        effects.letters.push((from, ToRoom(RoomLetter::Joined(Box::new(joined)))));
    }

    /// The channel that somebody may join, and whether it was made for that.
    fn admit(
        &mut self,
        now: Millis,
        join: &Join,
        effects: &mut Effects,
    ) -> Result<(u32, bool), Refusal> {
        let found = self.channels.find(&join.channel);
        if join.catches_up {
            // It is on a life of the channel. Should that have ended, it has been told by now.
            let is_life = |slot: &u32| match join.start {
                Start::At(position) => self.epoch(*slot) == position.epoch,
                _ => false,
            };
            let slot = found.filter(is_life).ok_or(Refusal::Closed)?;
            return Ok((slot, false));
        }
        if let (Auth::Token, Access::Token(token)) = (self.policies.settings().auth, &join.access) {
            let is_right = |slot: &u32| {
                ChannelToken::is(token, &self.secrets, &join.channel, self.epoch(*slot))
            };
            found.filter(is_right).ok_or(Refusal::Token)?;
        }
        let (slot, is_new) = match found {
            Some(slot) => (slot, false),
            None => self
                .find_or_create(now, &join.channel, effects)
                .map_err(|ChannelsFull| Refusal::Channels)?,
        };
        let subscribers_max = self.policies.of(&join.channel).subscribers_max;
        if self.channels.at(slot).subscribers() >= subscribers_max {
            return Err(Refusal::Subscribers);
        }
        Ok((slot, is_new))
    }

    fn answer(&self, slot: u32, join: &Join, is_new: bool) -> Answer {
        let (first, next) = (self.channels.first(slot), self.channels.at(slot).next);
        let from = match join.start {
            Start::Icomet(seq) => match behind(seq, next) {
                None => return Answer::Here,
                Some(behind) => next.back(behind),
            },
            Start::Now => return Answer::Here,
            Start::All => first,
            Start::At(position) if join.catches_up => position.next,
            Start::At(position) => match reset_of(position, self.position(slot), first, is_new) {
                Some(reason) => return Answer::Reset(reason),
                None => position.next,
            },
        };
        let mut from = from.max(first);
        if from == next {
            // It has all there is, or there is nothing left of what it has not.
            return Answer::Wait;
        }
        if join.catches_up && self.policies.of(&join.channel).slow == SlowPolicy::Conflate {
            from = next.back(1);
        }
        let extra = self.channels.extra(slot).into_iter();
        let kept = extra.flat_map(|extra| extra.history.since(from, next));
        Answer::Missed { first: from, messages: kept.cloned().collect() }
    }

    fn attend(&mut self, from: ShardId, slot: u32, join: &Join, effects: &mut Effects) {
        if self.channels.at(slot).is_idle() {
            self.expiries.clear(&mut Expiries(&mut self.channels), slot);
        }
        self.channels.attend(slot, from, join.room);
        self.subscribers += 1;
        if !std::mem::replace(&mut self.channels.at_mut(slot).is_occupied, true) {
            self.tell(slot, EventKind::Occupied, effects);
        }
        if let Some(subject) = &join.subject
            && self.channels.make_extra(slot).members.join(subject)
        {
            self.announce(slot, subject, true, effects);
        }
    }

    fn leave(&mut self, now: Millis, from: ShardId, leave: &Leave) {
        let slot = leave.hub;
        // Who leaves a life that has ended left with it.
        if !self.channels.contains(slot) || self.epoch(slot) != leave.epoch {
            return;
        }
        let left = self.channels.unattend(slot, from, leave.count);
        self.subscribers -= u64::from(left);
        if let Some(subject) = &leave.subject {
            let gone_at = self.absent_at(now);
            self.channels.make_extra(slot).members.leave(subject, gone_at);
            self.plan(slot);
        }
        self.prolong(now, slot);
        self.await_end(now, slot);
    }

    fn absent_at(&self, now: Millis) -> Tick {
        now.plus_s(self.policies.settings().absence_grace_s).tick_after()
    }

    /// Has the wheel come by when a channel without subscribers is vacated, or ends.
    fn await_end(&mut self, now: Millis, slot: u32) {
        let vacated_at = self.absent_at(now);
        let record = self.channels.at_mut(slot);
        if !record.is_idle() {
            return;
        }
        record.is_occupied &= self.watches_events;
        if record.is_occupied {
            let deadline = record.expires.min(vacated_at);
            self.expiries.set(&mut Expiries(&mut self.channels), slot, deadline);
        } else {
            self.await_expiry(slot);
        }
    }

    /// Adds a message to a channel and sends it to who listens.
    fn append(
        &mut self,
        now: Millis,
        slot: u32,
        message: Arc<Message>,
        effects: &mut Effects,
    ) -> Seq {
        self.prolong(now, slot);
        let record = self.channels.at_mut(slot);
        let seq = record.next;
        record.next = seq.next();
        let bounds = self.policies.of(self.channels.name(slot)).history();
        self.for_listeners(slot, effects, |to| {
            let message = Arc::clone(&message);
            RoomLetter::Deliver { to, seq, message }
        });
        if bounds.messages_max > 0 {
            let history = &mut self.channels.make_extra(slot).history;
            history.age(now, bounds);
            history.push(message, bounds);
            self.channels.drop_empty_extra(slot);
            if bounds.age_max_ms.is_some() {
                self.plan(slot);
            }
        }
        seq
    }

    fn for_listeners(
        &self,
        slot: u32,
        effects: &mut Effects,
        letter: impl Fn(RoomChannel) -> RoomLetter,
    ) {
        let epoch = self.epoch(slot);
        self.channels.for_listeners(slot, |listener| {
            let to = RoomChannel { slot: listener.room, epoch };
            effects.letters.push((listener.shard, ToRoom(letter(to))));
        });
    }

    fn find_or_create(
        &mut self,
        now: Millis,
        name: &str,
        effects: &mut Effects,
    ) -> Result<(u32, bool), ChannelsFull> {
        if let Some(slot) = self.channels.find(name) {
            return Ok((slot, false));
        }
        if !self.count.claim(self.policies.settings().channels_max) {
            return Err(ChannelsFull);
        }
        self.lives = self.lives.wrapping_add(1);
        let expires = now.plus_s(self.policies.of(name).idle_s).tick_after();
        let slot = self.channels.insert(name, self.lives, expires);
        self.await_expiry(slot);
        self.tell(slot, EventKind::Created, effects);
        Ok((slot, true))
    }

    fn remove(&mut self, slot: u32, effects: &mut Effects) {
        let record = self.channels.at(slot);
        let (is_idle, is_occupied) = (record.is_idle(), record.is_occupied);
        let subscribers = u64::from(record.subscribers());
        let has_chores =
            self.channels.extra(slot).is_some_and(|extra| extra.chores.deadline().is_some());
        if is_idle {
            self.expiries.clear(&mut Expiries(&mut self.channels), slot);
        }
        if has_chores {
            self.chores.clear(&mut Chores(&mut self.channels), slot);
        }
        self.subscribers -= subscribers;
        if is_occupied {
            self.tell(slot, EventKind::Vacated, effects);
        }
        if self.watches_events {
            let extra = self.channels.extra(slot).into_iter();
            let members = extra.flat_map(|extra| extra.members.iter());
            let gone: Vec<_> = members.map(|(subject, _)| Arc::clone(subject)).collect();
            for subject in gone {
                self.tell(slot, EventKind::MemberLeft(subject), effects);
            }
        }
        self.tell(slot, EventKind::Removed, effects);
        self.channels.remove(slot);
        self.count.release();
    }

    /// A channel that is of use lives at least as long as an idle one.
    fn prolong(&mut self, now: Millis, slot: u32) {
        let idle_s = self.policies.of(self.channels.name(slot)).idle_s;
        let record = self.channels.at_mut(slot);
        // The wheel is not told: it looks at this when it comes by.
        record.expires = record.expires.max(now.plus_s(idle_s).tick_after());
    }

    /// Has the wheel come by when an idle channel ends.
    fn await_expiry(&mut self, slot: u32) {
        let record = self.channels.at(slot);
        if record.is_idle() {
            let expires = record.expires;
            self.expiries.set(&mut Expiries(&mut self.channels), slot, expires);
        }
    }

    fn age(&mut self, now: Millis, slot: u32) {
        let bounds = self.policies.of(self.channels.name(slot)).history();
        if let Some(extra) = self.channels.extra_mut(slot) {
            extra.history.age(now, bounds);
            while extra.keys.front().is_some_and(|key| key.ends <= now) {
                extra.keys.pop_front();
            }
        }
    }

    /// Members whose time has come leave.
    fn see_off(&mut self, now: Millis, slot: u32, effects: &mut Effects) {
        while let Some(extra) = self.channels.extra_mut(slot) {
            let Some(subject) = extra.members.gone(now.tick()) else {
                break;
            };
            self.announce(slot, &subject, false, effects);
        }
    }

    /// Has the wheel come by when something of the extra is to be dropped.
    fn plan(&mut self, slot: u32) {
        let bounds = self.policies.of(self.channels.name(slot)).history();
        let Some(extra) = self.channels.extra(slot) else {
            return;
        };
        let oldest = extra.history.oldest_ends(bounds);
        let key = extra.keys.front().map(|key| key.ends);
        let ends = oldest.into_iter().chain(key).map(Millis::tick_after);
        match ends.chain(extra.members.next_gone()).min() {
            Some(deadline) if extra.chores.deadline() == Some(deadline) => {}
            Some(deadline) => {
                self.chores.set(&mut Chores(&mut self.channels), slot, deadline);
            }
            None => {
                self.chores.clear(&mut Chores(&mut self.channels), slot);
                self.channels.drop_empty_extra(slot);
            }
        }
    }

    fn published_before(&mut self, now: Millis, slot: u32, key: &str) -> Option<Seq> {
        self.age(now, slot);
        let extra = self.channels.extra(slot)?;
        extra.keys.iter().find(|held| *held.key == *key).map(|held| held.seq)
    }

    fn remember(&mut self, now: Millis, slot: u32, key: &str, seq: Seq) {
        let settings = self.policies.settings();
        let keys = &mut self.channels.make_extra(slot).keys;
        if keys.len() >= settings.idempotency_keys_max {
            keys.pop_front();
        }
        if settings.idempotency_keys_max > 0 {
            let ends = now.plus_s(settings.idempotency_age_s);
            keys.push_back(PublishKey { key: key.into(), seq, ends });
        }
        self.plan(slot);
    }

    fn published(&self, slot: u32, seq: Seq, is_repeated: bool) -> Published {
        let subscribers = self.channels.at(slot).subscribers();
        Published { epoch: self.epoch(slot), seq, subscribers, is_repeated }
    }

    /// Somebody is on a channel or is not any more.
    fn announce(&mut self, slot: u32, subject: &Arc<str>, joined: bool, effects: &mut Effects) {
        if self.policies.of(self.channels.name(slot)).announces_members {
            self.for_listeners(slot, effects, |to| RoomLetter::Member {
                to,
                subject: Arc::clone(subject),
                joined,
            });
        }
        let subject = Arc::clone(subject);
        let what =
            if joined { EventKind::MemberJoined(subject) } else { EventKind::MemberLeft(subject) };
        self.tell(slot, what, effects);
    }

    fn tell(&self, slot: u32, what: EventKind, effects: &mut Effects) {
        if self.watches_events {
            effects.events.push(Event { channel: self.channels.name(slot).into(), what });
        }
    }

    fn epoch(&self, slot: u32) -> Epoch {
        self.secrets.epoch(self.shard, self.channels.at(slot).life)
    }

    fn position(&self, slot: u32) -> Position {
        Position { epoch: self.epoch(slot), next: self.channels.at(slot).next }
    }

    fn info_at(&self, slot: u32) -> ChannelInfo {
        let record = self.channels.at(slot);
        ChannelInfo {
            name: self.channels.name(slot).into(),
            position: self.position(slot),
            first: self.channels.first(slot),
            subscribers: record.subscribers(),
            members: self.channels.extra(slot).map_or(0, |extra| extra.members.len()),
        }
    }
}

impl Broadcast {
    /// How many channels have got it so far.
    #[must_use]
    pub fn reached(&self) -> usize {
        self.reached
    }
}

impl ChannelCount {
    fn claim(&self, channels_max: usize) -> bool {
        let below = |count| (count < channels_max).then_some(count + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, below).is_ok()
    }

    fn release(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How far somebody who asks for message `seq` is behind, as icomet counts; `None` if it asks for
/// none, or for one that is further than the next.
pub(crate) fn behind(seq: i32, next: Seq) -> Option<u64> {
    let behind = next.wrapped().wrapping_sub(seq);
    match seq {
        0 => None,
        // A number below all numbers asks for everything, unless the numbers have come round.
        ..0 if next.get() < 1 << 31 => Some(u64::MAX),
        _ => u64::try_from(behind).ok(),
    }
}

/// Why somebody who has come as far as `at` cannot get all that came since.
fn reset_of(at: Position, now: Position, first: Seq, is_new: bool) -> Option<ResetReason> {
    if is_new {
        Some(ResetReason::Expired)
    } else if at.epoch != now.epoch {
        Some(ResetReason::EpochChanged)
    } else if at.next > now.next {
        Some(ResetReason::NeverWas)
    } else if at.next < first {
        Some(ResetReason::HistoryTrimmed)
    } else {
        None
    }
}
