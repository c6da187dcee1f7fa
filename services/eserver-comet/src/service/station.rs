//! [`Station`]: the channels' half of a shard. It has the shard's hub and its room, carries their
//! letters, and knows what the engine calls a connection.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eserver::{ConnId, Conns, Post};

use crate::channel_name::ChannelName;
use crate::hub::{Broadcast, ChannelCount, Hub};
use crate::letter::{Access, Effects, Event, EventKind, Start};
use crate::millis::Millis;
use crate::outgoing::{Outgoing, SubscriberId};
use crate::render::Callback;
use crate::room::{Letters, Room, SubscribeError, Subscription};
use crate::secrets::Secrets;
use crate::service::asked::{Asked, AskedAs, Then};
use crate::service::counters::StationCounters;
use crate::service::line::{Line, Slot, Teller};
use crate::service::mail::{Bundle, Mail};
use crate::service::question::{Outcome, Question};
use crate::service::reporter::Reporter;
use crate::service::right::Right;
use crate::service::sockets::Sockets;
use crate::service::watchers::{Watcher, Watchers};
use crate::settings::Policies;
use crate::shards::{ShardId, Shards};
use crate::slots::KEPT_MAX;
use crate::transport::Transport;

/// Places for channels that a broadcast looks at before others have their turn.
const BROADCAST_PLACES: u32 = 256;

/// Places for subscribers that are looked at before others have their turn, when the server ends.
const DISMISSAL_PLACES: u32 = 1024;

/// Places for channels that are looked at before others have their turn, when watchers are told
/// again what is there.
const ROLL_CALL_PLACES: u32 = 4096;

/// Subscribers that are told at one go before mail leaves that waits for the turn's end: a crowd here
/// holds up neither the crowds of other shards nor the answer to who published.
const CROWD: usize = 64;

/// When subscribers of a server that ends are to come again, in milliseconds: spread over a window,
/// so that they do not come all at once.
const RETRY_MS: std::ops::Range<u64> = 1_000..11_000;

/// The channels' half of a shard.
pub(crate) struct Station {
    shard: ShardId,
    /// When the clock of channels began, on all shards.
    started: Instant,
    shards: Shards,
    pub(crate) secrets: Secrets,
    hub: Hub,
    room: Room<Line>,
    teller: Teller,
    /// The ways to the stations of all shards.
    posts: Vec<Post>,
    /// Mail for each of them that has not been sent.
    outgoing: Vec<Vec<Mail>>,
    /// What was asked elsewhere and is not answered.
    asked: Asked,
    /// Broadcasts that have not reached all channels here, with who waits until they have.
    broadcasts: VecDeque<(Broadcast, Option<AskedBy>)>,
    watchers: Watchers,
    /// Who else is told what becomes of channels.
    reporter: Option<Reporter>,
    /// Which shards have watchers.
    watching: Vec<bool>,
    /// When those who watch as icomet's clients do are told again what is there, and the place the
    /// telling has come to.
    roll_call: Option<(Instant, u32)>,
    /// When those who watch here get a sign of life.
    sign_of_life: Option<Instant>,
    /// How many stations may still ask the hub here, and how many hubs may still deliver here: nobody
    /// is told of the server's end before what was published by then.
    may_ask: usize,
    may_deliver: usize,
    is_draining: bool,
    /// The place that telling subscribers of the server's end has come to.
    dismissal: Option<u32>,
    deadline: Option<Instant>,
    /// Kept to be used again.
    letters: Letters,
    effects: Effects,
}

/// Who waits for the outcome of a question: the station there, under that number.
type AskedBy = (ShardId, AskedAs);

/// What all stations of a server have in common.
pub(crate) struct Common {
    pub(crate) started: Instant,
    pub(crate) policies: Arc<Policies>,
    pub(crate) secrets: Secrets,
    pub(crate) count: ChannelCount,
    pub(crate) reporter: Option<Reporter>,
}

impl Station {
    /// The station of a shard. The first `owners` of the shards have channels.
    pub(crate) fn new(
        common: &Common,
        shard: usize,
        owners: usize,
        posts: Vec<Post>,
        counters: Arc<StationCounters>,
    ) -> Self {
        let shard = ShardId::try_from(shard).expect("the engine has no more shards");
        let owners = ShardId::try_from(owners).expect("nor owners of channels");
        let Common { started, policies, secrets, count, reporter } = common;
        let shards = Shards::new(owners, secrets.names());
        let now = now_since(*started);
        let mut hub =
            Hub::new(now, shard, shards, Arc::clone(policies), secrets.clone(), count.clone());
        hub.watch_events(reporter.is_some());
        Station {
            shard,
            started: *started,
            shards,
            secrets: secrets.clone(),
            hub,
            room: Room::new(now, shards, Arc::clone(policies)),
            teller: Teller::new(Arc::clone(policies), counters),
            outgoing: posts.iter().map(|_| Vec::new()).collect(),
            watching: vec![false; posts.len()],
            may_ask: posts.len(),
            may_deliver: usize::from(owners),
            posts,
            asked: Asked::default(),
            broadcasts: VecDeque::new(),
            watchers: Watchers::default(),
            reporter: reporter.clone(),
            roll_call: None,
            sign_of_life: None,
            is_draining: false,
            dismissal: None,
            deadline: None,
            letters: Letters::new(),
            effects: Effects::default(),
        }
    }

    /// The settings in force.
    pub(crate) fn policies(&self) -> &Arc<Policies> {
        &self.teller.policies
    }

    /// The time of channels.
    pub(crate) fn now(&self) -> Millis {
        now_since(self.started)
    }

    /// The shard that has a channel's hub.
    pub(crate) fn owner(&self, channel: ChannelName<'_>) -> ShardId {
        self.shards.owner(channel)
    }

    /// Whether a channel's hub is here.
    pub(crate) fn owns(&self, channel: ChannelName<'_>) -> bool {
        self.owner(channel) == self.shard
    }

    /// How many stations have hubs.
    pub(crate) fn owners(&self) -> ShardId {
        self.shards.count()
    }

    /// Takes a subscriber in. `None` if it was told its last already. `origin` is that of a page that
    /// may read an answer which has not begun.
    pub(crate) fn subscribe(
        &mut self,
        subscription: Subscription<'_, Line>,
        callback: Option<Callback<'_>>,
        origin: Option<&str>,
        conns: &mut Conns<'_>,
    ) -> Result<Option<SubscriberId>, SubscribeError> {
        let now = self.now();
        self.settle(now, conns);
        let id = self.room.subscribe(now, subscription, &mut self.letters)?;
        if let Some(callback) = callback {
            self.teller.call_back(id, callback);
        }
        if let Some(origin) = origin {
            self.teller.remember_origin(id, origin);
        }
        self.dismiss_late();
        self.teller.ended = None;
        self.settle(now, conns);
        Ok(Some(id).filter(|id| self.teller.ended != Some(*id)))
    }

    /// The peer of the connection with this slot is done: whatever it waits for is over.
    pub(crate) fn hang_up(&mut self, slot: u32, conns: &mut Conns<'_>) {
        match Slot::new(slot) {
            Slot::Socket(number) => {
                if let Some(conn) = self.socket_conn(number) {
                    conns.close(conn);
                }
            }
            Slot::Subscriber(id) => {
                if let Some(to) = self.room.handle(id).and_then(Line::to) {
                    conns.abandon(to);
                }
            }
        }
        self.settle(self.now(), conns);
    }

    /// The connection with this slot has ended.
    pub(crate) fn release(&mut self, slot: u32) {
        if let Some(id) = self.teller.release(slot) {
            self.room.unsubscribe(id, &mut self.letters);
        }
    }

    /// The peer of a connection has read what was kept for it.
    pub(crate) fn catch_up(&mut self, slot: u32, conns: &mut Conns<'_>) {
        if let Some(id) = self.teller.subscriber(slot) {
            self.room.catch_up(id, &mut self.letters);
        }
        self.turn_ended(conns);
    }

    pub(crate) fn sockets(&self) -> &Sockets {
        &self.teller.sockets
    }

    pub(crate) fn sockets_mut(&mut self) -> &mut Sockets {
        &mut self.teller.sockets
    }

    /// The connection of a WebSocket.
    pub(crate) fn socket_conn(&self, number: u32) -> Option<ConnId> {
        match self.sockets().subscriber(number) {
            Some(id) => self.room.handle(id).map(Line::conn),
            None => self.sockets().conn(number),
        }
    }

    /// Subscribes a WebSocket that is on no channel.
    pub(crate) fn subscribe_socket(
        &mut self,
        number: u32,
        subscription: Subscription<'_, Line>,
        conns: &mut Conns<'_>,
    ) -> Result<(), SubscribeError> {
        let now = self.now();
        self.settle(now, conns);
        let id = self.room.subscribe(now, subscription, &mut self.letters)?;
        // Before anything is told: what ends it takes this back.
        self.teller.sockets.set_subscriber(number, id);
        self.dismiss_late();
        self.settle(now, conns);
        Ok(())
    }

    /// One more channel for a WebSocket.
    pub(crate) fn add_channel(
        &mut self,
        number: u32,
        channel: ChannelName<'_>,
        start: Start,
        access: Access,
        right: &Right,
        conns: &mut Conns<'_>,
    ) -> Result<(), SubscribeError> {
        let now = self.now();
        let conn = self.socket_conn(number).ok_or(SubscribeError::UnknownSubscriber)?;
        let subscriber = self.sockets().subscriber(number);
        let expanded = subscriber.and_then(|id| self.room.expand(now, id));
        let Some(id) = expanded else {
            let subscription = Subscription {
                handle: Line::Socket(conn, number),
                transport: Transport::Socket,
                channels: &[(channel, start)],
                access,
                noop: 0,
                subject: right.subject(),
                ends_at: right.ends_at(now),
            };
            return self.subscribe_socket(number, subscription, conns);
        };
        self.teller.sockets.set_subscriber(number, id);
        let ends_at = right.ends_at(now);
        self.room.add(id, channel, start, &access, ends_at, &mut self.letters)?;
        self.settle(now, conns);
        Ok(())
    }

    /// One channel less for a WebSocket; whether it had it.
    pub(crate) fn unsubscribe_socket(
        &mut self,
        number: u32,
        channel: ChannelName<'_>,
        conns: &mut Conns<'_>,
    ) -> bool {
        let now = self.now();
        let subscriber = self.sockets().subscriber(number);
        let Some(id) = subscriber.and_then(|id| self.room.expand(now, id)) else { return false };
        self.teller.sockets.set_subscriber(number, id);
        let had_it = self.room.remove(id, channel, &mut self.letters);
        self.settle(now, conns);
        had_it
    }

    /// Asks the hub here anything but for a broadcast. What that leads to is told at the turn's end.
    pub(crate) fn ask_here(&mut self, question: Question) -> Outcome {
        let now = self.now();
        let is_publication = matches!(question, Question::Publish { .. });
        let outcome = question.put(&mut self.hub, now, &mut self.effects);
        self.teller.counters.published.add(u64::from(is_publication));
        outcome
    }

    /// Asks a channel's hub; `then` is done with the outcome.
    pub(crate) fn ask(
        &mut self,
        channel: ChannelName<'_>,
        question: Question,
        conns: &mut Conns<'_>,
        then: impl FnOnce(Outcome, &mut Conns<'_>) + 'static,
    ) {
        let owner = self.shards.owner(channel);
        let then: Then = Box::new(|mut outcomes, conns| {
            then(outcomes.pop().expect("one was asked, one has answered"), conns);
        });
        self.ask_several(vec![(owner, question)], conns, then);
    }

    /// Asks the hubs of all shards; `then` is done with their outcomes.
    pub(crate) fn ask_all(
        &mut self,
        question: &Question,
        conns: &mut Conns<'_>,
        then: impl FnOnce(Vec<Outcome>, &mut Conns<'_>) + 'static,
    ) {
        let questions = (0..self.owners()).map(|owner| (owner, question.clone())).collect();
        self.ask_several(questions, conns, Box::new(then));
    }

    /// Asks several hubs several things, at least one; `then` is done with the outcomes in their
    /// order.
    pub(crate) fn ask_several(
        &mut self,
        questions: Vec<(ShardId, Question)>,
        conns: &mut Conns<'_>,
        then: Then,
    ) {
        let is_at_hand = |(owner, question): &(ShardId, Question)| {
            *owner == self.shard && !matches!(question, Question::Broadcast(_))
        };
        if questions.iter().all(is_at_hand) {
            let questions = questions.into_iter();
            let outcomes = questions.map(|(_, question)| self.ask_here(question)).collect();
            return then(outcomes, conns);
        }
        let number = self.asked.begin(questions.len(), then);
        for (nth, (owner, question)) in (0..).zip(questions) {
            let asked = AskedAs { number, nth };
            if owner == self.shard {
                self.carry_out(question, Some((self.shard, asked)), conns);
            } else {
                self.send(owner, Mail::Ask(Some(asked), Box::new(question)));
            }
        }
    }

    /// Asks the hub here and passes the outcome on. A broadcast's comes when all channels have got
    /// it: who waits for the answer and publishes then is sure that it comes after.
    fn carry_out(&mut self, question: Question, by: Option<AskedBy>, conns: &mut Conns<'_>) {
        if let Question::Broadcast(data) = question {
            let now = self.now();
            self.broadcasts.push_back((Hub::broadcast(now, data), by));
            if self.broadcasts.len() == 1 {
                self.broadcast_on(now, conns);
            }
        } else {
            let outcome = self.ask_here(question);
            self.pass_on(outcome, by, conns);
        }
    }

    fn pass_on(&mut self, outcome: Outcome, by: Option<AskedBy>, conns: &mut Conns<'_>) {
        match by {
            Some((shard, asked)) if shard == self.shard => self.asked.told(asked, outcome, conns),
            Some((shard, asked)) => self.send(shard, Mail::Told(asked, outcome)),
            None => {}
        }
    }

    /// Takes in somebody who wants to know what becomes of channels; its slot.
    pub(crate) fn watch(&mut self, watcher: Watcher) -> u32 {
        let slot = self.watchers.insert(watcher);
        self.tell_watching();
        slot
    }

    /// The peer of a watcher's connection is done.
    pub(crate) fn end_watch(&mut self, slot: u32, conns: &mut Conns<'_>) {
        self.watchers.finish_one(slot, conns);
    }

    /// One who watched is gone.
    pub(crate) fn unwatch(&mut self, slot: u32) {
        self.watchers.remove(slot);
        self.tell_watching();
    }

    /// Tells all stations whether somebody watches here.
    fn tell_watching(&mut self) {
        let watches = !self.watchers.is_empty();
        if self.watching[usize::from(self.shard)] != watches {
            for shard in 0..self.posts.len() {
                let shard = ShardId::try_from(shard).expect("the engine has no more shards");
                if shard != self.shard {
                    self.send(shard, Mail::Watch(watches));
                }
            }
            self.watched_from(self.shard, watches);
            self.sign_of_life = watches.then(|| Instant::now() + self.silence());
        }
    }

    /// How long those who watch may hear nothing.
    fn silence(&self) -> Duration {
        Duration::from_secs(u64::from(self.policies().settings().channel.poll_timeout_s))
    }

    fn watched_from(&mut self, shard: ShardId, watches: bool) {
        self.watching[usize::from(shard)] = watches;
        let is_watched = self.watching.contains(&true);
        self.hub.watch_events(is_watched || self.reporter.is_some());
        self.roll_call = match (is_watched, self.roll_call) {
            (false, _) => None,
            (true, None) => Some((Instant::now() + self.roll_call_period(), 0)),
            (true, going_on) => going_on,
        };
    }

    fn roll_call_period(&self) -> Duration {
        Duration::from_secs(u64::from(self.policies().settings().channel.idle_s.max(1)))
    }

    /// Takes what another station, or the program, has sent.
    pub(crate) fn receive(&mut self, bundle: Bundle, conns: &mut Conns<'_>) {
        let now = self.now();
        let Bundle { from, mail } = bundle;
        for mail in mail {
            match mail {
                Mail::ToHub(letter) => self.hub.receive(now, from, letter, &mut self.effects),
                Mail::ToRoom(letter) => {
                    let mut tell =
                        |outgoing: Outgoing<'_, Line>| self.teller.tell(&outgoing, conns);
                    self.room.receive(now, letter, &mut self.letters, &mut tell);
                }
                Mail::Ask(asked, question) => {
                    self.carry_out(*question, asked.map(|asked| (from, asked)), conns);
                }
                Mail::Told(asked, outcome) => self.asked.told(asked, outcome, conns),
                Mail::Events(events) => self.watchers.tell(&events, conns),
                Mail::Watch(watches) => self.watched_from(from, watches),
                Mail::LastAsked => self.asks_no_more(conns),
                Mail::LastDelivered => self.delivers_no_more(conns),
                Mail::Reload(policies) => {
                    self.hub.reload(Arc::clone(&policies));
                    self.room.reload(Arc::clone(&policies));
                    self.teller.policies = policies;
                }
            }
            // Letters are carried one by one, so that answers stand before what follows them.
            self.settle(now, conns);
        }
        self.flush();
    }

    /// When [`Station::wake`] may have something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Does what its time has come for.
    pub(crate) fn wake(&mut self, conns: &mut Conns<'_>) {
        let now = self.now();
        self.hub.wake(now, &mut self.effects);
        self.settle(now, conns);
        let mut tell = |outgoing: Outgoing<'_, Line>| self.teller.tell(&outgoing, conns);
        self.room.wake(now, &mut self.letters, &mut tell);
        self.settle(now, conns);
        self.broadcast_on(now, conns);
        self.call_roll();
        if self.sign_of_life.is_some_and(|at| at <= Instant::now()) {
            self.watchers.show_life(conns);
            self.sign_of_life = Some(Instant::now() + self.silence());
        }
        self.dismiss_on(conns);
        self.settle(now, conns);
        self.flush();
    }

    /// The server ends: everybody is told, and when to come again, once all has been delivered that was
    /// published by then.
    pub(crate) fn drain(&mut self, conns: &mut Conns<'_>) {
        // Each of the ports says so.
        if std::mem::replace(&mut self.is_draining, true) {
            return;
        }
        self.watchers.finish(conns);
        self.settle(self.now(), conns);
        for owner in 0..self.owners() {
            if owner == self.shard {
                self.asks_no_more(conns);
            } else {
                self.send(owner, Mail::LastAsked);
            }
        }
        self.turn_ended(conns);
    }

    /// One station less may ask the hub here. After the last one nothing is delivered but what somebody
    /// publishes while the server ends.
    fn asks_no_more(&mut self, conns: &mut Conns<'_>) {
        self.may_ask -= 1;
        if self.may_ask > 0 {
            return;
        }
        self.settle(self.now(), conns);
        for station in 0..self.posts.len() {
            let station = ShardId::try_from(station).expect("the engine has no more shards");
            if station == self.shard {
                self.delivers_no_more(conns);
            } else {
                self.send(station, Mail::LastDelivered);
            }
        }
    }

    /// One hub less may deliver here. After the last one everybody here is told of the end.
    fn delivers_no_more(&mut self, conns: &mut Conns<'_>) {
        self.may_deliver -= 1;
        if self.may_deliver == 0 {
            self.dismissal = Some(0);
            self.dismiss_on(conns);
        }
    }

    /// Somebody has come who may have to be told of the server's end although all others were.
    fn dismiss_late(&mut self) {
        if self.may_deliver == 0 {
            self.dismissal = Some(0);
        }
    }

    /// Tells what this turn has led to.
    pub(crate) fn turn_ended(&mut self, conns: &mut Conns<'_>) {
        self.settle(self.now(), conns);
        self.flush();
    }

    /// Gives back what is kept to be used again, and is not in use.
    pub(crate) fn trim(&mut self) {
        self.hub.trim();
        self.room.trim();
        self.teller.trim();
        self.letters.shrink_to_fit();
        self.effects.letters.shrink_to_fit();
        self.effects.events.shrink_to_fit();
    }

    fn broadcast_on(&mut self, now: Millis, conns: &mut Conns<'_>) {
        let Some((broadcast, by)) = self.broadcasts.front_mut() else { return };
        let (before, by) = (broadcast.reached(), *by);
        let is_done = self.hub.go_on(now, broadcast, BROADCAST_PLACES, &mut self.effects);
        let reached = broadcast.reached() - before;
        self.teller.counters.published.add(reached as u64);
        if is_done {
            self.broadcasts.pop_front();
        }
        self.settle(now, conns);
        if is_done {
            self.pass_on(Outcome::Reached, by, conns);
        }
    }

    /// Tells those who watch as icomet's clients do which channels are there: icomet says so again
    /// and again.
    fn call_roll(&mut self) {
        let Some((at, place)) = self.roll_call.filter(|(at, _)| *at <= Instant::now()) else {
            return;
        };
        let mut found = Vec::new();
        let next = self.hub.list("", place, ROLL_CALL_PLACES, &mut found);
        self.effects.events.extend(
            found
                .into_iter()
                .map(|channel| Event { channel: channel.name, what: EventKind::StillThere }),
        );
        self.roll_call = Some(match next {
            Some(place) => (at, place),
            None => (at + self.roll_call_period(), 0),
        });
    }

    fn dismiss_on(&mut self, conns: &mut Conns<'_>) {
        let Some(place) = self.dismissal else { return };
        let mut found = Vec::new();
        self.dismissal = self.room.subscribers(place, DISMISSAL_PLACES, &mut found);
        let mut tell = |outgoing: Outgoing<'_, Line>| self.teller.tell(&outgoing, conns);
        for id in found {
            let spread = u64::from(id.get().wrapping_mul(0x9e37_79b9));
            let retry_ms = RETRY_MS.start + spread % (RETRY_MS.end - RETRY_MS.start);
            self.room.dismiss(id, retry_ms, &mut self.letters, &mut tell);
        }
        if self.dismissal.is_none() {
            self.teller.sockets.dismiss(conns);
        }
    }

    /// Carries letters until there are none for here.
    fn settle(&mut self, now: Millis, conns: &mut Conns<'_>) {
        while !(self.letters.is_empty() && self.effects.letters.is_empty()) {
            let mut letters = std::mem::take(&mut self.letters);
            for (to, letter) in letters.drain(..) {
                if to == self.shard {
                    self.hub.receive(now, self.shard, letter, &mut self.effects);
                } else {
                    self.outgoing[usize::from(to)].push(Mail::ToHub(letter));
                }
            }
            keep_larger(&mut self.letters, letters);
            let mut letters = std::mem::take(&mut self.effects.letters);
            let shard = self.shard;
            for (to, letter) in letters.extract_if(.., |(to, _)| *to != shard) {
                self.outgoing[usize::from(to)].push(Mail::ToRoom(letter));
            }
            let mut told = 0_usize;
            let mut tell = |outgoing: Outgoing<'_, Line>| {
                told += 1;
                if told == CROWD {
                    post_all(shard, &self.posts, &mut self.outgoing);
                }
                self.teller.tell(&outgoing, conns)
            };
            for (_, letter) in letters.drain(..) {
                self.room.receive(now, letter, &mut self.letters, &mut tell);
            }
            keep_larger(&mut self.effects.letters, letters);
        }
        if !self.effects.events.is_empty() {
            let events: Arc<[Event]> = self.effects.events.drain(..).collect();
            if let Some(reporter) = &self.reporter {
                reporter.report(&events);
            }
            for shard in 0..self.posts.len() {
                if shard == usize::from(self.shard) {
                    self.watchers.tell(&events, conns);
                } else if self.watching[shard] {
                    self.outgoing[shard].push(Mail::Events(Arc::clone(&events)));
                }
            }
        }
    }

    fn send(&mut self, to: ShardId, mail: Mail) {
        self.outgoing[usize::from(to)].push(mail);
    }

    /// Sends the mail, and looks when there is something to do next.
    fn flush(&mut self) {
        post_all(self.shard, &self.posts, &mut self.outgoing);
        let waits = !self.broadcasts.is_empty() || self.dismissal.is_some();
        let wheels = [self.hub.next_deadline(), self.room.next_deadline()];
        let wheels = wheels.into_iter().flatten().min();
        let wheels = wheels.map(|at| self.started + Duration::from_millis(at.get()));
        let at_once = waits.then_some(self.started);
        let roll_call = self.roll_call.map(|(at, _)| at);
        let own = roll_call.into_iter().chain(self.sign_of_life);
        self.deadline = at_once.into_iter().chain(wheels).chain(own).min();
        let counters = &self.teller.counters;
        counters.channels.set(self.hub.channels() as u64);
        counters.subscriptions.set(self.hub.subscribers());
    }
}

/// The time of channels that began at `started`.
fn now_since(started: Instant) -> Millis {
    Millis::new(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX))
}

/// Sends what there is for other stations.
fn post_all(from: ShardId, posts: &[Post], outgoing: &mut [Vec<Mail>]) {
    for (post, outgoing) in posts.iter().zip(outgoing) {
        if !outgoing.is_empty() {
            let mail = std::mem::take(outgoing);
            post.pass(Box::new(Bundle { from, mail }));
        }
    }
}

/// Keeps the room of a list that is empty now for the next one, unless that has begun or is large.
fn keep_larger<T>(list: &mut Vec<T>, empty: Vec<T>) {
    if list.is_empty() && empty.capacity() <= KEPT_MAX {
        *list = empty;
    }
}
