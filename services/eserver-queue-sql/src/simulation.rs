//! Drains in a world made up from a seed: the database refuses, fails, hangs up in the middle of a
//! commit, and the process dies at any moment; in the end every message was applied once.

mod database;
mod queue;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use eserver::{Announce, Feed};
use fastrand::Rng;
use tokio::sync::watch;
use tokio::task::LocalSet;
use tokio::time::sleep;

use crate::dispatcher::{Dealing, Dispatcher};
use crate::lane::{Lane, Origin};
use crate::message::Reader;
use crate::sink::Place;
use crate::stats::Stats;
use crate::{Engine, simulation};
use database::{Database, Faults, World};
use queue::FakeQueue;

/// Worlds that every run of the tests goes through.
const SEEDS: u64 = 400;

/// How often the process dies in one world, at most.
const CRASHES_MAX: usize = 6;

struct Nobody;

impl Announce for Nobody {
    fn announce(&self, _: &str, _: &[u8]) {}
}

/// One life of the process, until the messages are all settled or its time is over.
fn live(world: &World, queue: &Arc<FakeQueue>, lanes: u32, rng: &mut Rng, ends: Option<Duration>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing");
    let statements = vec![("add".to_owned(), "insert into t(num) values (?)".to_owned())];
    let reader = Reader::new(Engine::Postgres, &statements, false).map_err(|(name, _)| name);
    let reader = reader.expect("a plain statement");
    let dealing =
        Dealing { batch_max: rng.usize(1..20), linger: Duration::from_millis(rng.u64(0..10)) };
    let stats = Arc::new(Stats::default());
    let retries_max = rng.u32(0..4);
    LocalSet::new().block_on(&runtime, async {
        let feed = Arc::clone(queue);
        let (mut dispatcher, finishing) =
            Dispatcher::new(feed, Arc::new(Nobody), reader, Arc::clone(&stats), dealing);
        let origin = Rc::new(Origin::new(queue.next_id()));
        for lane in 0..lanes {
            let place = Place { queue: "sim".to_owned(), epoch: 1, lane };
            let (world, called, stats) = (world.clone(), "a dream".to_owned(), Arc::clone(&stats));
            let origin = Rc::clone(&origin);
            let lane = Lane::<Database>::new(world, place, called, retries_max, stats, origin);
            tokio::task::spawn_local(dispatcher.add_lane(&finishing, lane));
        }
        let (stop, stopped) = watch::channel(false);
        let work = tokio::task::spawn_local(dispatcher.run(stopped));
        let all_settled = async {
            while !queue.is_settled() {
                sleep(Duration::from_millis(20)).await;
                // Nobody can say whose fault it is when the last message of all breaks the
                // connection; but one more will come some day.
                if rng.u8(..) == 0 {
                    queue.put_good();
                }
            }
        };
        tokio::select! {
            () = all_settled => {
                stop.send(true).expect("it works on");
                work.await.expect("no panic").expect("no failure");
            }
            () = sleep(ends.unwrap_or(Duration::from_secs(100_000))) => {
                // The process dies: whatever its tasks were at, they are gone.
                assert!(ends.is_some(), "the drain is stuck: {:?}", stats.report());
            }
        }
    });
    world.borrow_mut().connections_end(rng);
    queue.restart();
}

fn run(seed: u64) {
    let mut rng = Rng::with_seed(seed);
    // The drain's own dice, which are this thread's.
    fastrand::seed(seed);
    let messages = rng.u64(1..200);
    let keys = rng.u64(1..8);
    let poison_share = *rng.choice(&[0.0, 0.02, 0.3]).expect("not empty");
    let world = database::world(rng.fork(), Faults::drawn(&mut rng));
    let queue = Arc::new(FakeQueue::new(rng.fork()));
    let mut poison = BTreeSet::new();
    // Messages that break the connection, wherever they are.
    let lethal: BTreeSet<u64> = (0..rng.usize(0..3)).map(|_| rng.u64(1..=messages)).collect();
    for id in 1..=messages {
        let is_poison = rng.f64() < poison_share || lethal.contains(&id);
        let num = if is_poison { -(id as i64) } else { id as i64 };
        poison.extend(is_poison.then_some(id));
        let key = if lethal.contains(&id) { 0 } else { rng.u64(0..keys) };
        let key = if key == 0 { String::new() } else { format!(r#","key":"k{key}""#) };
        queue.put(format!(r#"{{"stmt":"add","params":[{num}]{key}}}"#), rng.u8(0..20) == 0);
    }
    world.borrow_mut().lethal = lethal.iter().map(|&id| -(id as i64)).collect();
    for _ in 0..rng.usize(0..=CRASHES_MAX) {
        let ends = Duration::from_millis(rng.u64(1..400));
        let lanes = rng.u32(1..5);
        live(&world, &queue, lanes, &mut rng, Some(ends));
        // Not those that would then be alone.
        queue.kick_buried(|id| rng.bool() && !lethal.contains(&id));
    }
    live(&world, &queue, 2, &mut rng, None);
    // Deadlocks may have had good messages buried. Somebody kicks them when the trouble is over.
    world.borrow_mut().faults = Faults::NONE;
    queue.kick_buried(|id| !poison.contains(&id));
    live(&world, &queue, 3, &mut rng, None);

    let world = world.borrow();
    let mut applied: BTreeMap<u64, usize> = BTreeMap::new();
    for &num in &world.table {
        *applied.entry(num.unsigned_abs()).or_default() += 1;
    }
    for id in 1..=queue.next_id() - 1 {
        let times = applied.get(&id).copied().unwrap_or(0);
        let expected = usize::from(!poison.contains(&id));
        assert_eq!(times, expected, "message {id} was applied {times} times");
        assert_eq!(queue.is_buried(id), poison.contains(&id), "message {id}");
    }
    let in_order = world.table.iter().filter(|num| !world.excused.contains(num));
    queue.check_order(in_order.copied());
}

#[test]
fn every_message_is_applied_once_in_every_world() {
    let first = std::env::var("ESERVER_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = first.map_or(0..SEEDS, |seed| seed..seed + 1);
    for seed in seeds {
        let result = std::panic::catch_unwind(|| simulation::run(seed));
        if let Err(panic) = result {
            eprintln!("the world with ESERVER_SEED={seed} failed");
            std::panic::resume_unwind(panic);
        }
    }
}
