//! Moving: how a few old messages are kept from holding the whole log.
//!
//! Only the oldest segment can leave the log, and a message that is buried, delayed or leased for
//! long keeps its segment. When the log has become much longer than its messages need, those of the
//! oldest segment are written again at its end, with all that is known about them.

use crate::disk::Disk;
use crate::event::{self, Event, Hold, MOVED_BYTES, Moved};
use crate::log::record::Kind;
use crate::log::room::Need;
use crate::log::{AppendError, LogFailed};
use crate::state::index::Status;
use crate::{Queue, Seq};

/// Bytes moved per commit to free an old segment.
const MOVED_BYTES_PER_COMMIT: usize = 256 << 10;

/// Messages looked at per commit to free an old segment.
const MOVED_PER_COMMIT: usize = 1024;

impl<D: Disk> Queue<D> {
    /// When few messages keep an old segment, and with it all later ones, writes them again at the
    /// end of the log, some with each commit.
    pub(crate) fn move_stragglers(&mut self) -> Result<(), LogFailed> {
        let Some(oldest) = self.log.oldest_of_several() else {
            return Ok(());
        };
        if !self.is_moving_worth_it() {
            return Ok(());
        }
        let from = match self.moving {
            Some((segment, from)) if segment == oldest => from,
            _ => Seq::new(0),
        };
        let next = Seq::new(self.log.segments[1].next_seq);
        let messages = self.state.in_segment(oldest, from, next);
        let messages: Vec<_> = messages.take(MOVED_PER_COMMIT).collect();
        let mut bytes = 0;
        for seq in messages {
            if bytes > MOVED_BYTES_PER_COMMIT {
                break;
            }
            bytes += self.state.entry(seq).map_or(0, |entry| entry.payload_bytes as usize);
            match self.move_to_end(seq) {
                Ok(()) => self.moving = Some((oldest, seq.next())),
                Err(AppendError::NoSpace) => return Ok(()),
                Err(AppendError::Failed(failed)) => return Err(failed),
            }
        }
        self.retire_segments();
        Ok(())
    }

    /// Whether the next commit will move messages as well.
    pub(crate) fn has_moving_to_do(&self) -> bool {
        self.log.oldest_of_several().is_some() && self.is_moving_worth_it()
    }

    /// The log is more than twice what it would have to be, and some.
    fn is_moving_worth_it(&self) -> bool {
        let slack = 2 * u64::from(self.log.newest().bytes);
        self.log.bytes() > 2 * self.state.usage().total().bytes + slack
    }

    fn move_to_end(&mut self, seq: Seq) -> Result<(), AppendError> {
        let Some(entry) = self.state.entry(seq).copied() else {
            return Ok(());
        };
        let mut reason = Vec::new();
        if let Some(place) = self.state.reason(seq)
            && let Ok(Some((kind, body))) = self.log.read(place)
        {
            reason.extend_from_slice(event::reason(kind, body).unwrap_or_default());
        }
        let hold = match entry.status {
            Status::Buried => Hold::Buried,
            Status::Delayed => self.state.due(seq).map_or(Hold::Free, Hold::Until),
            _ => Hold::Free,
        };
        let mut payload = std::mem::take(&mut self.scratch);
        payload.clear();
        let is_read = self.read_payload(seq, |bytes| payload.extend_from_slice(bytes));
        if !matches!(is_read, Ok(true)) {
            // It stays where it is, and keeps its segment: there is nothing sound to move.
            return Ok(());
        }
        let body_bytes = MOVED_BYTES + reason.len() + payload.len();
        self.log.make_room(body_bytes, Need::Put, self.now)?;
        let reason_bytes = reason.len() as u32;
        let moved = Moved { attempts: entry.attempts, hold, reason_bytes };
        let place = self.log.append(Kind::Move, seq.get(), |out| {
            out.extend_from_slice(&moved.encode());
            out.extend_from_slice(&reason);
            out.extend_from_slice(&payload);
        });
        let payload_bytes = payload.len() as u32;
        self.state.apply(&Event::Moved { seq, moved, payload_bytes }, place);
        self.scratch = payload;
        self.totals.moved += 1;
        Ok(())
    }
}
