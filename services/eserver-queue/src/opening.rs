//! Opening a queue: from whatever files there are to a log, a state, and a report.
//!
//! A queue always opens unless its files cannot be read at all or are of a newer format. What was
//! torn is cut; what was damaged is skipped and reported, message by message as far as that can be
//! known, and never served.

pub(crate) mod recovery;
pub(crate) mod scan;

use std::collections::VecDeque;
use std::io;

use crate::disk::{Disk, DiskFile};
use crate::event::Event;
use crate::log::place::Place;
use crate::log::preparer::{self, Zeros};
use crate::log::record::{self, Kind};
use crate::log::segment::{self, Decoded, Header, Segment};
use crate::log::{Log, Parts, file_name, file_number};
use crate::opening::recovery::{Damage, OpenError, Recovery, TornTail};
use crate::opening::scan::{Scan, number_of, scan};
use crate::state::State;
use crate::{Millis, QueueSettings, Seq};

/// Reads all that is there, or starts a new queue where nothing is.
pub(crate) fn open<D: Disk>(
    disk: D,
    settings: &QueueSettings,
    now: Millis,
) -> Result<(Log<D>, State, Recovery), OpenError> {
    let mut opening = Opening {
        disk,
        settings: settings.normalized(),
        recovery: Recovery::default(),
        damages: Vec::new(),
        bytes: Vec::new(),
        identity: None,
        next_file: 1,
        files: Vec::new(),
        unused: Vec::new(),
    };
    opening.find_files()?;
    opening.sort_out()?;
    if opening.files.is_empty() {
        return opening.start(now);
    }
    let scanned = opening.read_files()?;
    opening.finish(scanned, now)
}

struct Opening<D: Disk> {
    disk: D,
    settings: QueueSettings,
    recovery: Recovery,
    /// One whole segment, read.
    bytes: Vec<u8>,
    /// Damage to segments, by number; whether it matters is known when all of them are read.
    damages: Vec<(u32, Damage)>,
    identity: Option<u128>,
    next_file: u32,
    /// The log's files, oldest first.
    files: Vec<Found<D::File>>,
    /// Files of which nothing is needed.
    unused: Vec<Found<D::File>>,
}

/// A file as it was found.
struct Found<F> {
    name: String,
    file: F,
    length: u64,
    /// What its header says, or its records say in the header's place.
    header: Option<Header>,
    /// Intact copies of the header; 0 when it was made up from the records.
    copies: u8,
}

/// What reading the log came to.
struct Scanned {
    state: State,
    /// The oldest segment that still matters.
    oldest: u32,
    /// Where each segment ends, and with which sequence number it starts.
    extents: Vec<(usize, u64)>,
    last: Scan,
}

impl<D: Disk> Opening<D> {
    fn failed(&self, operation: &'static str, name: &str) -> impl FnOnce(io::Error) -> OpenError {
        let path = self.disk.path().join(name);
        move |source| OpenError::Disk { operation, path, source }
    }

    /// Reads the header of every file.
    fn find_files(&mut self) -> Result<(), OpenError> {
        let mut names = self.disk.list().map_err(self.failed("list", ""))?;
        names.sort();
        for name in names {
            let Some(number) = file_number(&name) else {
                continue;
            };
            self.next_file = self.next_file.max(number.saturating_add(1));
            let file = self.disk.open(&name).map_err(self.failed("open", &name))?;
            let length = file.length().map_err(self.failed("measure", &name))?;
            let mut head = [0; segment::HEADER_BYTES];
            let read = file.read_up_to(&mut head, 0).map_err(self.failed("read", &name))?;
            let (header, copies) = match Header::decode(&head[..read]) {
                Decoded::Header { header, copies } => (Some(header), copies),
                Decoded::None => (None, 0),
                Decoded::Newer(version) => {
                    let path = self.disk.path().join(&name);
                    return Err(OpenError::NewerFormat { path, version });
                }
            };
            self.files.push(Found { name, file, length, header, copies });
        }
        let headers = self.files.iter().filter_map(|found| found.header);
        let newest = headers.max_by_key(|header| header.number);
        self.identity = newest.map(|header| header.identity);
        Ok(())
    }

    /// Tells the files that matter from those that do not.
    fn sort_out(&mut self) -> Result<(), OpenError> {
        let mut files = Vec::new();
        for mut found in std::mem::take(&mut self.files) {
            if found.header.is_none() {
                let (number, is_blank) = self.guess_number(&found)?;
                found.header = number.map(|number| made_up(&found, number, &self.settings));
                if found.header.is_none() && !is_blank && self.identity.is_none() {
                    let path = self.disk.path().join(&found.name);
                    self.recovery.damages.push(Damage::Unreadable { path });
                    continue;
                }
            } else if found.header.map(|header| header.identity) != self.identity {
                let path = self.disk.path().join(&found.name);
                self.recovery.damages.push(Damage::Foreign { path });
                continue;
            }
            files.push(found);
        }
        let sound = files.iter().filter(|found| found.copies > 0).filter_map(|found| found.header);
        let oldest = sound.map(|header| header.oldest).max().unwrap_or(0);
        // Of two files with one number, the one whose header says so comes first.
        files.sort_by_key(|found| {
            (found.header.map(|header| header.number), std::cmp::Reverse(found.copies))
        });
        let mut last = None;
        for found in files {
            match found.header.map(|header| header.number) {
                Some(number) if number >= oldest && last != Some(number) => {
                    last = Some(number);
                    self.files.push(found);
                }
                _ => self.unused.push(found),
            }
        }
        Ok(())
    }

    /// The number of a segment whose header is gone, and whether its file holds nothing but zeros.
    fn guess_number(&mut self, found: &Found<D::File>) -> Result<(Option<u32>, bool), OpenError> {
        self.read_file(found, found.length as usize)?;
        let is_blank = self.bytes.iter().all(|&byte| byte == 0);
        let number = match self.identity {
            Some(identity) if !is_blank => number_of(&self.bytes, segment::seed(identity)),
            _ => None,
        };
        Ok((number, is_blank))
    }

    /// Reads a file, and takes what is missing at its end for zeros.
    fn read_file(&mut self, found: &Found<D::File>, bytes: usize) -> Result<(), OpenError> {
        self.bytes.clear();
        self.bytes.resize(bytes, 0);
        let read = found.file.read_up_to(&mut self.bytes, 0);
        read.map_err(self.failed("read", &found.name))?;
        Ok(())
    }

    /// Reads the log and applies what it says.
    fn read_files(&mut self) -> Result<Scanned, OpenError> {
        let mut state = State::new();
        let mut oldest = 0;
        let mut extents = Vec::new();
        let mut last = Scan::default();
        let mut previous: Option<u32> = None;
        let files = std::mem::take(&mut self.files);
        for (at, found) in files.iter().enumerate() {
            let header = found.header.expect("files without one were sorted out");
            self.read_file(found, header.bytes as usize)?;
            if let Some(previous) = previous.filter(|&number| number + 1 < header.number) {
                let (first, last) = (previous + 1, header.number - 1);
                self.damages.push((last, Damage::Missing { first, last }));
            }
            let seed = segment::seed(self.identity.unwrap_or_default());
            match previous {
                None => state.start_at(self.first_seq(&files, seed)),
                Some(_) if found.copies > 0 => state.expect_next(Seq::new(header.next_seq)),
                Some(_) => {}
            }
            let next_seq = state.next_seq().get();
            let is_last = at + 1 == files.len();
            let each = |record: &record::Header, body: &[u8], offset: usize| {
                if record.kind == Kind::Oldest {
                    oldest = oldest.max(u32::try_from(record.number).unwrap_or(0));
                }
                if let Some(event) = Event::of(record, body) {
                    let place = Place { segment: header.number, offset: offset as u32 };
                    state.apply(&event, place);
                }
            };
            let scan = scan(&self.bytes, header.number, seed, is_last, each);
            self.report(found, &header, &scan, is_last);
            if is_last {
                self.write_again(found, &scan)?;
            }
            extents.push((scan.end, next_seq));
            previous = Some(header.number);
            oldest = oldest.max(if found.copies > 0 { header.oldest } else { 0 });
            last = scan;
        }
        oldest = oldest.min(previous.unwrap_or(0));
        self.files = files;
        Ok(Scanned { state, oldest, extents, last })
    }

    /// The sequence number that the log starts with: as the first segment's header says, whose
    /// content was read, or else as can be told from what comes first.
    fn first_seq(&self, files: &[Found<D::File>], seed: u32) -> Seq {
        let known = files.iter().find(|found| found.copies > 0);
        let known = known.and_then(|found| found.header).map(|header| header.next_seq);
        let header = files.first().and_then(|found| found.header);
        let Some(header) = header.filter(|_| files[0].copies == 0) else {
            return Seq::new(known.unwrap_or(1));
        };
        let mut first = None;
        scan(&self.bytes, header.number, seed, false, |record, _, _| {
            if matches!(record.kind, Kind::Put | Kind::PutDelayed) {
                first.get_or_insert(record.number);
            }
        });
        Seq::new(first.or(known).unwrap_or(1))
    }

    /// Writes what may not have been synced once more. It was read, but if a sync failed before,
    /// the kernel may hold it for synced, and the next sync would pass it over.
    fn write_again(&self, found: &Found<D::File>, scan: &Scan) -> Result<(), OpenError> {
        let is_first_epoch = scan.unsynced_from == segment::HEADER_BYTES;
        let from = if is_first_epoch { 0 } else { scan.unsynced_from };
        let written = found.file.write_all_at(&self.bytes[from..scan.end], from as u64);
        written.map_err(self.failed("write", &found.name))
    }

    fn report(&mut self, found: &Found<D::File>, header: &Header, scan: &Scan, is_last: bool) {
        let path = self.disk.path().join(&found.name);
        // The first commit into a recycled file may tear both copies; it was not acknowledged.
        let is_torn_start = is_last && scan.epoch <= 1;
        if found.copies == 0 && !is_torn_start {
            self.damages.push((header.number, Damage::Header { path: path.clone() }));
        }
        for range in &scan.damaged {
            let (path, offset) = (path.clone(), range.start as u64);
            let bytes = range.len() as u64;
            self.damages.push((header.number, Damage::Records { path, offset, bytes }));
        }
        self.recovery.torn = scan.torn.as_ref().map(|range| TornTail {
            segment: header.number,
            offset: range.start as u64,
            bytes: range.len() as u64,
        });
    }

    fn finish(
        mut self,
        scanned: Scanned,
        now: Millis,
    ) -> Result<(Log<D>, State, Recovery), OpenError> {
        let Scanned { mut state, oldest, extents, last } = scanned;
        self.keep_what_matters(&mut state, oldest, &extents);
        self.repair_last_header(oldest, extents.last().map_or(1, |&(_, next_seq)| next_seq))?;
        // What was read comes to be durable before anything is written behind it, even the record
        // of the restart: its epoch is one more.
        if let Some(found) = self.files.last() {
            found.file.sync_data().map_err(self.failed("sync", &found.name))?;
        }
        // Names that were seen may not be durable, and files are about to be used under them.
        self.disk.sync_directory().map_err(self.failed("sync", ""))?;
        let mut segments = VecDeque::new();
        let mut leaving = Vec::new();
        for (found, (end, next_seq)) in std::mem::take(&mut self.files).into_iter().zip(extents) {
            let header = found.header.expect("files without one were sorted out");
            let segment = into_segment(found, header.number, header.bytes, next_seq, end);
            if segment.number < oldest {
                leaving.push(segment);
            } else {
                segments.push_back(segment);
            }
        }
        leaving.extend(self.unused.drain(..).map(|found| {
            let bytes = u32::try_from(found.length).ok().filter(|bytes| bytes.is_power_of_two());
            into_segment(found, 0, bytes.unwrap_or(0), 0, 0)
        }));
        self.recovery.messages = state.held();
        self.recovery.segments = segments.len();
        self.recovery.is_clean = last.is_clean && last.torn.is_none();
        let parts = Parts {
            settings: self.settings,
            disk: self.disk,
            identity: self.identity.unwrap_or_default(),
            segments,
            next_seq: state.next_seq().get(),
            epoch: last.epoch + 1,
            is_sealed: last.is_sealed,
            leaving,
            next_file: self.next_file,
        };
        let mut log = Log::new(parts, now);
        log.restart(now)?;
        Ok((log, state, self.recovery))
    }

    /// Segments before `oldest` were not needed any more, in whatever condition they are, and
    /// neither was a message whose record stood there.
    fn keep_what_matters(&mut self, state: &mut State, oldest: u32, extents: &[(usize, u64)]) {
        for (_, mut damage) in self.damages.drain(..).filter(|&(number, _)| number >= oldest) {
            if let Damage::Missing { first, .. } = &mut damage {
                *first = oldest.max(*first);
            }
            self.recovery.damages.push(damage);
        }
        let mut lost = state.finish_recovery(oldest);
        let headers = self.files.iter().filter_map(|found| found.header);
        let mut starts = headers.zip(extents);
        // When the oldest segment itself is missing, so is the number it started with.
        if let Some((_, &(_, start))) = starts.find(|(header, _)| header.number == oldest) {
            lost.retain(|seq| seq.get() >= start);
        }
        self.recovery.lost = ranges(&lost);
    }

    /// Writes the last segment's header again if one of its copies is not whole.
    fn repair_last_header(&self, oldest: u32, next_seq: u64) -> Result<(), OpenError> {
        let Some(found) = self.files.last().filter(|found| found.copies < 2) else {
            return Ok(());
        };
        let mut header = found.header.expect("files without one were sorted out");
        if found.copies == 0 {
            header =
                Header { identity: self.identity.unwrap_or_default(), oldest, next_seq, ..header };
        }
        let written = found.file.write_all_at(&header.encode(), 0);
        written.map_err(self.failed("write", &found.name))
    }

    /// A queue without a past.
    fn start(mut self, now: Millis) -> Result<(Log<D>, State, Recovery), OpenError> {
        self.recovery.is_new = self.recovery.damages.is_empty();
        let identity = self.disk.random().map_err(self.failed("make an identity for", ""))?;
        let name = file_name(self.next_file);
        self.next_file += 1;
        let bytes = self.settings.segment_bytes_min;
        let spare = preparer::prepare(&self.disk, &name, bytes, Zeros::suiting(self.settings.sync));
        let spare = spare.map_err(self.failed("create", &name))?;
        let header = Header { bytes, identity, number: 1, oldest: 1, next_seq: 1 };
        let written = spare.file.write_all_at(&header.encode(), 0);
        written.map_err(self.failed("write", &name))?;
        let first = Segment {
            number: 1,
            name,
            file: spare.file,
            bytes,
            next_seq: 1,
            end: segment::HEADER_BYTES as u32,
        };
        let unused = std::mem::take(&mut self.unused);
        let leaving = unused.into_iter().map(|found| into_segment(found, 0, 0, 0, 0)).collect();
        let parts = Parts {
            settings: self.settings,
            disk: self.disk,
            identity,
            segments: VecDeque::from([first]),
            next_seq: 1,
            epoch: 1,
            is_sealed: false,
            leaving,
            next_file: self.next_file,
        };
        let mut log = Log::new(parts, now);
        log.restart(now)?;
        self.recovery.segments = 1;
        Ok((log, State::new(), self.recovery))
    }
}

/// A header in the place of one that is gone, as far as it can be known.
fn made_up<F>(found: &Found<F>, number: u32, settings: &QueueSettings) -> Header {
    let length = u32::try_from(found.length).ok();
    let bytes = length.and_then(u32::checked_next_power_of_two);
    let bytes = bytes.unwrap_or(0).max(settings.segment_bytes_min);
    Header { bytes, identity: 0, number, oldest: 0, next_seq: 0 }
}

fn into_segment<F>(
    found: Found<F>,
    number: u32,
    bytes: u32,
    next_seq: u64,
    end: usize,
) -> Segment<F> {
    Segment { number, name: found.name, file: found.file, bytes, next_seq, end: end as u32 }
}

/// Sorted messages as ranges, both ends included.
fn ranges(messages: &[Seq]) -> Vec<(Seq, Seq)> {
    let mut ranges: Vec<(Seq, Seq)> = Vec::new();
    for &seq in messages {
        match ranges.last_mut() {
            Some((_, last)) if last.next() == seq => *last = seq,
            _ => ranges.push((seq, seq)),
        }
    }
    ranges
}
