//! A queue in a real directory, as its keeper uses it.

use eserver_queue::{
    Millis, Outcome, Placeholder, PutError, Queue, QueueSettings, Seq, SyncPolicy, WhenFull,
};
use tempfile::TempDir;

const NOW: Millis = Millis::new(1_700_000_000_000);

fn small() -> QueueSettings {
    QueueSettings { segment_bytes_min: 16 << 10, segment_bytes_max: 64 << 10, ..Default::default() }
}

fn open(directory: &TempDir, settings: &QueueSettings, now: Millis) -> Queue {
    let (queue, recovery) =
        Queue::open(directory.path().join("q"), settings, now).expect("a queue always opens");
    assert_eq!(recovery.damages, []);
    queue
}

fn pop(queue: &mut Queue, now: Millis) -> Option<(u64, String)> {
    let mut payload = Vec::new();
    let seq = queue.pop(now, &mut payload).expect("the disk works")?;
    Some((seq.get(), String::from_utf8(payload).expect("text")))
}

fn reserve(queue: &mut Queue, now: Millis, lease_ms: u64, max: usize) -> Vec<(u64, u16)> {
    let mut reserved = Vec::new();
    let count = queue
        .reserve(now, lease_ms, max, |message| {
            reserved.push((message.seq.get(), message.attempts));
        })
        .expect("the disk works");
    assert_eq!(count, reserved.len());
    reserved
}

#[test]
fn numbers_go_on_across_restarts() {
    let directory = tempfile::tempdir().unwrap();
    let text = b"insert into t(num) values (%d)";
    let placeholder = Placeholder::parse(text);
    for round in 0..3 {
        let mut queue = open(&directory, &small(), NOW);
        for number in [2 * round + 1, 2 * round + 2] {
            let seq = queue.put(text, placeholder, 0, NOW).unwrap();
            assert_eq!(seq, Seq::new(number));
            let expected = format!("insert into t(num) values ({number})");
            assert_eq!(pop(&mut queue, NOW), Some((number, expected)));
        }
        // Also when nothing is left and the process is just gone.
        assert!(queue.commit().unwrap().synced);
    }
}

#[test]
fn the_ring_turns_in_bounded_space() {
    let directory = tempfile::tempdir().unwrap();
    let mut queue = open(&directory, &small(), NOW);
    let payload = [b'x'; 500];
    for _ in 0..2000 {
        for _ in 0..5 {
            queue.put(&payload, None, 0, NOW).unwrap();
        }
        queue.commit().unwrap();
        for _ in 0..5 {
            pop(&mut queue, NOW).unwrap();
        }
        queue.commit().unwrap();
    }
    let stats = queue.stats();
    assert_eq!((stats.ready, stats.next_seq), (0, 10_001));
    assert!(stats.disk_bytes <= 4 * (64 << 10), "{stats:?}");
    drop(queue);
    let files = std::fs::read_dir(directory.path().join("q")).unwrap().count();
    assert!(files <= 4, "{files} files after 5 MB through 64 KiB segments");
    assert_eq!(open(&directory, &small(), NOW).stats().next_seq, 10_001);
}

#[test]
fn a_full_queue_rejects_or_overwrites_the_oldest() {
    let directory = tempfile::tempdir().unwrap();
    let settings = QueueSettings { length_max: 3, ..small() };
    let mut queue = open(&directory, &settings, NOW);
    for text in ["a", "b", "c"] {
        queue.put(text.as_bytes(), None, 0, NOW).unwrap();
    }
    let error = queue.put(b"d", None, 0, NOW).unwrap_err();
    assert!(matches!(error, PutError::Full { length_max: 3 }), "{error}");

    let overwrite = QueueSettings { full: WhenFull::OverwriteOldest, ..settings };
    queue.configure(&overwrite);
    assert_eq!(reserve(&mut queue, NOW, 1000, 1), [(1, 1)]);
    queue.put(b"d", None, 0, NOW).unwrap();
    assert_eq!(queue.length(), 3);
    assert_eq!(queue.ack(Seq::new(2), NOW).unwrap(), Outcome::Missing, "the oldest not leased");
    reserve(&mut queue, NOW, 1000, 9);
    assert!(matches!(queue.put(b"e", None, 0, NOW), Err(PutError::Full { .. })), "all leased");
    queue.close().unwrap();
    let mut queue = open(&directory, &overwrite, NOW);
    assert_eq!(pop(&mut queue, NOW), Some((1, "a".into())));
    assert_eq!(pop(&mut queue, NOW), Some((3, "c".into())));
    assert_eq!(pop(&mut queue, NOW), Some((4, "d".into())));
    assert_eq!(pop(&mut queue, NOW), None);
}

#[test]
fn a_lease_ends_and_the_message_is_back_in_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let mut queue = open(&directory, &small(), NOW);
    for text in ["a", "b", "c"] {
        queue.put(text.as_bytes(), None, 0, NOW).unwrap();
    }
    assert_eq!(reserve(&mut queue, NOW, 100, 2), [(1, 1), (2, 1)]);
    assert_eq!(queue.next_deadline(), Some(NOW.plus(100)));
    assert_eq!(queue.release(Seq::new(2), 0, NOW).unwrap(), Outcome::Done);
    assert_eq!(queue.release(Seq::new(2), 0, NOW).unwrap(), Outcome::NotApplicable);
    assert_eq!(reserve(&mut queue, NOW.plus(99), 500, 1), [(2, 2)]);
    queue.tick(NOW.plus(100)).unwrap();
    assert_eq!(queue.stats().ready, 2);
    // The first consumer is late, but its work is done.
    assert_eq!(queue.ack(Seq::new(1), NOW.plus(101)).unwrap(), Outcome::Done);
    assert_eq!(queue.bury(Seq::new(2), "no such table", NOW.plus(101)).unwrap(), Outcome::Done);
    assert_eq!(queue.ack(Seq::new(2), NOW.plus(101)).unwrap(), Outcome::NotApplicable);
    assert_eq!(queue.length(), 1);
    queue.commit().unwrap();
    drop(queue);

    let mut queue = open(&directory, &small(), NOW);
    let mut shown = Vec::new();
    let show = |buried: eserver_queue::Buried<'_>| {
        shown.push((buried.seq.get(), buried.attempts, buried.reason.to_owned()));
    };
    assert_eq!(queue.buried(Seq::new(0), 10, show).unwrap(), 1);
    assert_eq!(shown, [(2, 2, "no such table".to_owned())]);
    assert_eq!(queue.kick(Seq::new(2), NOW).unwrap(), Outcome::Done);
    assert_eq!(reserve(&mut queue, NOW, 100, 9), [(2, 3), (3, 1)]);
    assert_eq!(queue.release(Seq::new(2), 50, NOW).unwrap(), Outcome::Done);
    assert_eq!(queue.delete(Seq::new(3), NOW).unwrap(), Outcome::Done);
    queue.commit().unwrap();
    drop(queue);

    // A delay outlives the process.
    let mut queue = open(&directory, &small(), NOW.plus(20));
    assert_eq!((queue.stats().delayed, queue.next_deadline()), (1, Some(NOW.plus(50))));
    assert_eq!(pop(&mut queue, NOW.plus(49)), None);
    assert_eq!(pop(&mut queue, NOW.plus(50)), Some((2, "b".into())));
}

#[test]
fn old_messages_do_not_hold_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let mut queue = open(&directory, &small(), NOW);
    for number in 0..40 {
        queue.put(format!("old {number}").as_bytes(), None, 0, NOW).unwrap();
    }
    let reserved = reserve(&mut queue, NOW, 1000, 40);
    for &(seq, _) in reserved.iter().take(20) {
        queue.bury(Seq::new(seq), &format!("reason {seq}"), NOW).unwrap();
    }
    for &(seq, _) in reserved.iter().skip(20).take(10) {
        queue.release(Seq::new(seq), 1_000_000, NOW).unwrap();
    }
    for _ in 0..3000 {
        queue.put(&[b'n'; 400], None, 0, NOW).unwrap();
        queue.commit().unwrap();
        pop(&mut queue, NOW).unwrap();
        queue.commit().unwrap();
    }
    let stats = queue.stats();
    assert!(stats.disk_bytes <= 8 * (64 << 10), "{stats:?}");
    assert!(stats.totals.moved >= 40, "{stats:?}");
    assert_eq!((stats.buried, stats.delayed, stats.leased), (20, 10, 10));
    assert_eq!(queue.ack(Seq::new(40), NOW).unwrap(), Outcome::Done, "the lease goes on");
    queue.commit().unwrap();
    drop(queue);

    let mut queue = open(&directory, &small(), NOW);
    let mut shown = Vec::new();
    let show = |buried: eserver_queue::Buried<'_>| {
        let payload = String::from_utf8(buried.payload.to_vec()).unwrap();
        shown.push((buried.seq.get(), buried.attempts, buried.reason.to_owned(), payload));
    };
    queue.buried(Seq::new(0), 100, show).unwrap();
    let expected =
        (1..=20).map(|seq| (seq, 1, format!("reason {seq}"), format!("old {}", seq - 1)));
    assert_eq!(shown, expected.collect::<Vec<_>>());
    for number in 31..40 {
        assert_eq!(pop(&mut queue, NOW), Some((number, format!("old {}", number - 1))));
    }
    assert_eq!(pop(&mut queue, NOW), None);
    assert_eq!(pop(&mut queue, NOW.plus(1_000_000)), Some((21, "old 20".into())));
}

#[test]
fn what_is_too_long_is_refused_before_anything_happens() {
    let directory = tempfile::tempdir().unwrap();
    let settings = QueueSettings { payload_bytes_max: 100, ..small() };
    let mut queue = open(&directory, &settings, NOW);
    assert!(matches!(
        queue.put(&[0; 101], None, 0, NOW),
        Err(PutError::TooLong { bytes: 101, bytes_max: 100 })
    ));
    let text = b"%9223372036854775807d";
    assert!(matches!(
        queue.put(text, Placeholder::parse(text), 0, NOW),
        Err(PutError::RenderedTooLong { bytes: 9_223_372_036_854_775_807, .. })
    ));
    assert_eq!(queue.put(&[0; 100], None, 0, NOW).unwrap(), Seq::FIRST);
}

#[test]
fn an_interval_syncs_when_it_is_over() {
    let directory = tempfile::tempdir().unwrap();
    let sync = SyncPolicy::Interval { milliseconds: 200 };
    let mut queue = open(&directory, &QueueSettings { sync, ..small() }, NOW);
    assert_eq!(queue.next_deadline(), None, "opening synced");
    queue.put(b"a", None, 0, NOW).unwrap();
    assert!(!queue.commit().unwrap().synced);
    assert_eq!(queue.next_deadline(), Some(NOW.plus(200)));
    queue.tick(NOW.plus(200)).unwrap();
    assert_eq!(queue.next_deadline(), None);
    assert!(queue.commit().unwrap().synced);
}

#[test]
fn large_batches_cross_segments() {
    let directory = tempfile::tempdir().unwrap();
    let mut queue = open(&directory, &small(), NOW);
    let texts: Vec<_> = (0..2000).map(|number| format!("{number:0>300}")).collect();
    for text in &texts {
        queue.put(text.as_bytes(), None, 0, NOW).unwrap();
    }
    queue.commit().unwrap();
    drop(queue);
    let mut queue = open(&directory, &small(), NOW);
    for (number, text) in texts.iter().enumerate() {
        assert_eq!(pop(&mut queue, NOW), Some((number as u64 + 1, text.clone())));
    }
    assert_eq!(queue.stats().segments, 1);
}
