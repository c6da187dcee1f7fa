//! [`Events`]: what was announced, for clients who watch.
//!
//! The last events are kept in a ring, numbered. A watcher says which it has seen, by a cursor, and
//! gets those that came since; if there are none it waits, and the next announcement answers it, or
//! the hub's thread at its deadline. The cursor holds the hub's life too, so a watcher notices that
//! the server was restarted and that events may be gone with it.

use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::io;
use std::str::FromStr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use eserver::Announce;
use thiserror::Error;

/// Events kept at most; the oldest go first.
const EVENTS_MAX: usize = 4096;

/// Bytes of kept events and the names of their channels, at most.
const EVENTS_BYTES_MAX: usize = 4 << 20;

/// Watchers that may wait at once.
const WATCHERS_MAX: usize = 1024;

/// What was announced last, and those who wait for more.
#[derive(Default)]
pub struct Events {
    shared: Arc<Shared>,
    /// Answers watchers at their deadlines; started with the first of them.
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    board: Mutex<Board>,
    wake: Condvar,
}

struct Board {
    life: u64,
    ring: VecDeque<Event>,
    /// Bytes of all in the ring.
    bytes: usize,
    /// How many events there ever were; the newest has this number.
    newest: u64,
    watchers: Vec<Watcher>,
    /// When the thread looks at the watchers by itself.
    looks_at: Option<Instant>,
    closed: bool,
}

struct Event {
    channel: Box<str>,
    json: Box<[u8]>,
}

/// What a watcher wants to see.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Events of this channel only.
    pub(crate) channel: Option<String>,
    /// Events after this; without it, those that come from now on.
    pub(crate) after: Option<Cursor>,
    /// How long to wait for one.
    pub(crate) wait: Duration,
}

/// Who waits, having seen all that there is.
struct Watcher {
    channel: Option<String>,
    deadline: Instant,
    answer: Box<dyn FnOnce(Page<'_>) + Send>,
}

/// How far a watcher has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    life: u64,
    number: u64,
}

/// Why nobody is watching now.
#[derive(Debug, Error)]
pub(crate) enum WatchError {
    /// See [`WATCHERS_MAX`].
    #[error("{WATCHERS_MAX} clients are watching already, no more may")]
    TooMany,
    /// See [`Events::close`].
    #[error("the server is ending")]
    Closed,
    /// The thread cannot be started.
    #[error("cannot start the thread of the events")]
    Thread(#[from] io::Error),
}

/// The answer to a watcher: a view of the ring.
pub(crate) struct Page<'a> {
    board: &'a Board,
    channel: Option<&'a str>,
    /// The last event that the watcher has seen.
    after: u64,
    /// Events after the watcher's cursor that are kept no more, on whatever channel.
    pub(crate) missed: u64,
    /// The cursor is of an earlier life: nobody knows what happened between.
    pub(crate) restarted: bool,
}

impl Events {
    /// No events, and nobody who waits for any.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers all who wait, and nobody waits from now on: the server is ending.
    pub fn close(&self) {
        let mut board = self.shared.board();
        board.closed = true;
        board.answer(|_| true);
        drop(board);
        self.shared.wake.notify_one();
    }

    /// Shows what there is, now or when there is something, or nothing at the end of the time.
    /// `answer` is called from any thread, perhaps before this returns, and must be quick.
    pub(crate) fn watch(
        &self,
        watch: Watch,
        answer: Box<dyn FnOnce(Page<'_>) + Send>,
    ) -> Result<(), WatchError> {
        let mut board = self.shared.board();
        if board.closed {
            return Err(WatchError::Closed);
        }
        let page = board.page(watch.channel.as_deref(), watch.after);
        if page.is_news() || watch.wait.is_zero() {
            answer(page);
            return Ok(());
        }
        if board.watchers.len() >= WATCHERS_MAX {
            return Err(WatchError::TooMany);
        }
        self.start_thread()?;
        let deadline = Instant::now() + watch.wait;
        board.watchers.push(Watcher { channel: watch.channel, deadline, answer });
        if board.looks_at.is_none_or(|at| deadline < at) {
            self.shared.wake.notify_one();
        }
        Ok(())
    }

    fn start_thread(&self) -> io::Result<()> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            let shared = Arc::clone(&self.shared);
            let name = "events".to_owned();
            *thread = Some(thread::Builder::new().name(name).spawn(move || shared.keep_time())?);
        }
        Ok(())
    }
}

impl Announce for Events {
    fn announce(&self, channel: &str, event: &[u8]) {
        let mut board = self.shared.board();
        board.push(Event { channel: channel.into(), json: event.into() });
        // Who waits has seen all that was before.
        board.answer_with(1, |watcher| watcher.channel.as_deref().is_none_or(|it| it == channel));
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.close();
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // It has nothing left to say.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread's life: answers whose time is over.
    fn keep_time(&self) {
        let mut board = self.board();
        while !board.closed {
            let now = Instant::now();
            board.answer(|watcher| watcher.deadline <= now);
            board.looks_at = board.watchers.iter().map(|watcher| watcher.deadline).min();
            board = match board.looks_at {
                None => self.wake.wait(board).unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    let waited = self.wake.wait_timeout(board, at - now);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

impl Default for Board {
    fn default() -> Self {
        Board {
            // Keyed by the system's own chance, and that is all we want of it.
            life: RandomState::new().hash_one(()),
            ring: VecDeque::new(),
            bytes: 0,
            newest: 0,
            watchers: Vec::new(),
            looks_at: None,
            closed: false,
        }
    }
}

impl Board {
    fn push(&mut self, event: Event) {
        self.newest += 1;
        self.bytes += event.bytes();
        self.ring.push_back(event);
        while self.ring.len() > EVENTS_MAX || self.bytes > EVENTS_BYTES_MAX {
            self.bytes -= self.ring.pop_front().map_or(0, |event| event.bytes());
        }
    }

    /// The newest event that is not kept any more.
    fn forgotten(&self) -> u64 {
        self.newest - self.ring.len() as u64
    }

    fn page<'a>(&'a self, channel: Option<&'a str>, cursor: Option<Cursor>) -> Page<'a> {
        let restarted = cursor.is_some_and(|cursor| cursor.life != self.life);
        let seen = match cursor {
            None => self.newest,
            Some(_) if restarted => 0,
            Some(cursor) => cursor.number.min(self.newest),
        };
        let after = seen.max(self.forgotten());
        Page { board: self, channel, after, missed: after - seen, restarted }
    }

    /// Answers those whom `wanted` picks; there is nothing new for them.
    fn answer(&mut self, wanted: impl FnMut(&Watcher) -> bool) {
        self.answer_with(0, wanted);
    }

    /// Answers those whom `wanted` picks; the last `new` events they have not seen.
    fn answer_with(&mut self, new: u64, mut wanted: impl FnMut(&Watcher) -> bool) {
        if self.watchers.is_empty() {
            return;
        }
        let answered: Vec<_> = self.watchers.extract_if(.., |watcher| wanted(watcher)).collect();
        let seen = self.newest - new;
        let after = seen.max(self.forgotten());
        for Watcher { channel, answer, .. } in answered {
            let channel = channel.as_deref();
            answer(Page { board: self, channel, after, missed: after - seen, restarted: false });
        }
    }
}

impl Event {
    fn bytes(&self) -> usize {
        self.channel.len() + self.json.len()
    }
}

impl Page<'_> {
    /// Whether there is something to tell.
    fn is_news(&self) -> bool {
        self.restarted || self.missed > 0 || self.events().next().is_some()
    }

    /// The events that the watcher wants, oldest first: number, channel, JSON text.
    pub(crate) fn events(&self) -> impl Iterator<Item = (u64, &str, &[u8])> {
        let first = self.board.forgotten() + 1;
        let seen = usize::try_from(self.after + 1 - first).unwrap_or(usize::MAX);
        let events = (first..).zip(&self.board.ring).skip(seen);
        events
            .filter(|(_, event)| self.channel.is_none_or(|channel| *channel == *event.channel))
            .map(|(number, event)| (number, &*event.channel, &*event.json))
    }

    /// The cursor of one who has seen all events up to number `seen`; all that there are, if `None`.
    pub(crate) fn cursor(&self, seen: Option<u64>) -> Cursor {
        Cursor { life: self.board.life, number: seen.unwrap_or(self.board.newest) }
    }

    /// The last event that the watcher had seen before.
    pub(crate) fn after(&self) -> u64 {
        self.after
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}-{}", self.life, self.number)
    }
}

impl FromStr for Cursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (life, number) = text.split_once('-').ok_or(())?;
        let life = u64::from_str_radix(life, 16).map_err(drop)?;
        Ok(Cursor { life, number: number.parse().map_err(drop)? })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);
    const LONG: Duration = Duration::from_secs(3600);

    /// An answer as its watcher keeps it.
    #[derive(Debug)]
    struct Seen {
        events: Vec<(String, String)>,
        cursor: Cursor,
        missed: u64,
        restarted: bool,
    }

    impl Seen {
        fn texts(&self) -> Vec<&str> {
            self.events.iter().map(|(_, json)| json.as_str()).collect()
        }
    }

    fn watch(
        events: &Events,
        channel: Option<&str>,
        after: Option<Cursor>,
        wait: Duration,
    ) -> Receiver<Seen> {
        let (tell, told) = mpsc::channel();
        let answer = move |page: Page<'_>| {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            let events = page.events();
            let events = events.map(|(_, channel, json)| (channel.to_owned(), text(json)));
            let (events, cursor) = (events.collect(), page.cursor(None));
            let (missed, restarted) = (page.missed, page.restarted);
            // Those who still wait when the test ends are answered too.
            let _ = tell.send(Seen { events, cursor, missed, restarted });
        };
        let channel = channel.map(str::to_owned);
        events.watch(Watch { channel, after, wait }, Box::new(answer)).unwrap();
        told
    }

    /// What there is now.
    fn look(events: &Events, channel: Option<&str>, after: Option<Cursor>) -> Seen {
        watch(events, channel, after, Duration::ZERO).try_recv().expect("answered at once")
    }

    #[test]
    fn a_watcher_gets_what_comes_and_goes_on_from_there() {
        let events = Events::new();
        events.announce("a", b"0");
        let start = look(&events, None, None);
        assert_eq!((start.texts().len(), start.missed, start.restarted), (0, 0, false));
        let waiting = watch(&events, None, None, LONG);
        assert!(waiting.try_recv().is_err());
        events.announce("a", b"1");
        events.announce("b", b"2");
        let first = waiting.try_recv().expect("the announcement answers");
        assert_eq!(first.events, [("a".to_owned(), "1".to_owned())]);
        assert_eq!(look(&events, None, Some(first.cursor)).texts(), ["2"]);
        let both = look(&events, None, Some(start.cursor));
        assert_eq!((both.texts(), both.missed), (vec!["1", "2"], 0));
        assert!(look(&events, None, Some(both.cursor)).texts().is_empty());
    }

    #[test]
    fn a_channel_s_watcher_sees_nothing_else() {
        let events = Events::new();
        let start = look(&events, Some("b"), None);
        let waiting = watch(&events, Some("b"), None, LONG);
        let everything = watch(&events, None, None, LONG);
        events.announce("a", b"1");
        assert!(waiting.try_recv().is_err());
        assert_eq!(everything.try_recv().unwrap().texts(), ["1"]);
        events.announce("b", b"2");
        events.announce("a", b"3");
        let seen = waiting.try_recv().unwrap();
        assert_eq!((seen.texts(), seen.missed), (vec!["2"], 0));
        assert_eq!(look(&events, Some("b"), Some(start.cursor)).texts(), ["2"]);
        // What was on other channels has been seen too.
        let seen = look(&events, Some("c"), Some(start.cursor));
        assert!(seen.texts().is_empty());
        assert!(look(&events, None, Some(seen.cursor)).texts().is_empty());
    }

    #[test]
    fn at_its_deadline_a_watcher_is_told_that_there_is_nothing() {
        let events = Events::new();
        events.announce("a", b"1");
        // The later one first: the thread has to look sooner than it meant to.
        let later = watch(&events, None, None, LONG);
        for _ in 0..3 {
            let sooner = watch(&events, Some("b"), None, Duration::from_millis(20));
            let seen = sooner.recv_timeout(PATIENCE).unwrap();
            assert!(seen.texts().is_empty());
            assert!(look(&events, None, Some(seen.cursor)).texts().is_empty());
        }
        assert!(later.try_recv().is_err());
    }

    #[test]
    fn what_is_forgotten_is_counted() {
        let events = Events::new();
        let start = look(&events, None, None);
        let many = EVENTS_MAX + 10;
        for number in 0..many {
            events.announce("a", number.to_string().as_bytes());
        }
        let seen = look(&events, None, Some(start.cursor));
        assert_eq!((seen.missed, seen.events.len()), (10, EVENTS_MAX));
        assert_eq!(seen.events[0].1, "10");
        // Missing something is news, even where nothing is left to show.
        let waiting = watch(&events, Some("b"), Some(start.cursor), LONG);
        assert_eq!(waiting.try_recv().unwrap().missed, 10);
        // Bytes are bounded too.
        let half = vec![b'7'; EVENTS_BYTES_MAX / 2 - 1];
        events.announce("a", &half);
        events.announce("b", &half);
        let seen = look(&events, None, Some(start.cursor));
        assert_eq!((seen.missed, seen.events.len()), (many as u64, 2));
        events.announce("a", &vec![b'7'; EVENTS_BYTES_MAX]);
        let seen = look(&events, None, Some(seen.cursor));
        assert_eq!((seen.missed, seen.events.len()), (1, 0));
    }

    #[test]
    fn a_cursor_of_an_earlier_life_is_noticed() {
        let (before, events) = (Events::new(), Events::new());
        before.announce("a", b"0");
        let cursor = look(&before, None, None).cursor;
        let text = cursor.to_string();
        assert_eq!(text.parse(), Ok(cursor));
        let seen = watch(&events, None, Some(cursor), LONG).try_recv().expect("that is news");
        assert!(seen.restarted && seen.texts().is_empty());
        events.announce("a", b"1");
        let seen = look(&events, None, Some(cursor));
        assert_eq!((seen.texts(), seen.restarted), (vec!["1"], true));
        assert!(!look(&events, None, Some(seen.cursor)).restarted);
        // Of the right life, but further than that ever went.
        let ahead = Cursor { number: 99, ..seen.cursor };
        assert!(look(&events, None, Some(ahead)).texts().is_empty());
        for bad in ["", "-", "1", "x-1", "1-x", "1-", "-1", "1-2-3"] {
            assert_eq!(bad.parse::<Cursor>(), Err(()), "{bad:?}");
        }
    }

    #[test]
    fn watchers_are_bounded_and_the_end_answers_all() {
        let events = Events::new();
        let waiting: Vec<_> = (0..WATCHERS_MAX).map(|_| watch(&events, None, None, LONG)).collect();
        let one_more = || Watch { channel: None, after: None, wait: LONG };
        let refused = events.watch(one_more(), Box::new(|_| panic!("refused")));
        assert!(matches!(refused, Err(WatchError::TooMany)));
        events.close();
        for one in waiting {
            assert!(one.try_recv().expect("answered by the end").texts().is_empty());
        }
        let refused = events.watch(one_more(), Box::new(|_| panic!("refused")));
        assert!(matches!(refused, Err(WatchError::Closed)));
        events.announce("a", b"1");
    }
}
