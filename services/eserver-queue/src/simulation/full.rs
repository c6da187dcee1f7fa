//! A full disk: producers are refused in time, consumers are not, and what they free is used.

use super::SimulatedDisk;
use crate::{Millis, Outcome, PutError, Queue, QueueSettings, Seq};

fn settings() -> QueueSettings {
    QueueSettings { segment_bytes_min: 16 << 10, segment_bytes_max: 64 << 10, ..Default::default() }
}

/// Puts until the disk is full; returns how many messages there are then.
fn fill(queue: &mut Queue<SimulatedDisk>, payload: &[u8], now: Millis) -> u64 {
    loop {
        match queue.put(payload, None, 0, now) {
            Ok(_) => {
                queue.commit().unwrap();
            }
            Err(PutError::NoSpace) => return queue.length(),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn consumers_empty_a_full_disk_and_producers_go_on() {
    for payload_bytes in [1, 8, 60, 300, 2000] {
        for in_order in [true, false] {
            let disk = SimulatedDisk::new(1);
            disk.set_capacity(6 * (16 << 10));
            let mut now = Millis::new(1_700_000_000_000);
            let (mut queue, _) = Queue::open_on(disk.clone(), &settings(), now).unwrap();
            let payload = vec![b'x'; payload_bytes];
            for round in 0..20 {
                let length = fill(&mut queue, &payload, now);
                // Of six segments one is written to, and as many as two are kept as spares.
                assert!(length > 5, "round {round}: room for {length} of {payload_bytes} bytes");
                if in_order {
                    pop_all(&mut queue, now);
                } else {
                    acknowledge_all(&mut queue, now);
                }
                assert_eq!(queue.length(), 0);
                now = now.plus(200);
                queue.put(&payload, None, 0, now).expect("room was made");
            }
            queue.close().unwrap();
            let (queue, recovery) = Queue::open_on(disk, &settings(), now).unwrap();
            assert_eq!((queue.length(), recovery.is_clean), (1, true));
        }
    }
}

fn pop_all(queue: &mut Queue<SimulatedDisk>, now: Millis) {
    let mut payload = Vec::new();
    while queue.pop(now, &mut payload).expect("consumers have room").is_some() {
        payload.clear();
        queue.commit().unwrap();
    }
}

/// Reserves some, acknowledges them last first, one commit each.
fn acknowledge_all(queue: &mut Queue<SimulatedDisk>, now: Millis) {
    loop {
        let mut seqs: Vec<Seq> = Vec::new();
        queue.reserve(now, 1000, 10, |message| seqs.push(message.seq)).unwrap();
        queue.commit().unwrap();
        if seqs.is_empty() {
            return;
        }
        for seq in seqs.into_iter().rev() {
            assert_eq!(queue.ack(seq, now).expect("consumers have room"), Outcome::Done);
            queue.commit().unwrap();
        }
    }
}

#[test]
fn space_that_returns_is_used_within_a_tenth_of_a_second() {
    let disk = SimulatedDisk::new(1);
    disk.set_capacity(3 * (16 << 10));
    let now = Millis::new(1_700_000_000_000);
    let (mut queue, _) = Queue::open_on(disk.clone(), &settings(), now).unwrap();
    let payload = [b'x'; 500];
    fill(&mut queue, &payload, now);
    disk.set_capacity(u64::MAX);
    assert!(matches!(queue.put(&payload, None, 0, now.plus(99)), Err(PutError::NoSpace)));
    queue.put(&payload, None, 0, now.plus(100)).unwrap();
    assert!(queue.stats().totals.refused_no_space > 0);
}

#[test]
fn a_full_disk_does_not_keep_a_queue_from_opening() {
    let disk = SimulatedDisk::new(1);
    disk.set_capacity(3 * (16 << 10));
    let now = Millis::new(1_700_000_000_000);
    let (mut queue, _) = Queue::open_on(disk.clone(), &settings(), now).unwrap();
    let length = fill(&mut queue, &[b'x'; 500], now);
    drop(queue);
    for restart in 0..100 {
        let (queue, recovery) = Queue::open_on(disk.clone(), &settings(), now).unwrap();
        assert_eq!(queue.length(), length, "restart {restart}");
        assert_eq!((recovery.damages.len(), recovery.torn), (0, None));
    }
    let (mut queue, _) = Queue::open_on(disk.clone(), &settings(), now).unwrap();
    pop_all(&mut queue, now);
}
