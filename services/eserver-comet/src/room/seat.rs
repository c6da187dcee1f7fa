//! [`Seat`]: one subscription to one channel. [`Audience`]: those that are to the same one.

use crate::directory::Named;
use crate::names::NameRef;
use crate::outgoing::SubscriberId;
use crate::position::{Epoch, Position, Seq};
use crate::room::group::Group;
use crate::slots::{NONE, Slab};
use crate::transport::Transport;
use crate::wheel::{Links, Records};

/// How far a subscription has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The hub has been asked and has not answered.
    Asked,
    /// It gets what is delivered.
    Live,
    /// It reads too slowly and gets nothing for now.
    Lagging,
    /// It reads again: the hub has been asked for what it missed.
    CatchingUp,
    /// The subscriber is gone; the answer of the hub is still to come.
    Doomed,
}

#[derive(Debug)]
pub(crate) struct Seat<H> {
    pub(crate) handle: H,
    /// The slot of its channel.
    pub(crate) channel: u32,
    /// The neighbors among those of the same channel.
    pub(crate) previous: u32,
    pub(crate) next: u32,
    pub(crate) links: Links,
    /// For icomet's transports the noop counter; for the others the group, or [`NONE`].
    pub(crate) word: u32,
    /// The low bits of the tick at which it was told something.
    pub(crate) heard: u16,
    pub(crate) transport: Transport,
    pub(crate) stage: Stage,
}

/// A channel in a room.
#[derive(Debug)]
pub(crate) struct Audience {
    pub(crate) name: NameRef,
    /// The first of those who listen, asked or doomed.
    pub(crate) head: u32,
    /// The slot of the channel in its hub, or [`NONE`] while nobody has been live in it.
    pub(crate) hub: u32,
    /// The life that the live ones listen to, and the message they wait for: the same for all. In
    /// halves, which take less room.
    epoch: [u32; 2],
    next: [u32; 2],
}

// A waiting poll costs these two, and a handle of 16 bytes.
const _: () = assert!(size_of::<Option<Seat<[u32; 4]>>>() == 48);
const _: () = assert!(size_of::<Option<Audience>>() == 28);

impl<H> Seat<H> {
    /// The group it belongs to.
    pub(crate) fn group(&self) -> Option<u32> {
        (!self.transport.is_icomet() && self.word != NONE).then_some(self.word)
    }
}

impl Audience {
    /// One that nobody is a part of.
    pub(crate) fn new(name: NameRef) -> Self {
        Audience { name, head: NONE, hub: NONE, epoch: [0; 2], next: [0; 2] }
    }

    /// Whether somebody is live, or was; the position means nothing before.
    pub(crate) fn is_live(&self) -> bool {
        self.hub != NONE
    }

    pub(crate) fn position(&self) -> Position {
        let whole = |[high, low]: [u32; 2]| u64::from(high) << 32 | u64::from(low);
        Position { epoch: Epoch::new(whole(self.epoch)), next: Seq::new(whole(self.next)) }
    }

    pub(crate) fn set_position(&mut self, position: Position) {
        let halves = |whole: u64| [(whole >> 32) as u32, whole as u32];
        self.epoch = halves(position.epoch.get());
        self.next = halves(position.next.get());
    }
}

impl Named for Audience {
    fn name(&self) -> NameRef {
        self.name
    }
}

/// Subscribers as the wheel sees them, by the number of their id.
pub(crate) struct Heartbeats<'a, H> {
    pub(crate) seats: &'a mut Slab<Seat<H>>,
    pub(crate) groups: &'a mut Slab<Box<Group<H>>>,
}

impl<H> Records for Heartbeats<'_, H> {
    fn links(&mut self, id: u32) -> &mut Links {
        match SubscriberId(id).group() {
            Some(slot) => &mut self.groups.at_mut(slot).links,
            None => &mut self.seats.at_mut(id).links,
        }
    }
}
