//! Room in the log: where the next record goes, and what is kept free for whom.
//!
//! Producers stop before the disk is full, so that consumers can go on; what consumers remove makes
//! room again. Spare segments are made ahead of need, and segments that left the log become spares.

use crate::Millis;
use crate::QueueSettings;
use crate::disk::{Disk, is_lack_of_space};
use crate::log::preparer::{Spare, Zeros};
use crate::log::record;
use crate::log::segment::{self, Segment};
use crate::log::{AppendError, Log, LogFailed, file_name};

/// Who needs room, and so how much of the last room is left to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// A producer: it leaves to consumers what they need to make room again.
    Put,
    /// A consumer: it leaves a few records' room to the log itself.
    Consume,
    /// The log itself.
    Keep,
}

/// Bytes of a segment left to the log's own records.
const KEPT_BYTES: u32 = 192;

/// Bytes of a record without a body.
const BARE_BYTES: u32 = record::HEADER_BYTES as u32;

/// Dead segments kept for reuse, at most.
const SPARES_MAX: usize = 2;

/// After a failed attempt to prepare a segment, the next comes this many milliseconds later at the
/// earliest.
const RETRY_AFTER: u64 = 100;

/// A segment that fills within this many milliseconds is followed by one twice as large.
const FILLED_FAST: u64 = 1000;

/// A segment that takes longer than this many milliseconds to fill is followed by a smaller one.
const FILLED_SLOWLY: u64 = 60_000;

/// A log that grows faster than this many bytes per millisecond writes no zeros ahead: they would
/// take half of the disk's bandwidth, and its commits are too large to gain by them.
const HASTY_BYTES_PER_MS: u64 = 48 << 10;

/// A batch that grows past this is committed before its caller asks for it, in bytes.
const PENDING_BYTES_MAX: usize = 8 << 20;

impl<D: Disk> Log<D> {
    /// Bytes that fit the newest segment, besides what is pending and what is kept.
    pub(crate) fn room_at_hand(&self) -> usize {
        let newest = self.newest();
        let taken = u64::from(newest.end) + u64::from(KEPT_BYTES) + self.pending.bytes() as u64;
        usize::try_from(u64::from(newest.bytes).saturating_sub(taken)).unwrap_or(0)
    }

    /// Makes room for a record with such a body. Until it is appended nothing else may be.
    #[inline]
    pub(crate) fn make_room(
        &mut self,
        body_bytes: usize,
        need: Need,
        now: Millis,
    ) -> Result<(), AppendError> {
        self.check()?;
        let bytes = record::record_bytes(body_bytes) as u32;
        if self.pending.bytes() < PENDING_BYTES_MAX && self.has_room(bytes, need) {
            return Ok(());
        }
        if self.pending.bytes() >= PENDING_BYTES_MAX {
            self.commit(false, now)?;
        }
        self.find_room(bytes, need, now)
    }

    #[inline]
    pub(crate) fn has_room(&self, bytes: u32, need: Need) -> bool {
        let Some(rest) = self.rest(bytes, need) else {
            return false;
        };
        // To remove all messages of a segment never takes more room than they take. So while as
        // much is free as the fullest segment holds, consumers can empty it and go on with that.
        need != Need::Put || u64::from(rest) + self.spare_room >= u64::from(self.fullest())
    }

    /// Bytes that records take in the fullest segment.
    #[inline]
    pub(crate) fn fullest(&self) -> u32 {
        self.fullest_sealed.max(self.newest().end - segment::HEADER_BYTES as u32)
    }

    /// Brings up to date what depends on which segments and spares there are.
    pub(crate) fn take_stock(&mut self) {
        let sealed = self.segments.iter().rev().skip(1).map(|segment| segment.end);
        let fullest = sealed.max().unwrap_or(0);
        self.fullest_sealed = fullest.saturating_sub(segment::HEADER_BYTES as u32);
        let room = |spare: &Spare<D::File>| {
            spare.bytes.saturating_sub(segment::HEADER_BYTES as u32 + KEPT_BYTES)
        };
        self.spare_room = self.spares.iter().map(|spare| u64::from(room(spare))).sum();
    }

    /// Bytes of the newest segment left after a record, or `None` if it does not fit.
    #[inline]
    pub(crate) fn rest(&self, bytes: u32, need: Need) -> Option<u32> {
        let kept = if need == Need::Keep { BARE_BYTES } else { KEPT_BYTES };
        let newest = self.newest();
        if self.is_sealed { None } else { newest.bytes.checked_sub(newest.end + bytes + kept) }
    }

    /// Each round gains a spare, or finds that there is none to gain.
    #[cold]
    fn find_room(&mut self, bytes: u32, need: Need, now: Millis) -> Result<(), AppendError> {
        loop {
            self.collect_spare(false, now)?;
            if self.rest(bytes, need).is_none() && !self.spares.is_empty() {
                self.roll(now);
            }
            if self.has_room(bytes, need) {
                return Ok(());
            }
            if !self.leaving.is_empty() {
                self.commit(true, now)?;
                if !self.spares.is_empty() {
                    continue;
                }
            }
            if !self.preparer.is_busy() && !self.start_preparing(now) {
                return Err(AppendError::NoSpace);
            }
            self.collect_spare(true, now)?;
        }
    }

    /// Asks for a spare unless that failed a moment ago.
    fn start_preparing(&mut self, now: Millis) -> bool {
        let mut bytes = self.wanted_bytes();
        if let Some(since) = self.no_space_since {
            if now.since(since) < RETRY_AFTER && now >= since {
                return false;
            }
            bytes = self.settings.segment_bytes_min;
        }
        let name = file_name(self.next_file);
        self.next_file += 1;
        let zeros =
            if self.is_hasty { Zeros::Promised } else { Zeros::suiting(self.settings.sync) };
        self.preparer.start(name, bytes, self.settings.segment_bytes_min, zeros);
        true
    }

    /// Takes what the preparer has ready, or waits for it.
    pub(crate) fn collect_spare(&mut self, wait: bool, now: Millis) -> Result<(), LogFailed> {
        let result = if wait { self.preparer.wait() } else { self.preparer.poll() };
        match result {
            None => Ok(()),
            Some(Ok(spare)) => {
                self.no_space_since = None;
                self.spares.push(spare);
                self.take_stock();
                Ok(())
            }
            Some(Err(error)) if is_lack_of_space(&error) => {
                self.no_space_since = Some(now);
                Ok(())
            }
            Some(Err(error)) => Err(self.fail("preparing a segment", error)),
        }
    }

    /// The size that suits the log: an eighth of it, or more when segments fill fast, and no less
    /// than the fullest segment holds.
    fn wanted_bytes(&self) -> u32 {
        let eighth = u32::try_from(self.bytes() / 8).unwrap_or(u32::MAX);
        let eighth = eighth.checked_next_power_of_two().unwrap_or(u32::MAX);
        let QueueSettings { segment_bytes_min, segment_bytes_max, .. } = self.settings;
        eighth
            .max(self.fullest().next_power_of_two())
            .max(self.paced_bytes)
            .clamp(segment_bytes_min, segment_bytes_max)
    }

    pub(crate) fn keep_pace(&mut self, now: Millis) {
        let took = now.since(self.started);
        let bytes = self.newest().bytes;
        self.is_hasty = u64::from(bytes) / took.max(1) > HASTY_BYTES_PER_MS;
        if took <= FILLED_FAST {
            self.paced_bytes = self.paced_bytes.max(bytes.saturating_mul(2));
        } else if took > FILLED_SLOWLY {
            self.paced_bytes = bytes / 2;
        }
        let QueueSettings { segment_bytes_min, segment_bytes_max, .. } = self.settings;
        self.paced_bytes = self.paced_bytes.clamp(segment_bytes_min, segment_bytes_max);
        self.started = now;
    }

    /// Has a spare made before it is needed. Even a queue that is hardly used has one, and so can
    /// always turn, whatever becomes of the rest of the disk.
    pub(crate) fn prepare_ahead(&mut self, now: Millis) {
        // When the next segment takes a spare, producers go on without a wait only if the spares that
        // are left have the room kept for consumers.
        let turns_soon = self.newest().end > self.newest().bytes / 2;
        let is_needed = self.spares.is_empty()
            || self.spare_room < u64::from(self.fullest())
            || (turns_soon && self.spares.len() < SPARES_MAX);
        if is_needed && !self.preparer.is_busy() && self.no_space_since.is_none() {
            self.start_preparing(now);
        }
    }

    /// Segments that left, durably, become spares, or go.
    pub(crate) fn reuse_leaving(&mut self) {
        if self.leaving.is_empty() {
            return;
        }
        let wanted = self.wanted_bytes();
        for Segment { name, file, bytes, .. } in std::mem::take(&mut self.leaving) {
            let least = match self.no_space_since {
                Some(_) => self.settings.segment_bytes_min,
                None => wanted,
            };
            let fits = (least..=wanted.saturating_mul(8)).contains(&bytes);
            let spare = Spare { name, bytes, file };
            if fits && self.spares.len() < SPARES_MAX {
                self.spares.push(spare);
            } else {
                self.preparer.remove(spare);
            }
        }
        self.take_stock();
    }
}
