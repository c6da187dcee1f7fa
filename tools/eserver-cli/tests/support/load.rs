//! Honest producers and a consumer: each remembers what was promised to it, so that afterwards the
//! queue can be held to exactly that.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use serde_json::json;

use super::client::{Client, Reply, frame, popped};
use super::eventually;

/// Pops that are on their way at once while a queue is emptied.
const DRAIN_DEPTH: usize = 256;

/// Producers, each with one put on its way, until they are told to stop or the server is gone.
///
/// A message reads `TAG/PRODUCER/NUMBER`, and numbers of a producer grow by one from zero.
pub(crate) struct Load {
    tag: String,
    producers: Vec<JoinHandle<Producer>>,
    consumer: Option<JoinHandle<Vec<String>>>,
    acked: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

/// What one producer knows at its end.
pub(crate) struct Producer {
    /// Puts that were acknowledged: the numbers below this.
    pub(crate) acked: u64,
    /// The reply that was neither an acknowledgement nor a closed connection, if one came.
    pub(crate) refusal: Option<Reply>,
}

/// What the clients of a load were promised.
pub(crate) struct Promises {
    tag: String,
    /// One per producer.
    pub(crate) producers: Vec<Producer>,
    /// What the consumer got, in order.
    pub(crate) taken: Vec<String>,
}

impl Load {
    /// Starts `producers` against the default queue; `tag` tells this load from earlier ones.
    pub(crate) fn start(address: SocketAddr, producers: usize, tag: &str) -> Self {
        let acked = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let producers = (0..producers)
            .map(|producer| {
                let name = format!("{tag}/{producer}");
                let (acked, stop) = (Arc::clone(&acked), Arc::clone(&stop));
                let client = Client::connect(address);
                std::thread::spawn(move || produce(client, &name, &acked, &stop))
            })
            .collect();
        Self { tag: tag.to_owned(), producers, consumer: None, acked, stop }
    }

    /// Adds one consumer that pops as fast as it can.
    pub(crate) fn with_consumer(mut self, address: SocketAddr) -> Self {
        let stop = Arc::clone(&self.stop);
        let client = Client::connect(address);
        self.consumer = Some(std::thread::spawn(move || consume(client, &stop)));
        self
    }

    /// Waits until this many puts were acknowledged.
    pub(crate) fn wait_for_acks(&self, count: u64) {
        eventually("the producers' puts are acknowledged", || {
            (self.acked.load(Ordering::Relaxed) >= count).then_some(())
        });
    }

    /// Waits until all producers were refused or cut off; more acknowledgements than `acks_max`
    /// before that fail the test.
    pub(crate) fn wait_for_end(&self, acks_max: u64) {
        eventually("the producers are refused or cut off", || {
            let acked = self.acked.load(Ordering::Relaxed);
            assert!(acked <= acks_max, "acknowledgements go on: {acked} by now");
            let ended = self.producers.iter().all(JoinHandle::is_finished);
            ended.then_some(())
        });
    }

    /// Waits for the end of all clients, which comes when the server goes or refuses.
    pub(crate) fn join(mut self) -> Promises {
        self.collect()
    }

    /// Lets each client finish what it has on its way.
    pub(crate) fn stop(mut self) -> Promises {
        self.stop.store(true, Ordering::Relaxed);
        self.collect()
    }

    fn collect(&mut self) -> Promises {
        let producers = std::mem::take(&mut self.producers)
            .into_iter()
            .map(|producer| producer.join().expect("a producer does not panic"))
            .collect();
        self.stop.store(true, Ordering::Relaxed); // nothing new comes: the consumer may end too
        let taken = self
            .consumer
            .take()
            .map(|consumer| consumer.join().expect("a consumer does not panic"));
        Promises { tag: self.tag.clone(), producers, taken: taken.unwrap_or_default() }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if !std::thread::panicking() {
            self.collect(); // while a test fails, the server's own guard ends the clients
        }
    }
}

fn produce(mut client: Client, name: &str, total: &AtomicU64, stop: &AtomicBool) -> Producer {
    let mut acked = 0;
    let mut refusal = None;
    while !stop.load(Ordering::Relaxed) {
        let body = json!({ "sql": format!("{name}/{acked}") }).to_string();
        match client.try_ask(8001, body) {
            Some(reply) if reply.command == 8001 => {
                acked += 1;
                total.fetch_add(1, Ordering::Relaxed);
            }
            other => {
                refusal = other;
                break;
            }
        }
    }
    Producer { acked, refusal }
}

fn consume(mut client: Client, stop: &AtomicBool) -> Vec<String> {
    let mut taken = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        match client.try_ask(8002, "") {
            Some(reply) if reply.command == 8002 => {
                taken.extend(popped(&reply));
            }
            Some(reply) if popped_nothing(&reply) => std::thread::yield_now(),
            _ => break, // the server is on its way out
        }
    }
    taken
}

fn popped_nothing(reply: &Reply) -> bool {
    reply.command == 0 && reply.json() == json!({ "msg": "error" })
}

/// Empties the default queue, oldest first.
pub(crate) fn drain(address: SocketAddr) -> Vec<String> {
    let mut client = Client::connect(address);
    let burst = frame(8002, "").repeat(DRAIN_DEPTH);
    let mut messages = Vec::new();
    loop {
        client.send_raw(&burst).expect("the server reads");
        let before = messages.len();
        for _ in 0..DRAIN_DEPTH {
            messages.extend(popped(&client.reply()));
        }
        if messages.len() - before < DRAIN_DEPTH {
            return messages;
        }
    }
}

impl Promises {
    /// Puts that were acknowledged to any producer.
    pub(crate) fn acked(&self) -> u64 {
        self.producers.iter().map(|producer| producer.acked).sum()
    }

    /// Holds the queue to its word, given what was `left` in it afterwards.
    ///
    /// Every acknowledged message is there once and in its producer's order. Two things no
    /// protocol can rule out: a put whose acknowledgement was on its way may be there, one per
    /// producer; a pop whose reply was on its way may have taken its message, `unheard` in all.
    pub(crate) fn check(&self, left: &[String], unheard: u64) {
        let mut numbers: HashMap<&str, Vec<u64>> = HashMap::new();
        for message in self.taken.iter().chain(left) {
            let (name, number) = message.rsplit_once('/').unwrap_or_else(|| {
                panic!("a message nobody put: {message:?}");
            });
            let number = number.parse().expect("a number that a producer wrote");
            numbers.entry(name).or_default().push(number);
        }
        let mut missing = Vec::new();
        for (index, producer) in self.producers.iter().enumerate() {
            let name = format!("{}/{index}", self.tag);
            let seen = numbers.remove(name.as_str()).unwrap_or_default();
            assert!(
                seen.is_sorted_by(|before, after| before < after),
                "{name}: out of order or twice: {seen:?}"
            );
            let newest = seen.last().copied();
            assert!(
                newest.is_none_or(|newest| newest <= producer.acked),
                "{name}: {newest:?} was never put, {} were acknowledged",
                producer.acked
            );
            let all = (0..producer.acked).filter(|number| seen.binary_search(number).is_err());
            missing.extend(all.map(|number| format!("{name}/{number}")));
        }
        assert!(numbers.is_empty(), "messages of nobody: {numbers:?}");
        assert!(
            missing.len() as u64 <= unheard,
            "{} of {} acknowledged messages are lost, at most {unheard} can be on their way: {:?}",
            missing.len(),
            self.acked(),
            &missing[..missing.len().min(20)]
        );
    }
}
