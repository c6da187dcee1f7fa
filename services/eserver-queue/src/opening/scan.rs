//! `Scan` reads a segment from front to end and says what is whole, what is torn, what is damaged.
//!
//! Where no whole record stands, one of three things is the case. The log ends there: then zeros
//! follow. The last, unfinished commit was torn by a power cut: then nothing behind was ever
//! acknowledged, and the log ends there too. Or what had been synced was damaged later: then a
//! record behind proves it, for it was written after a sync that came after the damaged one, and
//! reading goes on with the next whole record.

use std::ops::Range;

use crate::log::record::{self, ALIGNMENT, Header, Kind};
use crate::log::segment;

/// What a segment consists of.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Scan {
    /// Where the next record goes, in bytes from the segment's start.
    pub(crate) end: usize,
    /// Where the records of the last epoch start: what may not have been synced.
    pub(crate) unsynced_from: usize,
    /// Whether the segment says itself that it ends there.
    pub(crate) is_sealed: bool,
    /// Whether the last record says that the server was stopped in good order.
    pub(crate) is_clean: bool,
    /// The latest epoch of any record, torn-off ones included.
    pub(crate) epoch: u32,
    /// Stretches that were durable once and cannot be read now.
    pub(crate) damaged: Vec<Range<usize>>,
    /// What a power cut left of an unfinished commit.
    pub(crate) torn: Option<Range<usize>>,
}

/// Scans `bytes`, all of segment `number`, and hands each record to `each` with its offset. Only
/// the log's last segment can have a torn end.
pub(crate) fn scan(
    bytes: &[u8],
    number: u32,
    seed: u32,
    is_last: bool,
    mut each: impl FnMut(&Header, &[u8], usize),
) -> Scan {
    let mut scan = Scan { end: segment::HEADER_BYTES, ..Scan::default() };
    let mut epoch = 0;
    let mut rest: Option<Rest> = None;
    while !scan.is_sealed {
        let at = scan.end;
        let found = record_at(bytes, at, number, seed).filter(|(header, _)| header.epoch >= epoch);
        if let Some((header, body)) = found {
            each(&header, body, at);
            if header.epoch > epoch {
                scan.unsynced_from = at;
            }
            epoch = header.epoch;
            scan.epoch = scan.epoch.max(epoch);
            scan.is_clean = header.kind == Kind::CleanEnd;
            scan.is_sealed = header.kind == Kind::SegmentEnd;
            scan.end = at + header.record_bytes();
            continue;
        }
        let rest = rest.get_or_insert_with(|| Rest::of(bytes, at, number, seed));
        scan.epoch = scan.epoch.max(rest.latest_epoch);
        if is_last && !rest.proves_damage(at, epoch) {
            scan.torn = torn(bytes, at, number, rest.end(at, epoch));
            break;
        }
        let next = rest.next(at, epoch);
        scan.damaged.push(at..next.unwrap_or(bytes.len()));
        scan.end = next.unwrap_or(bytes.len());
        if next.is_none() {
            break;
        }
    }
    scan
}

/// The latest segment number that a whole record in `bytes` claims.
pub(crate) fn number_of(bytes: &[u8], seed: u32) -> Option<u32> {
    let mut latest = None;
    let mut at = segment::HEADER_BYTES;
    while let Some(rest) = bytes.get(at..) {
        if rest.is_empty() {
            break;
        }
        match record::decode(rest, seed) {
            Some((header, _)) => {
                latest = latest.max(Some(header.segment));
                at += header.record_bytes();
            }
            None => at += ALIGNMENT,
        }
    }
    latest
}

fn record_at(bytes: &[u8], at: usize, number: u32, seed: u32) -> Option<(Header, &[u8])> {
    let rest = bytes.get(at..)?;
    // Cheaper than a checksum, and almost always enough to say no.
    if rest.get(8..12)? != number.to_le_bytes() {
        return None;
    }
    record::decode(rest, seed)
}

/// How far the torn part reaches that starts at `at`; `None` when the log just ends there.
fn torn(bytes: &[u8], at: usize, number: u32, end: Option<usize>) -> Option<Range<usize>> {
    let rest = bytes.get(at..)?;
    let head = &rest[..rest.len().min(record::HEADER_BYTES)];
    if end.is_none() && head.iter().all(|&byte| byte == 0) {
        return None;
    }
    let claimed = record::claim(rest).filter(|header| header.segment == number);
    let claimed_end = at + claimed.map_or(head.len(), |header| header.record_bytes());
    Some(at..end.unwrap_or(claimed_end).max(claimed_end).min(bytes.len()))
}

/// The whole records behind the first place that has none.
struct Rest {
    records: Vec<Whole>,
    latest_epoch: u32,
}

struct Whole {
    at: usize,
    end: usize,
    epoch: u32,
    /// The latest epoch from this record on.
    latest: u32,
    /// The latest epoch whose first record stands from this record on.
    latest_start: u32,
}

impl Rest {
    fn of(bytes: &[u8], from: usize, number: u32, seed: u32) -> Self {
        let mut records = Vec::new();
        let mut at = from + ALIGNMENT;
        while at < bytes.len() {
            let Some((header, _)) = record_at(bytes, at, number, seed) else {
                at += ALIGNMENT;
                continue;
            };
            let end = at + header.record_bytes();
            let latest_start = if header.starts_epoch { header.epoch } else { 0 };
            let epoch = header.epoch;
            records.push(Whole { at, end, epoch, latest: epoch, latest_start });
            at = end;
        }
        let (mut latest, mut latest_start) = (0, 0);
        for whole in records.iter_mut().rev() {
            latest = whole.latest.max(latest);
            latest_start = whole.latest_start.max(latest_start);
            (whole.latest, whole.latest_start) = (latest, latest_start);
        }
        Self { records, latest_epoch: latest }
    }

    fn behind(&self, at: usize) -> &[Whole] {
        &self.records[self.records.partition_point(|whole| whole.at <= at)..]
    }

    /// Whether what stands at `at`, behind a record of `epoch`, must have been synced once. It
    /// belongs to that epoch or starts the next. Either was synced if there is one later still;
    /// and it was the former, synced, if the start of the next one is elsewhere.
    fn proves_damage(&self, at: usize, epoch: u32) -> bool {
        self.behind(at)
            .first()
            .is_some_and(|whole| whole.latest > epoch + 1 || whole.latest_start > epoch)
    }

    /// The next record that may follow one of `epoch`: not one that an earlier tear left behind.
    fn next(&self, at: usize, epoch: u32) -> Option<usize> {
        self.behind(at).iter().find(|whole| whole.epoch >= epoch).map(|whole| whole.at)
    }

    /// Where the last record that belongs to the torn commit ends.
    fn end(&self, at: usize, epoch: u32) -> Option<usize> {
        self.behind(at).iter().rev().find(|whole| whole.epoch >= epoch).map(|whole| whole.end)
    }
}
