//! A queue that lives through its process' deaths.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use eserver::{Feed, FeedFailed, Message, Taken, Turn};
use fastrand::Rng;
use tokio::time::sleep;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Ready,
    Leased,
    Delayed,
    Buried,
}

#[derive(Clone)]
pub(super) struct FakeQueue(Arc<Mutex<State>>);

struct State {
    held: BTreeMap<u64, (String, Status)>,
    payloads: Vec<String>,
    /// Messages that came late, or were buried for a while: they have lost their place.
    displaced: BTreeSet<u64>,
    waker: Option<Box<dyn Fn() + Send + Sync>>,
    rng: Rng,
}

impl FakeQueue {
    pub(super) fn new(rng: Rng) -> Self {
        FakeQueue(Arc::new(Mutex::new(State {
            held: BTreeMap::new(),
            payloads: Vec::new(),
            waker: None,
            displaced: BTreeSet::new(),
            rng,
        })))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Puts a message; one that is late becomes ready when all others have been taken.
    pub(super) fn put(&self, payload: String, late: bool) {
        let mut state = self.state();
        state.payloads.push(payload.clone());
        let id = state.payloads.len() as u64;
        let status = if late { Status::Delayed } else { Status::Ready };
        state.displaced.extend(late.then_some(id));
        state.held.insert(id, (payload, status));
    }

    /// Puts one more message that can be applied.
    pub(super) fn put_good(&self) {
        let id = self.next_id();
        self.put(format!(r#"{{"stmt":"add","params":[{id}]}}"#), false);
        if let Some(waker) = &self.state().waker {
            waker();
        }
    }

    /// The process has died: leases are void, and so is what it waited for.
    pub(super) fn restart(&self) {
        let mut state = self.state();
        state.waker = None;
        for (_, status) in state.held.values_mut() {
            if *status == Status::Leased {
                *status = Status::Ready;
            }
        }
    }

    /// Somebody gives buried messages another chance.
    pub(super) fn kick_buried(&self, mut chosen: impl FnMut(u64) -> bool) {
        for (id, (_, status)) in &mut self.state().held {
            if *status == Status::Buried && chosen(*id) {
                *status = Status::Ready;
            }
        }
    }

    /// Nothing is left to do but what is buried.
    pub(super) fn is_settled(&self) -> bool {
        self.state().held.values().all(|(_, status)| *status == Status::Buried)
    }

    pub(super) fn is_buried(&self, id: u64) -> bool {
        self.state().held.get(&id).is_some_and(|(_, status)| *status == Status::Buried)
    }

    fn settle_and_take(&self, turn: Turn) -> Taken {
        let mut guard = self.state();
        let state = &mut *guard;
        for id in turn.done {
            state.held.remove(&id);
        }
        for (id, reason) in turn.refused {
            assert!(!reason.is_empty());
            if let Some((_, status)) = state.held.get_mut(&id) {
                *status = Status::Buried;
                state.displaced.insert(id);
            }
        }
        let mut taken = Taken::default();
        let share = if state.rng.bool() { usize::MAX } else { state.rng.usize(1..30) };
        for (&id, (payload, status)) in &mut state.held {
            if taken.len() >= turn.messages_max.min(share) {
                break;
            }
            if *status == Status::Ready {
                *status = Status::Leased;
                taken.push(Message { id, attempts: 1, payload: payload.as_bytes() });
            }
        }
        let asked = turn.asked.iter().flat_map(|&(first, last)| first..=last);
        taken.gone = asked.filter(|id| !state.held.contains_key(id)).collect();
        if turn.messages_max > 0 && taken.is_empty() {
            let delayed = |entry: &&mut (String, Status)| entry.1 == Status::Delayed;
            let due = state.held.values_mut().filter(delayed).map(|entry| entry.1 = Status::Ready);
            if let (1.., Some(waker)) = (due.count(), &state.waker) {
                waker();
            }
        }
        taken
    }

    /// Messages with the same key were applied in their order.
    pub(super) fn check_order(&self, applied: impl Iterator<Item = i64>) {
        let state = self.state();
        let key = |num: i64| {
            let payload = &state.payloads[num as usize - 1];
            payload.split_once("\"key\"").map(|(_, key)| key.to_owned())
        };
        let mut last: BTreeMap<Option<String>, i64> = BTreeMap::new();
        for num in applied.filter(|&num| !state.displaced.contains(&(num as u64))) {
            let before = last.insert(key(num), num);
            assert!(before.is_none_or(|before| before < num), "{num} came after {before:?}");
        }
    }
}

impl Feed for FakeQueue {
    fn name(&self) -> &str {
        "sim"
    }

    fn epoch(&self) -> u64 {
        1
    }

    fn next_id(&self) -> u64 {
        self.state().payloads.len() as u64 + 1
    }

    fn turn(&self, turn: Turn, answer: Box<dyn FnOnce(Result<Taken, FeedFailed>) + Send>) {
        let (queue, wait) = (self.clone(), self.state().rng.u64(0..6));
        // What the process was told but had not made durable when it died is as if never said.
        tokio::spawn(async move {
            sleep(Duration::from_millis(wait)).await;
            let taken = queue.settle_and_take(turn);
            let wait = queue.state().rng.u64(0..3);
            sleep(Duration::from_millis(wait)).await;
            answer(Ok(taken));
        });
    }

    fn wake_by(&self, waker: Box<dyn Fn() + Send + Sync>) {
        self.state().waker = Some(waker);
    }
}
