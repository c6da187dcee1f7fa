//! A database that does all a database may do to its client.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use fastrand::Rng;
use tokio::time::sleep;

use crate::message::{Message, Param};
use crate::position::Position;
use crate::sink::{ApplyError, Class, Place, Sink, SinkError};

pub(super) type World = Rc<RefCell<Server>>;

/// How often what goes wrong, each between 0 and 1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Faults {
    /// A call breaks the connection before it has any effect.
    hangup: f64,
    /// A commit breaks the connection, before or after it took effect.
    hangup_in_commit: f64,
    /// A transaction is told to be tried again.
    deadlock: f64,
    /// A connection cannot be made.
    refuse: f64,
}

impl Faults {
    pub(super) const NONE: Faults =
        Faults { hangup: 0.0, hangup_in_commit: 0.0, deadlock: 0.0, refuse: 0.0 };

    pub(super) fn drawn(rng: &mut Rng) -> Self {
        let mut draw = || [0.0, 0.02, 0.2][rng.usize(0..3)];
        Faults { hangup: draw(), hangup_in_commit: draw(), deadlock: draw(), refuse: draw() }
    }
}

/// What survives: the table, the rows of the lanes; and what is going on.
pub(super) struct Server {
    pub(super) table: Vec<i64>,
    /// Messages that failed alone without being at fault: they may be refused, and lose their place
    /// when the process dies before the queue hears of it.
    pub(super) excused: BTreeSet<i64>,
    /// Messages that break the connection.
    pub(super) lethal: BTreeSet<i64>,
    rows: BTreeMap<u32, Position>,
    /// Commits that were sent over connections that then broke: they may still take effect, until
    /// somebody locks the row.
    late: Vec<(u32, Transaction)>,
    rng: Rng,
    pub(super) faults: Faults,
}

#[derive(Debug, Clone, Default)]
struct Transaction {
    row: Position,
    added: Vec<i64>,
    savepoint: Option<usize>,
    /// Nothing but rolling back is possible.
    is_broken: bool,
}

pub(super) fn world(rng: Rng, faults: Faults) -> World {
    let server = Server {
        table: Vec::new(),
        excused: BTreeSet::new(),
        lethal: BTreeSet::new(),
        rows: BTreeMap::new(),
        late: Vec::new(),
        rng,
        faults,
    };
    Rc::new(RefCell::new(server))
}

impl Server {
    fn happens(&mut self, share: f64) -> bool {
        self.rng.f64() < share
    }

    fn take_effect(&mut self, lane: u32, transaction: Transaction) {
        self.table.extend(transaction.added);
        self.rows.insert(lane, transaction.row);
    }

    /// Commits on their way arrive, or never do; nothing stays open.
    pub(super) fn connections_end(&mut self, rng: &mut Rng) {
        for (lane, transaction) in std::mem::take(&mut self.late) {
            if rng.bool() {
                self.take_effect(lane, transaction);
            }
        }
    }
}

pub(super) struct Database {
    world: World,
    lane: u32,
    open: Option<Transaction>,
}

fn error(class: Class, text: &str) -> SinkError {
    SinkError { class, text: text.to_owned() }
}

impl Database {
    /// A call takes its time, and may be the last.
    async fn call(&mut self) -> Result<(), SinkError> {
        let wait = self.world.borrow_mut().rng.u64(0..3);
        sleep(Duration::from_millis(wait)).await;
        let mut world = self.world.borrow_mut();
        let share = world.faults.hangup;
        if world.happens(share) {
            self.open = None;
            return Err(error(Class::Unreachable, "hung up"));
        }
        Ok(())
    }

    /// A message that failed alone may be refused, without being at fault.
    fn excuse(&self, messages: &[Message]) {
        if let [Message { params, .. }] = messages
            && let [Param::Integer(num)] = params[..]
        {
            self.world.borrow_mut().excused.insert(num);
        }
    }

    fn transaction(&mut self) -> &mut Transaction {
        self.open.as_mut().expect("a call outside of a transaction")
    }
}

impl Sink for Database {
    type Target = World;

    async fn open(world: &World, place: &Place) -> Result<(Self, Position), SinkError> {
        let wait = world.borrow_mut().rng.u64(0..5);
        sleep(Duration::from_millis(wait)).await;
        let mut server = world.borrow_mut();
        let share = server.faults.refuse;
        if server.happens(share) {
            return Err(error(Class::Unreachable, "refused"));
        }
        // Taking the rows' locks, in which open transactions end, one way or the other.
        let mut rng = server.rng.fork();
        server.connections_end(&mut rng);
        let mut position = Position::default();
        for row in server.rows.values() {
            position.join(row);
        }
        server.rows.entry(place.lane).or_default();
        Ok((Database { world: Rc::clone(world), lane: place.lane, open: None }, position))
    }

    async fn begin(&mut self, position: &Position) -> Result<(), SinkError> {
        assert!(self.open.is_none(), "a transaction inside another");
        self.call().await?;
        self.open = Some(Transaction { row: position.clone(), ..Transaction::default() });
        Ok(())
    }

    async fn apply(
        &mut self,
        messages: &[Message],
        rows: &mut Vec<Option<u64>>,
    ) -> Result<(), ApplyError> {
        let all = 0..messages.len();
        if let Err(error) = self.call().await {
            self.excuse(messages);
            return Err(ApplyError { at: all, error });
        }
        let deadlock = {
            let mut world = self.world.borrow_mut();
            let share = world.faults.deadlock;
            world.happens(share)
        };
        let coarse = self.world.borrow_mut().rng.bool();
        let nums = messages.iter().filter_map(|message| match message.params.first() {
            Some(Param::Integer(num)) => Some(*num),
            _ => None,
        });
        if nums.clone().any(|num| self.world.borrow().lethal.contains(&num)) {
            self.open = None;
            return Err(ApplyError { at: all, error: error(Class::Unreachable, "killed") });
        }
        let transaction = self.transaction();
        assert!(!transaction.is_broken, "a failed transaction goes on");
        if deadlock {
            transaction.is_broken = true;
            self.excuse(messages);
            return Err(ApplyError { at: all, error: error(Class::Retry, "deadlock") });
        }
        for (at, message) in messages.iter().enumerate() {
            let Some(Param::Integer(num)) = message.params.first() else {
                panic!("an unexpected message: {message:?}");
            };
            if *num < 0 {
                transaction.is_broken = true;
                let at = if coarse { all } else { at..at + 1 };
                return Err(ApplyError { at, error: error(Class::Statement, "negative") });
            }
            transaction.added.push(*num);
            rows.push(Some(1));
        }
        Ok(())
    }

    async fn savepoint(&mut self) -> Result<(), SinkError> {
        self.call().await?;
        let transaction = self.transaction();
        assert!(transaction.savepoint.is_none() && !transaction.is_broken);
        transaction.savepoint = Some(transaction.added.len());
        Ok(())
    }

    async fn rollback_to_savepoint(&mut self) -> Result<(), SinkError> {
        self.call().await?;
        let transaction = self.transaction();
        let savepoint = transaction.savepoint.take().expect("a savepoint was set");
        transaction.added.truncate(savepoint);
        transaction.is_broken = false;
        Ok(())
    }

    async fn release_savepoint(&mut self) -> Result<(), SinkError> {
        self.call().await?;
        let transaction = self.transaction();
        assert!(transaction.savepoint.take().is_some() && !transaction.is_broken);
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), SinkError> {
        let alone = self.transaction().added.clone();
        if let Err(error) = self.call().await {
            if let [num] = alone[..] {
                self.world.borrow_mut().excused.insert(num);
            }
            return Err(error);
        }
        let transaction = self.open.take().expect("a transaction is open");
        assert!(!transaction.is_broken, "a failed transaction is committed");
        let mut world = self.world.borrow_mut();
        let share = world.faults.hangup_in_commit;
        if world.happens(share) {
            if let [num] = transaction.added[..] {
                world.excused.insert(num);
            }
            match world.rng.u8(0..3) {
                0 => world.take_effect(self.lane, transaction),
                1 => world.late.push((self.lane, transaction)),
                _ => {}
            }
            return Err(error(Class::Unreachable, "hung up in the commit"));
        }
        world.take_effect(self.lane, transaction);
        Ok(())
    }

    async fn rollback(&mut self) -> Result<(), SinkError> {
        self.call().await?;
        self.open = None;
        Ok(())
    }
}
