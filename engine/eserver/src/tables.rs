//! [`Tables`]: how many connections each table of descriptors holds, and may hold.
//!
//! The limit on open files (RLIMIT_NOFILE) is one on a *table*, and a Linux thread may have one of its
//! own. The shards that listen share the process's; *parking* shards have private ones, to which
//! connections are handed over that those have no room for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::descriptors::DescriptorLimit;
use crate::handover::SOCKETS_MAX;

/// Whether connections may be parked in tables of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PrivateTables {
    /// Where more connections are wanted than one table holds.
    Auto,
    /// As for [`PrivateTables::Auto`], also when one table would do: then with one parking shard.
    On,
    /// Never: the limit on open files bounds all connections together.
    #[default]
    Off,
}

/// Parking shards at most.
const PARKING_MAX: usize = 512;

/// Descriptors that each shard has in every table: a waker, and its epoll and a copy of that in the
/// process's; and while the server starts, two ends of a socket.
const SHARD_DESCRIPTORS: usize = 5;

/// A parking shard is worth its thread from so many connections on.
const ROOM_MIN: usize = 64;

/// How many connections there are in each table, and may be.
#[derive(Debug)]
pub(crate) struct Tables {
    /// In the process's table.
    pub(crate) shared: Arc<Table>,
    /// In those of the parking shards.
    pub(crate) private: Vec<Arc<Table>>,
}

/// One table.
#[derive(Debug)]
pub(crate) struct Table {
    held: AtomicUsize,
    pub(crate) room: usize,
}

impl Table {
    fn new(room: usize) -> Arc<Self> {
        Arc::new(Table { held: AtomicUsize::new(0), room })
    }

    /// Counts one more in, if there is room.
    pub(crate) fn enter(&self) -> bool {
        self.enter_below(self.room)
    }

    /// Counts one more in, if there is room and so few are there.
    pub(crate) fn enter_below(&self, held_max: usize) -> bool {
        let more = |held: usize| (held < held_max).then_some(held + 1);
        self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Counts one out.
    pub(crate) fn leave(&self) {
        self.held.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many it holds.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

impl Tables {
    /// As many as are needed for `connections_max`, with so many shards in the process's table.
    pub(crate) fn new(
        limit: DescriptorLimit,
        shards: usize,
        connections_max: usize,
        choice: PrivateTables,
    ) -> Self {
        let shared_room = limit.connections_max();
        let soft = usize::try_from(limit.soft).unwrap_or(usize::MAX);
        let parking_max = match choice {
            PrivateTables::Off => 0,
            _ => (soft / 32).min(PARKING_MAX),
        };
        let parking = match choice {
            PrivateTables::Off => 0,
            PrivateTables::On if connections_max <= shared_room => 1,
            _ => {
                let room = room_of(limit, shards + parking_max).max(1);
                let shared_room = shared_room.saturating_sub(SOCKETS_MAX);
                connections_max.saturating_sub(shared_room).div_ceil(room)
            }
        };
        let parking = parking.min(parking_max);
        let room = room_of(limit, shards + parking);
        if parking == 0 || room < ROOM_MIN {
            return Tables { shared: Table::new(shared_room), private: Vec::new() };
        }
        Tables {
            // Those that are on their way to other tables have a descriptor here for a moment.
            shared: Table::new(room.saturating_sub(SOCKETS_MAX).max(1)),
            private: (0..parking).map(|_| Table::new(room)).collect(),
        }
    }

    /// How many connections they hold together.
    pub(crate) fn room(&self) -> usize {
        self.shared.room + self.private.iter().map(|table| table.room).sum::<usize>()
    }

    /// How many connections that could be elsewhere may be in the process's table: three quarters of
    /// what it has room for, so that there is always room for those that could not.
    pub(crate) fn shared_parkable_max(&self) -> usize {
        if self.private.is_empty() { self.shared.room } else { self.shared.room / 4 * 3 }
    }

    /// Counts a connection in at the first parking shard that has room: they are filled one after the
    /// other, so that few threads are at work.
    pub(crate) fn park(&self) -> Option<usize> {
        self.private.iter().position(|table| table.enter())
    }
}

/// How many connections fit into a table beside what so many shards have there.
fn room_of(limit: DescriptorLimit, shards: usize) -> usize {
    limit.connections_max().saturating_sub(shards.saturating_mul(SHARD_DESCRIPTORS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(soft: u64, connections_max: usize, choice: PrivateTables) -> (usize, usize, usize) {
        let limit = DescriptorLimit { soft, hard: soft };
        let tables = Tables::new(limit, 1, connections_max, choice);
        (tables.shared.room, tables.private.len(), tables.room())
    }

    #[test]
    fn there_are_as_many_as_are_needed() {
        use PrivateTables::{Auto, Off, On};
        let (shared, private, room) = tables(20_000, 1_000_000, Auto);
        assert!((52..60).contains(&private) && room >= 1_000_000, "{shared} {private} {room}");
        assert_eq!(tables(20_000, 1_000_000, Off), (19_744, 0, 19_744));
        assert_eq!(tables(20_000, 10_000, Auto), (19_744, 0, 19_744));
        assert_eq!(tables(20_000, 10_000, On).1, 1);
        assert_eq!(tables(1_048_576, 1_000_000, Auto).1, 0);
        // A very low limit has no room for the wakers of many threads.
        assert_eq!(tables(64, 1_000_000, Auto), (48, 0, 48));
        let (_, private, room) = tables(256, 1_000_000, Auto);
        assert!(private == 8 && room > 4 * 192, "{private} {room}");
    }

    #[test]
    fn tables_are_filled_one_after_the_other() {
        let limit = DescriptorLimit { soft: 1024, hard: 1024 };
        let tables = Tables::new(limit, 1, 1500, PrivateTables::Auto);
        assert_eq!(tables.private.len(), 2);
        assert!(tables.shared_parkable_max() < tables.shared.room);
        let room = tables.private[0].room;
        for _ in 0..room {
            assert_eq!(tables.park(), Some(0));
        }
        assert_eq!(tables.park(), Some(1));
        tables.private[0].leave();
        assert_eq!(tables.park(), Some(0));
        for _ in 1..room {
            assert_eq!(tables.park(), Some(1));
        }
        assert_eq!(tables.park(), None);
        assert_eq!(tables.private[1].held(), room);
    }
}
