//! What recovery makes of files that were cut, flipped, lost or swapped.

use std::collections::BTreeMap;

use super::SimulatedDisk;
use crate::log::file_name;
use crate::log::segment;
use crate::{Damage, Millis, OpenError, Queue, QueueSettings, Recovery, Seq};

const NOW: Millis = Millis::new(1_700_000_000_000);

fn settings() -> QueueSettings {
    QueueSettings { segment_bytes_min: 16 << 10, segment_bytes_max: 16 << 10, ..Default::default() }
}

fn open(disk: &SimulatedDisk) -> (Queue<SimulatedDisk>, Recovery) {
    Queue::open_on(disk.clone(), &settings(), NOW).expect("a queue always opens")
}

fn payload(number: u64) -> Vec<u8> {
    let length = 20 + number as usize * 7 % 200;
    format!("message {number} ").into_bytes().into_iter().cycle().take(length).collect()
}

/// A queue of `count` messages, `batch` per commit, whose process was killed.
fn killed(count: u64, batch: u64) -> SimulatedDisk {
    let disk = SimulatedDisk::new(7);
    let (mut queue, recovery) = open(&disk);
    assert!(recovery.is_new);
    for number in 1..=count {
        queue.put(&payload(number), None, 0, NOW).unwrap();
        if number % batch == 0 {
            queue.commit().unwrap();
        }
    }
    queue.commit().unwrap();
    disk
}

/// Opens a queue and reads all of it; what is there must be what was put.
fn read(disk: &SimulatedDisk) -> (BTreeMap<u64, Vec<u8>>, Recovery) {
    let (mut queue, recovery) = open(disk);
    let mut messages = BTreeMap::new();
    let mut bytes = Vec::new();
    while let Some(seq) = queue.pop(NOW, &mut bytes).unwrap() {
        assert_eq!(bytes, payload(seq.get()), "message {seq} is served as it was put");
        messages.insert(seq.get(), std::mem::take(&mut bytes));
    }
    assert_eq!(queue.stats().buried, 0, "recovery found what is damaged");
    (messages, recovery)
}

fn lost(recovery: &Recovery) -> Vec<u64> {
    let ranges = recovery.lost.iter();
    ranges.flat_map(|(first, last)| first.get()..=last.get()).collect()
}

/// Where the records of the newest segment end.
fn end(disk: &SimulatedDisk, name: &str) -> usize {
    let content = disk.content(name);
    content.iter().rposition(|&byte| byte != 0).unwrap().next_multiple_of(8)
}

#[test]
fn a_last_segment_cut_anywhere_in_its_last_record_loses_only_that() {
    let disk = killed(20, 1);
    let name = file_name(1);
    let (content, end) = (disk.content(&name), end(&disk, &name));
    let last = 24 + payload(20).len();
    let start = end - last.next_multiple_of(8);
    for cut in start..=end {
        let disk = disk.copy();
        disk.set_content(&name, &content[..cut]);
        let (mut queue, recovery) = open(&disk);
        let is_whole = cut >= start + last;
        assert_eq!(recovery.messages, if is_whole { 20 } else { 19 }, "cut at {cut}");
        assert_eq!(recovery.torn.is_some(), cut > start && !is_whole, "cut at {cut}");
        assert_eq!(recovery.damages, []);
        // The queue goes on from there, and the next start finds nothing to complain about.
        let next = queue.put(&payload(recovery.messages + 1), None, 0, NOW).unwrap();
        assert_eq!(next.get(), recovery.messages + 1);
        queue.close().unwrap();
        let (messages, recovery) = read(&disk);
        assert_eq!(messages.len() as u64, next.get());
        assert!(recovery.is_clean && recovery.torn.is_none() && recovery.damages.is_empty());
    }
}

#[test]
fn a_flipped_byte_is_reported_and_never_served() {
    let (count, batch) = (64, 4);
    let disk = killed(count, batch);
    let name = file_name(1);
    let (content, end) = (disk.content(&name), end(&disk, &name));
    assert!(end < 16 << 10 && end > 8192, "one segment, half full: {end}");
    for at in end - 4096..end + 24 {
        let disk = disk.copy();
        let mut flipped = content.clone();
        flipped[at] ^= 1 << (at % 8);
        disk.set_content(&name, &flipped);
        let (messages, recovery) = read(&disk);
        let missing: Vec<_> = (1..=count).filter(|seq| !messages.contains_key(seq)).collect();
        if let Some(torn) = &recovery.torn {
            assert!(torn.offset <= at as u64 && torn.bytes > 0);
            assert!(
                missing.iter().all(|&seq| seq > count - batch),
                "{at}: {missing:?} of the last"
            );
        } else {
            assert_eq!(missing, lost(&recovery), "{at}: what is missing is reported");
            assert!(missing.len() <= 1, "{at}: what is whole is kept");
            assert_eq!(recovery.damages.is_empty(), missing.is_empty(), "{at}");
        }
    }
}

#[test]
fn damage_in_an_older_segment_costs_what_stands_there() {
    let disk = killed(400, 4);
    let name = file_name(2);
    let mut content = disk.content(&name);
    content[9000..9600].fill(0xaa);
    disk.set_content(&name, &content);
    let (messages, recovery) = read(&disk);
    let missing: Vec<_> = (1..=400).filter(|seq| !messages.contains_key(seq)).collect();
    assert_eq!(missing, lost(&recovery));
    assert!((3..20).contains(&missing.len()), "{missing:?}");
    let [Damage::Records { offset, bytes, .. }] = recovery.damages[..] else {
        panic!("one stretch: {recovery:?}");
    };
    assert!(offset <= 9000 && offset + bytes >= 9600 && bytes < 1200, "{recovery:?}");
}

#[test]
fn a_missing_segment_is_reported_with_its_messages() {
    let disk = killed(400, 4);
    let copy = disk.copy();
    crate::Disk::remove(&copy, &file_name(2)).unwrap();
    let (messages, recovery) = read(&copy);
    assert_eq!(recovery.damages, [Damage::Missing { first: 2, last: 2 }]);
    let missing: Vec<_> = (1..=400).filter(|seq| !messages.contains_key(seq)).collect();
    assert_eq!(missing, lost(&recovery));
    assert!(missing.len() > 50);
}

#[test]
fn a_lost_header_is_told_from_the_records() {
    let disk = killed(400, 4);
    let count = disk.names().len() as u32;
    for number in 1..=count {
        let copy = disk.copy();
        let name = file_name(number);
        let mut content = copy.content(&name);
        let is_spare = content.iter().all(|&byte| byte == 0);
        content[..segment::HEADER_BYTES].fill(0x55);
        copy.set_content(&name, &content);
        let (messages, recovery) = read(&copy);
        assert_eq!(messages.len(), 400, "{name}: {recovery:?}");
        assert_eq!(recovery.lost, []);
        let is_reported = matches!(recovery.damages[..], [Damage::Header { .. }]);
        assert_eq!(is_reported, !is_spare, "{name}: {recovery:?}");
    }
}

#[test]
fn a_file_of_another_queue_is_left_alone() {
    let disk = killed(100, 4);
    let other = SimulatedDisk::new(8);
    let (mut queue, _) = open(&other);
    queue.put(b"somebody else's", None, 0, NOW).unwrap();
    queue.close().unwrap();
    let foreign = file_name(99);
    crate::Disk::create(&disk, &foreign, 1).unwrap();
    disk.set_content(&foreign, &other.content(&file_name(1)));
    let (messages, recovery) = read(&disk);
    assert_eq!(messages.len(), 100);
    assert!(matches!(recovery.damages[..], [Damage::Foreign { .. }]), "{recovery:?}");
    assert_eq!(disk.content(&foreign), other.content(&file_name(1)));
}

#[test]
fn a_newer_format_is_refused_and_not_touched() {
    let disk = killed(10, 1);
    let name = file_name(1);
    let mut content = disk.content(&name);
    for copy in [0, segment::HEADER_BYTES / 2] {
        content[copy + 8] = 9;
        let checksum = crc32c::crc32c(&content[copy..copy + 48]);
        content[copy + 48..copy + 52].copy_from_slice(&checksum.to_le_bytes());
    }
    disk.set_content(&name, &content);
    let error = Queue::open_on(disk.clone(), &settings(), NOW).unwrap_err();
    assert!(matches!(error, OpenError::NewerFormat { version: 9, .. }), "{error}");
    assert!(error.to_string().contains("newer server"), "{error}");
    assert_eq!(disk.content(&name), content);
}

#[test]
fn a_record_forged_in_a_payload_stays_a_payload() {
    // What an attacker would store who guesses all but the seed: a later record of this segment.
    let disk = SimulatedDisk::new(7);
    let (mut queue, _) = open(&disk);
    let header = crate::log::record::Header {
        kind: crate::log::record::Kind::Remove,
        starts_epoch: true,
        body_bytes: 0,
        segment: 1,
        epoch: 1000,
        number: 1,
    };
    let mut forged = header.encode().to_vec();
    crate::log::record::seal(&mut forged, 0);
    queue.put(b"one", None, 0, NOW).unwrap();
    queue.commit().unwrap();
    queue.put(&forged.repeat(20), None, 0, NOW).unwrap();
    queue.commit().unwrap();
    drop(queue);
    let name = file_name(1);
    let mut content = disk.content(&name);
    let second = content.windows(forged.len()).position(|window| window == forged).unwrap() - 24;
    content[second] ^= 1;
    disk.set_content(&name, &content);
    let (queue, recovery) = open(&disk);
    assert_eq!((queue.length(), recovery.torn.is_some()), (1, true), "{recovery:?}");
}

#[test]
fn a_message_damaged_while_the_queue_runs_is_set_aside() {
    let disk = killed(10, 1);
    let (mut queue, _) = open(&disk);
    let name = file_name(1);
    let mut content = disk.content(&name);
    let text = payload(3);
    let third = content.windows(text.len()).position(|window| window == text).unwrap();
    content[third] ^= 1;
    disk.set_content(&name, &content);
    let mut popped = Vec::new();
    let mut bytes = Vec::new();
    while let Some(seq) = queue.pop(NOW, &mut bytes).unwrap() {
        popped.push(seq.get());
    }
    assert_eq!(popped, [1, 2, 4, 5, 6, 7, 8, 9, 10]);
    let mut shown = Vec::new();
    queue
        .buried(Seq::new(0), 9, |buried| {
            shown.push((buried.seq.get(), buried.reason.to_owned(), buried.payload.len()));
        })
        .unwrap();
    assert_eq!(shown, [(3, "damaged on disk".to_owned(), 0)]);
    assert_eq!(queue.stats().totals.damaged, 1);
}
