//! [`Channel`]: what a hub knows of one. [`Channels`]: all of them.

use std::collections::VecDeque;

use crate::directory::{Directory, Named};
use crate::history::History;
use crate::hub::members::Members;
use crate::millis::{Millis, Tick};
use crate::names::NameRef;
use crate::position::Seq;
use crate::shards::{ShardId, Shards};
use crate::slots::{NONE, Slab};
use crate::wheel::{Links, Records};

#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) name: NameRef,
    /// Which of the hub's lives this is; the epoch follows from it.
    pub(crate) life: u32,
    /// The number of the message that comes next.
    pub(crate) next: Seq,
    /// When it ends, unless it has subscribers then.
    pub(crate) expires: Tick,
    /// The slot of what only some channels have, or [`NONE`].
    extra: u32,
    attendance: Attendance,
    /// The shard that listens, if it is one.
    shard: ShardId,
    /// It was told to be occupied, and not to be vacated.
    pub(crate) is_occupied: bool,
}

// A channel without history costs this much of our memory, its name and its place in the index
// apart; together with a room's part of it the promise is 160 bytes.
const _: () = assert!(size_of::<Option<Channel>>() == 40);

/// Who listens.
#[derive(Debug)]
enum Attendance {
    /// Nobody: it is on the wheel of those that expire.
    Idle(Links),
    /// So many subscribers. If they are on one shard, `room` is the slot of the channel in its room;
    /// if on several, they are in [`Extra::listeners`].
    Busy { room: u32, count: u32 },
}

/// A shard that listens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Listener {
    pub(crate) shard: ShardId,
    /// The slot of the channel in the room of that shard.
    pub(crate) room: u32,
    /// How many subscribers it has; never 0.
    count: u32,
}

#[derive(Debug)]
pub(crate) struct Extra {
    pub(crate) history: History,
    /// Keys of recent publishes, the oldest first.
    pub(crate) keys: VecDeque<PublishKey>,
    pub(crate) members: Members,
    /// The shards that listen, if there are several.
    listeners: Vec<Listener>,
    /// When something of this is to be dropped.
    pub(crate) chores: Links,
}

#[derive(Debug)]
pub(crate) struct PublishKey {
    pub(crate) key: Box<str>,
    pub(crate) seq: Seq,
    pub(crate) ends: Millis,
}

/// All channels of a hub.
pub(crate) struct Channels {
    directory: Directory<Channel>,
    extras: Slab<Box<Extra>>,
}

impl Named for Channel {
    fn name(&self) -> NameRef {
        self.name
    }
}

impl Channels {
    pub(crate) fn new(shards: Shards) -> Self {
        Channels { directory: Directory::new(shards), extras: Slab::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.directory.records.len()
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() + self.extras.len() == 0
    }

    /// The end of the slots that channels may have.
    pub(crate) fn end(&self) -> u32 {
        self.directory.records.end()
    }

    /// Gives back what is kept to be used again, and is not in use.
    pub(crate) fn trim(&mut self) {
        self.directory.trim();
        self.extras.trim();
    }

    pub(crate) fn find(&self, name: &str) -> Option<u32> {
        self.directory.find(name)
    }

    pub(crate) fn contains(&self, slot: u32) -> bool {
        self.directory.records.get(slot).is_some()
    }

    pub(crate) fn name(&self, slot: u32) -> &str {
        self.directory.name(slot)
    }

    /// The channel at `slot`, which its holder knows to be there.
    #[inline]
    pub(crate) fn at(&self, slot: u32) -> &Channel {
        self.directory.records.at(slot)
    }

    #[inline]
    pub(crate) fn at_mut(&mut self, slot: u32) -> &mut Channel {
        self.directory.records.at_mut(slot)
    }

    /// A new channel, which is on no wheel yet.
    pub(crate) fn insert(&mut self, name: &str, life: u32, expires: Tick) -> u32 {
        self.directory.insert(name, |name| Channel {
            name,
            life,
            next: Seq::FIRST,
            expires,
            extra: NONE,
            attendance: Attendance::Idle(Links::new()),
            shard: 0,
            is_occupied: false,
        })
    }

    /// Removes a channel, which is on no wheel any more.
    pub(crate) fn remove(&mut self, slot: u32) {
        if let Some(channel) = self.directory.remove(slot) {
            self.extras.remove(channel.extra);
        }
    }

    #[inline]
    pub(crate) fn extra(&self, slot: u32) -> Option<&Extra> {
        self.extras.get(self.at(slot).extra).map(Box::as_ref)
    }

    pub(crate) fn extra_mut(&mut self, slot: u32) -> Option<&mut Extra> {
        self.extras.get_mut(self.at(slot).extra).map(Box::as_mut)
    }

    /// The extra of a channel, made if it has none.
    pub(crate) fn make_extra(&mut self, slot: u32) -> &mut Extra {
        let Channels { directory, extras } = self;
        let channel = directory.records.at_mut(slot);
        if channel.extra == NONE {
            channel.extra = extras.insert(Box::new(Extra {
                history: History::default(),
                keys: VecDeque::new(),
                members: Members::default(),
                listeners: Vec::new(),
                chores: Links::new(),
            }));
        }
        extras.at_mut(channel.extra)
    }

    pub(crate) fn drop_empty_extra(&mut self, slot: u32) {
        if self.extra(slot).is_some_and(Extra::is_empty) {
            let extra = std::mem::replace(&mut self.at_mut(slot).extra, NONE);
            self.extras.remove(extra);
        }
    }

    /// The number of the oldest message that is kept.
    pub(crate) fn first(&self, slot: u32) -> Seq {
        let next = self.at(slot).next;
        self.extra(slot).map_or(next, |extra| extra.history.first(next))
    }

    pub(crate) fn for_listeners(&self, slot: u32, mut hear: impl FnMut(Listener)) {
        let channel = self.at(slot);
        match (self.extra(slot), &channel.attendance) {
            (Some(extra), _) if !extra.listeners.is_empty() => {
                extra.listeners.iter().copied().for_each(hear);
            }
            (_, Attendance::Busy { room, count }) => {
                hear(Listener { shard: channel.shard, room: *room, count: *count });
            }
            (_, Attendance::Idle(_)) => {}
        }
    }

    /// One more subscriber, on this shard. The channel is on no wheel of those that expire.
    pub(crate) fn attend(&mut self, slot: u32, shard: ShardId, room: u32) {
        let newcomer = Listener { shard, room, count: 1 };
        let channel = self.at_mut(slot);
        let Attendance::Busy { room: only_room, count } = &mut channel.attendance else {
            channel.attendance = Attendance::Busy { room, count: 1 };
            channel.shard = shard;
            return;
        };
        let first = Listener { shard: channel.shard, room: *only_room, count: *count };
        *count += 1;
        if let Some(extra) = self.extra_mut(slot).filter(|extra| !extra.listeners.is_empty()) {
            match extra.listeners.iter_mut().find(|listener| listener.shard == shard) {
                Some(listener) => {
                    debug_assert_eq!(listener.room, room);
                    listener.count += 1;
                }
                None => extra.listeners.push(newcomer),
            }
        } else if first.shard == shard {
            debug_assert_eq!(first.room, room);
        } else {
            self.make_extra(slot).listeners = vec![first, newcomer];
        }
    }

    /// So many less on this shard; how many of them there were.
    pub(crate) fn unattend(&mut self, slot: u32, shard: ShardId, count: u32) -> u32 {
        let Attendance::Busy { count: all, .. } = self.at(slot).attendance else {
            return 0;
        };
        let mut left = count.min(all);
        if let Some(extra) = self.extra_mut(slot).filter(|extra| !extra.listeners.is_empty()) {
            let Some(at) = extra.listeners.iter().position(|held| held.shard == shard) else {
                return 0;
            };
            left = count.min(extra.listeners[at].count);
            extra.listeners[at].count -= left;
            if extra.listeners[at].count == 0 {
                extra.listeners.swap_remove(at);
            }
            if let [last] = extra.listeners[..] {
                extra.listeners = Vec::new();
                self.drop_empty_extra(slot);
                let channel = self.at_mut(slot);
                channel.attendance = Attendance::Busy { room: last.room, count: last.count };
                channel.shard = last.shard;
                return left;
            }
        } else if self.at(slot).shard != shard {
            return 0;
        }
        let channel = self.at_mut(slot);
        if let Attendance::Busy { count, .. } = &mut channel.attendance {
            *count -= left;
            if *count == 0 {
                channel.attendance = Attendance::Idle(Links::new());
            }
        }
        left
    }
}

impl Channel {
    pub(crate) fn subscribers(&self) -> u32 {
        match self.attendance {
            Attendance::Idle(_) => 0,
            Attendance::Busy { count, .. } => count,
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.attendance, Attendance::Idle(_))
    }
}

impl Extra {
    fn is_empty(&self) -> bool {
        self.history.is_empty()
            && self.keys.is_empty()
            && self.members.is_empty()
            && self.listeners.is_empty()
            && self.chores.deadline().is_none()
    }
}

/// Channels as the wheel of those that expire sees them.
pub(crate) struct Expiries<'a>(pub(crate) &'a mut Channels);

impl Records for Expiries<'_> {
    fn links(&mut self, slot: u32) -> &mut Links {
        match &mut self.0.at_mut(slot).attendance {
            Attendance::Idle(links) => links,
            Attendance::Busy { .. } => unreachable!("a channel with subscribers is on no wheel"),
        }
    }
}

/// Channels as the wheel of those that have something to drop sees them.
pub(crate) struct Chores<'a>(pub(crate) &'a mut Channels);

impl Records for Chores<'_> {
    fn links(&mut self, slot: u32) -> &mut Links {
        &mut self.0.make_extra(slot).chores
    }
}
