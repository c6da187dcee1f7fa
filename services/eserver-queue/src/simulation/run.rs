//! One seed's story: lives of a server, each ended by a stop, a kill, a fault or a power cut.

use std::collections::HashSet;
use std::rc::Rc;

use super::SimulatedDisk;
use super::model::{Change, Message, Model, Status};
use crate::{
    ChangeError, Millis, Outcome, Placeholder, PutError, Queue, QueueSettings, ReadError, Recovery,
    Reserved, Seq, SyncPolicy, WhenFull,
};

/// What happened in a run, to know that the tests reach what they are about.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Seen {
    clean: u64,
    killed: u64,
    failed: u64,
    cut: u64,
    torn: u64,
    no_space: u64,
    overwritten: u64,
    moved: u64,
    full: u64,
    expired: u64,
    taken: u64,
    recycled: u64,
    messages: u64,
}

impl Seen {
    pub(crate) fn add(&mut self, other: &Self) {
        self.clean += other.clean;
        self.killed += other.killed;
        self.failed += other.failed;
        self.cut += other.cut;
        self.torn += other.torn;
        self.no_space += other.no_space;
        self.overwritten += other.overwritten;
        self.moved += other.moved;
        self.full += other.full;
        self.expired += other.expired;
        self.taken += other.taken;
        self.recycled += other.recycled;
        self.messages += other.messages;
    }

    pub(crate) fn assert_everything_happened(&self) {
        let Self { clean, killed, failed, cut, torn, no_space, .. } = *self;
        let Self { overwritten, moved, full, expired, taken, recycled, messages, .. } = *self;
        for count in [clean, killed, failed, cut, torn, no_space] {
            assert!(count > 100, "{self:?}");
        }
        for count in [overwritten, moved, full, expired, taken, recycled, messages] {
            assert!(count > 100, "{self:?}");
        }
    }
}

/// When the lease of a message ends that was taken: never.
const TAKEN: u64 = u64::MAX;

/// How a life ends.
#[derive(Clone, Copy)]
enum End {
    /// The queue was closed.
    Clean,
    /// The process is gone; what was written is in the kernel's hands.
    Killed,
    /// The power is gone.
    Cut,
}

struct Run {
    random: fastrand::Rng,
    disk: SimulatedDisk,
    settings: QueueSettings,
    now: u64,
    /// The state as of the last sync.
    durable: Model,
    /// What happened since, acknowledged or not.
    changes: Vec<Change>,
    /// How many of `changes` were written, and are there unless the power goes.
    written: usize,
    /// The state after all of them.
    live: Model,
    /// How commands are dealt this time.
    weights: [u32; 10],
    /// All that was ever put.
    ever: HashSet<(u64, Rc<[u8]>)>,
    seen: Seen,
    was_opened: bool,
    /// Whether the last life ended between two writes, and the power stayed.
    is_whole: bool,
}

/// Runs one seed; panics when a promise is broken.
pub(crate) fn run(seed: u64) -> Seen {
    let mut random = fastrand::Rng::with_seed(seed);
    let sync = match random.u32(..10) {
        0 => SyncPolicy::Never,
        1 | 2 => SyncPolicy::Interval { milliseconds: random.u64(1..200) },
        _ => SyncPolicy::Always,
    };
    let settings = QueueSettings {
        length_max: [8, 40, 10_000][random.usize(..3)],
        full: if random.bool() { WhenFull::Reject } else { WhenFull::OverwriteOldest },
        sync,
        segment_bytes_min: 16 << 10,
        segment_bytes_max: 32 << 10,
        ..QueueSettings::default()
    };
    let mut run = Run {
        disk: SimulatedDisk::new(random.u64(..)),
        settings,
        now: 1_700_000_000_000,
        durable: Model::new(),
        changes: Vec::new(),
        written: 0,
        live: Model::new(),
        weights: std::array::from_fn(|_| random.u32(..8)),
        ever: HashSet::new(),
        seen: Seen::default(),
        was_opened: false,
        is_whole: true,
        random,
    };
    if run.random.u32(..4) == 0 {
        run.disk.set_capacity(run.random.u64(2..8) * (16 << 10));
    }
    for _ in 0..run.random.u32(2..6) {
        run.live_once();
    }
    run.disk.set_faults(0, 0);
    if run.disk.is_off() {
        run.settle_again();
    }
    run.disk.cut_power_after(None);
    if let Some(queue) = run.open() {
        queue.close().expect("nothing fails any more");
        run.settle(End::Clean);
        run.open().expect("nothing fails any more");
    }
    run.seen
}

impl Run {
    /// From opening to whatever end.
    fn live_once(&mut self) {
        let failures = if self.random.u32(..4) == 0 { self.random.u32(20..200) } else { 0 };
        self.disk.set_faults(failures, if self.random.bool() { 6 } else { 0 });
        if self.random.u32(..3) > 0 {
            self.disk.cut_power_after(Some(self.random.u64(..120)));
        }
        let Some(mut queue) = self.open() else {
            return;
        };
        for _ in 0..self.random.u32(1..60) {
            if !self.batch(&mut queue) {
                self.expect_failed(&mut queue);
                self.note(&queue);
                drop(queue);
                self.seen.failed += 1;
                let end = self.any_end();
                self.settle(end);
                return;
            }
        }
        self.note(&queue);
        let was_left = self.random.u32(..3) > 0;
        if !was_left && queue.close().is_ok() {
            self.settle(End::Clean);
            self.is_whole = true;
        } else {
            let end = self.any_end();
            // Also when what was closed failed to be: then a write may be half done.
            self.is_whole = was_left && matches!(end, End::Killed);
            self.settle(end);
        }
    }

    fn note(&mut self, queue: &Queue<SimulatedDisk>) {
        let stats = queue.stats();
        self.seen.overwritten += stats.totals.overwritten;
        self.seen.moved += stats.totals.moved;
        self.seen.messages += stats.totals.put;
        self.seen.recycled += u64::from(queue.newest_segment() > 8);
    }

    fn any_end(&mut self) -> End {
        if self.disk.is_off() || self.random.bool() { End::Cut } else { End::Killed }
    }

    /// Decides what may be left after a life.
    fn settle(&mut self, end: End) {
        match end {
            End::Clean => {
                self.seen.clean += 1;
                self.sync_model();
                self.disk.cut_power_after(None);
                if self.random.bool() {
                    self.disk.cut_power();
                }
            }
            End::Killed => {
                self.seen.killed += 1;
                self.disk.cut_power_after(None);
            }
            End::Cut => {
                self.seen.cut += 1;
                self.written = 0;
                self.disk.cut_power();
            }
        }
    }

    fn sync_model(&mut self) {
        for change in self.changes.drain(..) {
            self.durable.apply(&change);
        }
        self.written = 0;
    }

    /// Opens the queue and checks that what it holds may be. `None` when the disk did not let it.
    fn open(&mut self) -> Option<Queue<SimulatedDisk>> {
        self.is_whole &= !self.disk.is_off();
        let opened = Queue::open_on(self.disk.clone(), &self.settings, Millis::new(self.now));
        let (mut queue, recovery) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.is_whole = false;
                if self.disk.is_off() {
                    self.settle_again();
                }
                let _ = error.to_string();
                return None;
            }
        };
        self.check_recovery(&recovery);
        // Without syncs, what a power cut left behind may look torn at any later time.
        if self.is_whole && self.settings.sync != SyncPolicy::Never {
            assert_eq!(recovery.torn, None, "nothing was torn: {recovery:?}");
        }
        self.is_whole = false;
        self.was_opened = true;
        self.seen.torn += u64::from(recovery.torn.is_some());
        let is_off = self.disk.is_off();
        if is_off {
            return None;
        }
        let mut found = self.contents(&mut queue)?;
        // Which of the last changes survived? A prefix, and attempts are not synced by themselves.
        let mut candidate = self.durable.clone();
        let mut next = 0;
        loop {
            let mut expected = candidate.clone();
            expected.restart(self.now);
            for (seq, message) in &mut found.messages {
                if let Some(expected) = expected.messages.get_mut(seq) {
                    let is_less = message.attempts <= expected.attempts;
                    if self.settings.sync != SyncPolicy::Always || is_less {
                        expected.attempts = message.attempts;
                    }
                }
            }
            if next >= self.written && expected == found {
                break;
            }
            let Some(change) = self.changes.get(next) else {
                if self.is_loss_allowed(&found) {
                    break;
                }
                self.fail(&found, &recovery);
            };
            candidate.apply(change);
            next += 1;
        }
        assert_eq!(queue.length(), found.length());
        self.durable = found.clone();
        self.live = found;
        self.changes.clear();
        self.written = 0;
        Some(queue)
    }

    /// Says how what was found differs from the least and the most that it might have been.
    fn fail(&self, found: &Model, recovery: &Recovery) -> ! {
        let mut latest = self.durable.clone();
        for change in &self.changes {
            latest.apply(change);
        }
        latest.restart(self.now);
        let mut all: Vec<_> = found.messages.keys().chain(latest.messages.keys()).collect();
        all.extend(self.durable.messages.keys());
        all.sort();
        all.dedup();
        for seq in all {
            let durable = self.durable.messages.get(seq).map(Message::brief);
            let latest = latest.messages.get(seq).map(Message::brief);
            let found = found.messages.get(seq).map(Message::brief);
            if found != latest || found != durable {
                eprintln!("{seq}: durable {durable:?}, found {found:?}, latest {latest:?}");
            }
        }
        eprintln!(
            "next: durable {}, found {}, latest {}",
            self.durable.next, found.next, latest.next
        );
        eprintln!("changes since, {} of them written:", self.written);
        for change in &self.changes {
            eprintln!("  {change:?}");
        }
        panic!("this is no state the queue was in: {recovery:?}, {:?}", self.settings);
    }

    /// The power went while the queue was being opened: the same may be found as before.
    fn settle_again(&mut self) {
        self.written = 0;
        self.disk.cut_power();
    }

    fn check_recovery(&self, recovery: &Recovery) {
        if self.settings.sync == SyncPolicy::Never || !self.was_opened {
            return;
        }
        assert_eq!(recovery.damages, [], "nothing was damaged: {recovery:?}");
        assert_eq!(recovery.lost, [], "nothing may be lost");
    }

    /// Without syncs a power cut may take anything, but it must not invent.
    fn is_loss_allowed(&self, found: &Model) -> bool {
        let mut messages = found.messages.iter();
        self.settings.sync == SyncPolicy::Never
            && messages.all(|(&seq, message)| self.ever.contains(&(seq, message.payload.clone())))
    }

    /// All that the queue holds, read without changing it.
    fn contents(&mut self, queue: &mut Queue<SimulatedDisk>) -> Option<Model> {
        let mut model = Model { messages: Default::default(), next: queue.stats().next_seq };
        let mut off = false;
        let entries = queue.snapshot();
        for (seq, snapshot) in entries {
            let mut payload = Vec::new();
            match queue.peek(seq, &mut payload) {
                Ok(is_sound) => assert!(is_sound, "message {seq} is damaged"),
                Err(_) => off = true,
            }
            let status = match snapshot.status {
                crate::state::index::Status::Ready => Status::Ready,
                crate::state::index::Status::Delayed => Status::Delayed(snapshot.due.get()),
                crate::state::index::Status::Buried => Status::Buried("".into()),
                other => panic!("message {seq} is {other:?} after a restart"),
            };
            let message = Message { payload: payload.into(), attempts: snapshot.attempts, status };
            model.messages.insert(seq.get(), message);
        }
        let shown = queue.buried(Seq::new(0), usize::MAX, |buried| {
            let message = model.messages.get_mut(&buried.seq.get()).expect("it is there");
            message.status = Status::Buried(buried.reason.into());
            assert_eq!(message.payload[..], *buried.payload);
        });
        off |= shown.is_err();
        if off {
            assert!(self.disk.is_off(), "reads fail only without power");
            self.settle_again();
            return None;
        }
        Some(model)
    }

    /// Some commands and a commit; `false` when the log failed.
    fn batch(&mut self, queue: &mut Queue<SimulatedDisk>) -> bool {
        for _ in 0..self.random.u32(1..8) {
            self.now += [0, 0, 1, 30, 400][self.random.usize(..5)];
            self.live.wake(self.now);
            if !self.command(queue) {
                return false;
            }
            assert_eq!(queue.length(), self.live.length());
        }
        let committed = match self.random.u32(..12) {
            0 => queue.sync(),
            _ => queue.commit(),
        };
        let Ok(committed) = committed else {
            return false;
        };
        if self.settings.sync == SyncPolicy::Always {
            // What the answers wait for is safe now; a reservation by itself need not be.
            let is_answered = |change: &Change| !matches!(change, Change::Reserve(..));
            let safe = self.changes.iter().rposition(is_answered).map_or(0, |at| at + 1);
            for change in self.changes.drain(..safe) {
                self.durable.apply(&change);
            }
        }
        self.written = self.changes.len();
        if committed.synced {
            self.sync_model();
        }
        queue.tick(Millis::new(self.now)).is_ok()
    }

    /// One command, live and in the model; `false` when the log failed.
    fn command(&mut self, queue: &mut Queue<SimulatedDisk>) -> bool {
        let total: u32 = self.weights.iter().sum();
        let mut dealt = self.random.u32(..total.max(1));
        let mut which = 0;
        for (at, &weight) in self.weights.iter().enumerate() {
            which = at;
            if dealt < weight {
                break;
            }
            dealt -= weight;
        }
        match which {
            0 | 1 => self.put(queue),
            2 => self.pop(queue),
            3 => self.reserve(queue),
            4 | 5 => self.change(queue, which == 4),
            6 => self.release(queue),
            7 => self.bury(queue),
            8 => self.kick(queue),
            _ => self.burst(queue),
        }
    }

    fn happened(&mut self, change: Change) {
        if let Change::Put(payload, _) = &change {
            self.ever.insert((self.live.next, payload.clone()));
        }
        self.live.apply(&change);
        self.changes.push(change);
    }

    fn payload(&mut self) -> (Vec<u8>, Option<Placeholder>) {
        if self.random.u32(..8) == 0 {
            let text = b"insert into t values (%05d, '100%%')".to_vec();
            let placeholder = Placeholder::parse(&text);
            return (text, placeholder);
        }
        let most = [0, 10, 100, 700, 3000][self.random.usize(..5)];
        let bytes = self.random.usize(..=most);
        ((0..bytes).map(|_| self.random.u8(..)).collect(), None)
    }

    fn put(&mut self, queue: &mut Queue<SimulatedDisk>) -> bool {
        let (payload, placeholder) = self.payload();
        let delay = if self.random.u32(..6) == 0 { self.random.u64(..1000) } else { 0 };
        let due = (delay > 0).then(|| self.now + delay);
        let is_full = self.live.messages.len() as u64 >= self.settings.length_max;
        let overwritten = match self.settings.full {
            WhenFull::OverwriteOldest if is_full => self.live.next_overwritten(),
            _ => None,
        };
        match queue.put(&payload, placeholder, delay, Millis::new(self.now)) {
            Ok(seq) => {
                assert_eq!(seq.get(), self.live.next, "numbers follow each other");
                assert!(!is_full || overwritten.is_some(), "a full queue takes nothing");
                if let Some(oldest) = overwritten {
                    self.happened(Change::Remove(oldest));
                }
                let mut rendered = payload;
                if placeholder.is_some() {
                    rendered = format!("insert into t values ({seq:05}, '100%')").into_bytes();
                }
                self.happened(Change::Put(rendered.into(), due));
                true
            }
            Err(PutError::Full { .. }) => {
                self.seen.full += 1;
                assert!(is_full && overwritten.is_none(), "there was room");
                true
            }
            Err(PutError::NoSpace) => {
                self.seen.no_space += 1;
                true
            }
            Err(PutError::Failed(_)) => false,
            Err(error) => panic!("{error}"),
        }
    }

    fn pop(&mut self, queue: &mut Queue<SimulatedDisk>) -> bool {
        let mut payload = Vec::new();
        let expected = self.live.next_ready();
        match queue.pop(Millis::new(self.now), &mut payload) {
            Ok(popped) => {
                assert_eq!(popped.map(Seq::get), expected, "the oldest ready one");
                if let Some(seq) = expected {
                    assert_eq!(payload, *self.live.messages[&seq].payload);
                    self.happened(Change::Remove(seq));
                }
                true
            }
            Err(error) => self.is_alive(&error),
        }
    }

    fn is_alive(&mut self, error: &ReadError) -> bool {
        match error {
            ReadError::NoSpace => {
                self.seen.no_space += 1;
                true
            }
            ReadError::Disk(_) => {
                assert!(self.disk.is_off(), "{error}");
                false
            }
            ReadError::Failed(_) => false,
        }
    }

    /// Takes messages, for a while or for good.
    fn reserve(&mut self, queue: &mut Queue<SimulatedDisk>) -> bool {
        let takes = self.random.u32(..3) == 0;
        let lease = self.random.u64(1..600);
        let until = if takes { TAKEN } else { self.now + lease };
        let max = self.random.usize(1..6);
        let bytes_max = if takes { self.random.usize(..2000) } else { usize::MAX };
        let now = Millis::new(self.now);
        let mut reserved = Vec::new();
        let each = |message: Reserved<'_>| {
            reserved.push((message.seq.get(), message.attempts, message.payload.to_vec()));
        };
        let result = match takes {
            true => queue.take(now, max, bytes_max, each),
            false => queue.reserve(now, lease, max, each),
        };
        let count = result.as_ref().map_or(0, |&count| count);
        let bytes: usize = reserved.iter().map(|(_, _, payload)| payload.len()).sum();
        assert!(bytes <= bytes_max || count <= 1, "{bytes} bytes in {count}");
        for (seq, attempts, payload) in reserved {
            assert_eq!(Some(seq), self.live.next_ready());
            self.seen.expired += u64::from(attempts > 1);
            let message = &self.live.messages[&seq];
            assert_eq!(payload, *message.payload);
            assert_eq!(attempts, message.attempts + 1);
            self.happened(Change::Reserve(seq, until));
            self.seen.taken += u64::from(takes);
        }
        match result {
            Ok(_) => {
                let next = self.live.next_ready();
                let next_bytes = next.map_or(0, |seq| self.live.messages[&seq].payload.len());
                let is_all = count == max || next.is_none() || bytes + next_bytes > bytes_max;
                assert!(is_all, "as many as there are");
                true
            }
            Err(error) => self.is_alive(&error),
        }
    }

    /// A message, most often one that is there.
    fn any_seq(&mut self, wanted: impl Fn(&Status) -> bool) -> u64 {
        let messages = self.live.messages.iter();
        let fitting = messages.filter(|(_, message)| wanted(&message.status));
        let fitting: Vec<_> = fitting.map(|(&seq, _)| seq).take(8).collect();
        if fitting.is_empty() || self.random.u32(..10) == 0 {
            return self.random.u64(..self.live.next + 2);
        }
        fitting[self.random.usize(..fitting.len())]
    }

    fn outcome(
        &mut self,
        result: &Result<Outcome, ChangeError>,
        seq: u64,
        applies: bool,
        change: Change,
    ) -> bool {
        let expected = match (self.live.messages.contains_key(&seq), applies) {
            (false, _) => Outcome::Missing,
            (true, false) => Outcome::NotApplicable,
            (true, true) => Outcome::Done,
        };
        match result {
            Ok(outcome) => {
                assert_eq!(*outcome, expected, "{change:?} of {:?}", self.live.messages.get(&seq));
                if *outcome == Outcome::Done {
                    self.happened(change);
                }
                true
            }
            Err(ChangeError::NoSpace) => {
                self.seen.no_space += 1;
                true
            }
            Err(ChangeError::Failed(_)) => false,
        }
    }

    fn status(&self, seq: u64) -> Option<&Status> {
        self.live.messages.get(&seq).map(|message| &message.status)
    }

    fn is_leased_for_a_while(&self, seq: u64) -> bool {
        matches!(self.status(seq), Some(&Status::Leased(until)) if until != TAKEN)
    }

    fn change(&mut self, queue: &mut Queue<SimulatedDisk>, is_ack: bool) -> bool {
        let now = Millis::new(self.now);
        if is_ack {
            let seq = self.any_seq(|status| matches!(status, Status::Leased(_)));
            let applies = !matches!(self.status(seq), Some(Status::Buried(_)));
            let result = queue.ack(Seq::new(seq), now);
            self.outcome(&result, seq, applies, Change::Remove(seq))
        } else if self.random.bool() {
            let seq = self.any_seq(|_| true);
            let result = queue.delete(Seq::new(seq), now);
            self.outcome(&result, seq, true, Change::Remove(seq))
        } else {
            let seq = self.any_seq(|status| matches!(status, Status::Buried(_)));
            let applies = matches!(self.status(seq), Some(Status::Buried(_)));
            let result = queue.delete_buried(Seq::new(seq), now);
            self.outcome(&result, seq, applies, Change::Remove(seq))
        }
    }

    fn release(&mut self, queue: &mut Queue<SimulatedDisk>) -> bool {
        let seq = self.any_seq(|status| matches!(status, Status::Leased(_)));
        let now = Millis::new(self.now);
        if self.random.bool() {
            let applies = self.status(seq) == Some(&Status::Leased(TAKEN));
            let result = queue.give_back(Seq::new(seq), now);
            return self.outcome(&result, seq, applies, Change::Release(seq, None));
        }
        let delay = if self.random.bool() { self.random.u64(1..500) } else { 0 };
        let due = (delay > 0).then(|| self.now + delay);
        let applies = self.is_leased_for_a_while(seq);
        let result = queue.release(Seq::new(seq), delay, now);
        self.outcome(&result, seq, applies, Change::Release(seq, due))
    }

    fn bury(&mut self, queue: &mut Queue<SimulatedDisk>) -> bool {
        let seq = self.any_seq(|status| matches!(status, Status::Leased(_)));
        let reason: Rc<str> = ["", "no such table: t", "größer"][self.random.usize(..3)].into();
        let now = Millis::new(self.now);
        if self.random.bool() {
            let applies = self.status(seq) == Some(&Status::Leased(TAKEN));
            let result = queue.set_aside(Seq::new(seq), &reason, now);
            return self.outcome(&result, seq, applies, Change::Bury(seq, reason));
        }
        let applies = self.is_leased_for_a_while(seq);
        let result = queue.bury(Seq::new(seq), &reason, now);
        self.outcome(&result, seq, applies, Change::Bury(seq, reason))
    }

    fn kick(&mut self, queue: &mut Queue<SimulatedDisk>) -> bool {
        let seq = self.any_seq(|status| matches!(status, Status::Buried(_) | Status::Delayed(_)));
        let applies = matches!(self.status(seq), Some(Status::Buried(_) | Status::Delayed(_)));
        let result = queue.kick(Seq::new(seq), Millis::new(self.now));
        self.outcome(&result, seq, applies, Change::Kick(seq))
    }

    /// Many puts and as many pops: the ring turns.
    fn burst(&mut self, queue: &mut Queue<SimulatedDisk>) -> bool {
        (0..self.random.u32(1..12)).all(|_| self.put(queue))
            && (0..self.random.u32(1..14)).all(|_| self.pop(queue))
    }

    /// After the first failure nothing is acknowledged any more.
    fn expect_failed(&mut self, queue: &mut Queue<SimulatedDisk>) {
        if queue.commit().is_ok() {
            // A read failed, and reads do not stop the log.
            assert!(self.disk.is_off());
            return;
        }
        let now = Millis::new(self.now);
        assert!(matches!(queue.put(b"x", None, 0, now), Err(PutError::Failed(_))));
        assert!(matches!(queue.pop(now, &mut Vec::new()), Err(ReadError::Failed(_))));
        assert!(queue.sync().is_err() && queue.commit().is_err());
    }
}
