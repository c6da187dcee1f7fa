//! `Log`: a ring of segments that records are appended to, committed, and read back from.
//!
//! Records go to the newest segment. When it is full a spare takes over under the next number, with
//! no directory operation: its new header goes out with its first records. The oldest segment
//! leaves when no message's newest record stands in it, and only the oldest may: what a record
//! refers to stands in the same segment or an older one, so nothing that remains refers to what is
//! gone. That it left is itself a record, and the file is overwritten only after that record is
//! durable; otherwise a power cut in the middle of overwriting could bring half of it back.
//!
//! The log knows nothing about messages. Invariants:
//! - every segment but the newest ends with a `SegmentEnd` record and is synced before the next
//!   one is written to (not with [`SyncPolicy::Never`]), so only the newest can have a torn end;
//! - a record of epoch `n + 1` is written only after those of epoch `n` in its segment are synced;
//! - after a failed write or sync nothing is written any more: the kernel may have dropped the data
//!   and will report success the next time.

pub(crate) mod pending;
pub(crate) mod place;
pub(crate) mod preparer;
pub(crate) mod read_ahead;
pub(crate) mod record;
pub(crate) mod room;
pub(crate) mod segment;

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

use crate::disk::{Disk, DiskFile};
use crate::log::pending::{COUNT_BYTES, Pending};
use crate::log::place::Place;
use crate::log::preparer::{Preparer, Spare};
use crate::log::read_ahead::ReadAhead;
use crate::log::record::Kind;
use crate::log::room::Need;
use crate::log::segment::Segment;
use crate::{Millis, QueueSettings, SyncPolicy};

/// The log cannot be written any more, for good: nothing that was not committed before this is
/// acknowledged. Starting again recovers what is on disk.
#[derive(Debug, Clone, Error)]
#[error("the log in {directory} stopped: {operation} failed")]
pub struct LogFailed {
    /// The queue's directory.
    pub directory: PathBuf,
    /// What was tried.
    pub operation: &'static str,
    /// What the disk said.
    pub source: Arc<io::Error>,
}

/// The disk did not give back what was written; the message stays where it is.
#[derive(Debug, Error)]
#[error("cannot read from the log in {directory}")]
pub struct ReadFailed {
    /// The queue's directory.
    pub directory: PathBuf,
    /// What the disk said.
    pub source: io::Error,
}

/// Why a record is not appended.
#[derive(Debug)]
pub(crate) enum AppendError {
    /// The disk has no room for another segment.
    NoSpace,
    /// See [`LogFailed`].
    Failed(LogFailed),
}

impl From<LogFailed> for AppendError {
    fn from(failed: LogFailed) -> Self {
        Self::Failed(failed)
    }
}

/// The log of one queue.
#[derive(Debug)]
pub(crate) struct Log<D: Disk> {
    pub(crate) settings: QueueSettings,
    pub(crate) disk: D,
    pub(crate) identity: u128,
    pub(crate) seed: u32,
    /// Oldest first; the last one is written to. Never empty.
    pub(crate) segments: VecDeque<Segment<D::File>>,
    /// The sequence number of the next put.
    pub(crate) next_seq: u64,
    /// The epoch of the next record in the newest segment.
    pub(crate) epoch: u32,
    /// Whether a record of that epoch was appended.
    pub(crate) epoch_started: bool,
    /// Whether the newest segment ends with `SegmentEnd` and its successor was not started.
    pub(crate) is_sealed: bool,
    pub(crate) pending: Pending,
    read_ahead: ReadAhead,
    /// Something a caller waits for was appended since the last sync.
    needs_sync: bool,
    /// When the oldest write since the last sync was made.
    unsynced_since: Option<Millis>,
    /// Segments that left; to be spares once that is durable.
    pub(crate) leaving: Vec<Segment<D::File>>,
    pub(crate) spares: Vec<Spare<D::File>>,
    /// Bytes that records take in the fullest segment but the newest.
    pub(crate) fullest_sealed: u32,
    /// Bytes that records may take in all spares.
    pub(crate) spare_room: u64,
    pub(crate) preparer: Preparer<D>,
    pub(crate) next_file: u32,
    pub(crate) no_space_since: Option<Millis>,
    /// When the newest segment was started.
    pub(crate) started: Millis,
    /// The segment size that the rate of puts asks for, in bytes.
    pub(crate) paced_bytes: u32,
    /// The newest full segment filled very fast.
    pub(crate) is_hasty: bool,
    failed: Option<LogFailed>,
}

/// What a commit did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Committed {
    /// Bytes written.
    pub bytes: u64,
    /// Whether all that was ever appended now survives a power cut.
    pub synced: bool,
}

/// What recovery hands to a log.
pub(crate) struct Parts<D: Disk> {
    pub(crate) settings: QueueSettings,
    pub(crate) disk: D,
    pub(crate) identity: u128,
    /// Not empty.
    pub(crate) segments: VecDeque<Segment<D::File>>,
    pub(crate) next_seq: u64,
    pub(crate) epoch: u32,
    pub(crate) is_sealed: bool,
    /// Files of which nothing is needed; to be used or removed once the first sync is done.
    pub(crate) leaving: Vec<Segment<D::File>>,
    pub(crate) next_file: u32,
}

impl<D: Disk> Log<D> {
    pub(crate) fn new(parts: Parts<D>, now: Millis) -> Self {
        let seed = segment::seed(parts.identity);
        let mut log = Self {
            preparer: Preparer::new(parts.disk.clone()),
            disk: parts.disk,
            identity: parts.identity,
            seed,
            segments: parts.segments,
            next_seq: parts.next_seq,
            epoch: parts.epoch,
            epoch_started: false,
            is_sealed: parts.is_sealed,
            pending: Pending::new(seed),
            read_ahead: ReadAhead::default(),
            needs_sync: false,
            // What was read may never have been synced.
            unsynced_since: Some(now),
            leaving: parts.leaving,
            spares: Vec::new(),
            fullest_sealed: 0,
            spare_room: 0,
            next_file: parts.next_file,
            no_space_since: None,
            started: now,
            paced_bytes: parts.settings.segment_bytes_min,
            is_hasty: false,
            settings: parts.settings,
            failed: None,
        };
        log.take_stock();
        log
    }

    /// The segment that is written to.
    pub(crate) fn newest(&self) -> &Segment<D::File> {
        self.segments.back().expect("a log has a segment")
    }

    fn newest_mut(&mut self) -> &mut Segment<D::File> {
        self.segments.back_mut().expect("a log has a segment")
    }

    /// The oldest segment, if it is not the newest too.
    pub(crate) fn oldest_of_several(&self) -> Option<u32> {
        (self.segments.len() > 1).then(|| self.segments[0].number)
    }

    /// Bytes that records take, headers of segments included.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| u64::from(segment.end)).sum()
    }

    /// Bytes that the log takes on disk, spares included.
    pub(crate) fn disk_bytes(&self) -> u64 {
        let used = self.segments.iter().chain(&self.leaving).map(|segment| segment.bytes);
        used.chain(self.spares.iter().map(|spare| spare.bytes)).map(u64::from).sum()
    }

    /// Fails once the log has failed.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), LogFailed> {
        match &self.failed {
            None => Ok(()),
            Some(failed) => Err(failed.clone()),
        }
    }

    /// Ends the newest segment and starts the next one in the largest spare.
    pub(crate) fn roll(&mut self, now: Millis) {
        // Of equals the last one found, which is the one made first.
        let largest = (0..self.spares.len()).rev().max_by_key(|&at| self.spares[at].bytes);
        let spare = self.spares.remove(largest.expect("callers have a spare"));
        let number = self.newest().number.checked_add(1).expect("four billion segments");
        if !self.is_sealed {
            self.push(Kind::SegmentEnd, u64::from(number), |_| {});
        }
        self.keep_pace(now);
        let header = segment::Header {
            bytes: spare.bytes,
            identity: self.identity,
            number,
            // What says so stands in the segment before, which is synced before this is written.
            oldest: self.segments[0].number,
            next_seq: self.next_seq,
        };
        self.segments.push_back(Segment {
            number,
            name: spare.name,
            file: spare.file,
            bytes: spare.bytes,
            next_seq: self.next_seq,
            end: segment::HEADER_BYTES as u32,
        });
        self.pending.start_chunk(Place { segment: number, offset: 0 }, &header.encode());
        self.take_stock();
        self.is_sealed = false;
        self.epoch = 1;
        self.epoch_started = false;
        self.prepare_ahead(now);
    }

    /// Appends a record for which room was made.
    #[inline]
    pub(crate) fn append(
        &mut self,
        kind: Kind,
        number: u64,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Place {
        self.needs_sync |= kind != Kind::Reserve;
        if matches!(kind, Kind::Put | Kind::PutDelayed) {
            self.next_seq = number + 1;
        }
        self.push(kind, number, write)
    }

    #[inline]
    fn push(&mut self, kind: Kind, number: u64, write: impl FnOnce(&mut Vec<u8>)) -> Place {
        let newest = self.segments.back_mut().expect("a log has a segment");
        let place = Place { segment: newest.number, offset: newest.end };
        if self.pending.is_empty() {
            self.pending.start_chunk(place, &[]);
        }
        let header = record::Header {
            kind,
            starts_epoch: !self.epoch_started,
            body_bytes: 0,
            segment: newest.number,
            epoch: self.epoch,
            number,
        };
        self.epoch_started = true;
        newest.end += self.pending.push(header, write) as u32;
        place
    }

    /// Appends that something happened to one message, or adds the message to the run before. Room
    /// was made for a record without a body.
    #[inline]
    pub(crate) fn append_to_run(&mut self, kind: Kind, number: u64) -> Place {
        if self.rest(COUNT_BYTES as u32, Need::Consume).is_some()
            && let Some(grown) = self.pending.extend_run(kind, number)
        {
            self.needs_sync |= kind != Kind::Reserve;
            self.newest_mut().end += grown as u32;
            return Place::default();
        }
        self.append(kind, number, |_| {})
    }

    /// Writes down that the log was opened, and makes all of it durable. Epochs start anew with
    /// this record, so what a torn tail left behind it cannot be taken for a part of the log.
    pub(crate) fn restart(&mut self, now: Millis) -> Result<(), LogFailed> {
        match self.make_room(0, Need::Keep, now) {
            Ok(()) => {
                self.append(Kind::Restart, 0, |_| {});
            }
            Err(AppendError::Failed(failed)) => return Err(failed),
            // The room that every record but this one leaves is still there.
            Err(AppendError::NoSpace) if !self.is_sealed => {
                let next = u64::from(self.newest().number) + 1;
                self.push(Kind::SegmentEnd, next, |_| {});
                self.is_sealed = true;
            }
            Err(AppendError::NoSpace) => {}
        }
        self.commit(true, now).map(|_| ())
    }

    /// Lets the oldest segment go, of which no message is left, if that can be written down.
    pub(crate) fn retire_oldest(&mut self, now: Millis) -> bool {
        let Some(next) = self.segments.get(1).map(|segment| segment.number) else {
            return false;
        };
        if self.make_room(0, Need::Keep, now).is_err() {
            return false;
        }
        self.append(Kind::Oldest, u64::from(next), |_| {});
        self.leaving.extend(self.segments.pop_front());
        self.take_stock();
        true
    }

    /// Writes what is pending, and makes it durable if the policy or the caller says so.
    pub(crate) fn commit(&mut self, sync: bool, now: Millis) -> Result<Committed, LogFailed> {
        self.check()?;
        let bytes = self.write_pending(now)?;
        let sync = sync
            || match self.settings.sync {
                SyncPolicy::Always => self.needs_sync,
                SyncPolicy::Interval { .. } => self.sync_due().is_some_and(|due| due <= now),
                SyncPolicy::Never => false,
            };
        if sync && self.unsynced_since.is_some() {
            // Under the other policies each segment is synced before its successor is written to.
            let sealed = self.segments.len() - 1;
            let unsynced = if self.settings.sync == SyncPolicy::Never { sealed } else { 0 };
            for at in 0..unsynced {
                if let Err(error) = self.segments[at].file.sync_data() {
                    return Err(self.fail("syncing", error));
                }
            }
            if let Err(error) = self.newest().file.sync_data() {
                return Err(self.fail("syncing", error));
            }
            self.unsynced_since = None;
            self.needs_sync = false;
        }
        let synced = self.unsynced_since.is_none();
        if synced || self.settings.sync == SyncPolicy::Never {
            if self.epoch_started {
                self.epoch += 1;
                self.epoch_started = false;
            }
            self.reuse_leaving();
        }
        self.collect_spare(false, now)?;
        self.prepare_ahead(now);
        Ok(Committed { bytes, synced })
    }

    /// When unsynced data is to be synced, if at all.
    pub(crate) fn sync_due(&self) -> Option<Millis> {
        match self.settings.sync {
            SyncPolicy::Interval { milliseconds } => {
                self.unsynced_since.map(|since| since.plus(milliseconds))
            }
            SyncPolicy::Always | SyncPolicy::Never => None,
        }
    }

    fn write_pending(&mut self, now: Millis) -> Result<u64, LogFailed> {
        if self.pending.is_empty() {
            return Ok(0);
        }
        let newest = self.newest();
        let (newest_number, room) = (newest.number, newest.bytes - newest.end);
        self.pending.terminate(room as usize);
        let mut bytes = 0;
        let mut failure = None;
        for (place, chunk) in self.pending.chunks() {
            // A segment may have left since; that is not durable yet, so it is written all the same.
            let leaving = self.leaving.iter().find(|segment| segment.number == place.segment);
            let staying = position(&self.segments, place.segment).map(|at| &self.segments[at]);
            let file = &leaving.or(staying).expect("appended to in this batch").file;
            if let Err(error) = file.write_all_at(chunk, u64::from(place.offset)) {
                failure = Some(("writing", error));
                break;
            }
            bytes += chunk.len() as u64;
            // A segment is durable before its successor is written to.
            let ends = place.segment != newest_number && self.settings.sync != SyncPolicy::Never;
            if ends && let Err(error) = file.sync_data() {
                failure = Some(("syncing", error));
                break;
            }
        }
        if let Some((operation, error)) = failure {
            return Err(self.fail(operation, error));
        }
        self.pending.clear();
        self.unsynced_since.get_or_insert(now);
        Ok(bytes)
    }

    pub(crate) fn fail(&mut self, operation: &'static str, error: io::Error) -> LogFailed {
        self.pending.clear();
        let directory = self.disk.path().to_owned();
        let failed = LogFailed { directory, operation, source: Arc::new(error) };
        self.failed.get_or_insert(failed).clone()
    }

    /// The record at `place`; `None` when it is damaged.
    pub(crate) fn read(&mut self, place: Place) -> Result<Option<(Kind, &[u8])>, ReadFailed> {
        let pending_from = self.pending.starts_in(place.segment);
        if pending_from.is_some_and(|from| from <= place.offset) {
            let found = self.pending.read(place);
            return Ok(found.map(|(header, body)| (header.kind, body)));
        }
        let Some(at) = position(&self.segments, place.segment) else {
            return Ok(None);
        };
        let segment = &self.segments[at];
        let end = pending_from.unwrap_or(segment.end);
        let found = self.read_ahead.read(segment, place, end, self.seed);
        let found = found.map_err(|source| {
            let directory = self.disk.path().to_owned();
            ReadFailed { directory, source }
        })?;
        Ok(found.map(|(header, body)| (header.kind, body)))
    }

    /// Takes what has a bearing on the log from new settings; sizes hold for new segments.
    pub(crate) fn configure(&mut self, settings: QueueSettings) {
        self.settings = settings;
    }
}

/// Where the segment `number` stands. Numbers are in order, with a gap only where files were lost.
fn position<F>(segments: &VecDeque<Segment<F>>, number: u32) -> Option<usize> {
    let first = segments.front()?.number;
    let guess = number.checked_sub(first)? as usize;
    if segments.get(guess).is_some_and(|segment| segment.number == number) {
        return Some(guess);
    }
    segments.binary_search_by_key(&number, |segment| segment.number).ok()
}

/// The name of the file with this number, which is not the number of its segment.
pub(crate) fn file_name(number: u32) -> String {
    format!("{number:08x}.segment")
}

/// The number in a name that [`file_name`] made.
pub(crate) fn file_number(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".segment")?;
    (digits.len() == 8).then(|| u32::from_str_radix(digits, 16).ok())?
}
