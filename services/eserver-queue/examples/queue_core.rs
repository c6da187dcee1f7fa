//! How fast the queue's core is on one thread, without sockets:
//! `cargo run --release -p eserver-queue --example queue_core -- DIRECTORY [MESSAGES]`
//!
//! Puts messages of 128 bytes, a thousand per commit, restarts, and pops them all; then puts and
//! pops in turn, so that the ring turns without growing. DIRECTORY must not exist yet, and is left
//! for you to look at.

use std::time::{Duration, Instant};

use eserver_queue::{Millis, Queue, QueueSettings, SyncPolicy};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().ok_or("usage: queue_core DIRECTORY [MESSAGES]")?;
    let messages: u64 = arguments.next().map_or(Ok(1_000_000), |text| text.parse())?;
    let now = Millis::new(1_700_000_000_000);
    for (name, sync) in [("always", SyncPolicy::Always), ("never", SyncPolicy::Never)] {
        let settings = QueueSettings { sync, length_max: messages, ..QueueSettings::default() };
        let path = std::path::Path::new(&directory).join(name);
        std::fs::create_dir_all(&directory)?;
        let (mut queue, _) = Queue::open(&path, &settings, now)?;

        let payload = [b'x'; 128];
        let mut putting = Duration::ZERO;
        let start = Instant::now();
        for _ in 0..messages / 1000 {
            let batch = Instant::now();
            for _ in 0..1000 {
                queue.put(&payload, None, 0, now)?;
            }
            putting += batch.elapsed();
            queue.commit()?;
        }
        report(name, "put, without commits", messages, putting.as_secs_f64());
        report(name, "put and committed", messages, start.elapsed().as_secs_f64());
        drop(queue);

        let start = Instant::now();
        let (mut queue, recovery) = Queue::open(&path, &settings, now)?;
        report(name, "recovered", recovery.messages, start.elapsed().as_secs_f64());

        let start = Instant::now();
        let mut popped = 0;
        let mut bytes = Vec::new();
        while queue.pop(now, &mut bytes)?.is_some() {
            bytes.clear();
            popped += 1;
            if popped % 1000 == 0 {
                queue.commit()?;
            }
        }
        report(name, "popped and committed", popped, start.elapsed().as_secs_f64());

        let (mut putting, mut popping) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..messages / 1000 {
            let start = Instant::now();
            for _ in 0..1000 {
                queue.put(&payload, None, 0, now)?;
            }
            putting += start.elapsed();
            queue.commit()?;
            let start = Instant::now();
            while queue.pop(now, &mut bytes)?.is_some() {
                bytes.clear();
            }
            popping += start.elapsed();
            queue.commit()?;
        }
        queue.close()?;
        let (putting, popping) = (putting.as_secs_f64(), popping.as_secs_f64());
        report(name, "put in turn, without commits", messages, putting);
        report(name, "popped in turn, without commits", messages, popping);
    }
    Ok(())
}

fn report(sync: &str, what: &str, messages: u64, seconds: f64) {
    let rate = messages as f64 / seconds / 1e6;
    println!("sync {sync:7} {messages} {what}: {seconds:.3} s, {rate:.2} million per second");
}
