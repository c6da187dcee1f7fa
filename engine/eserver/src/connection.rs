//! [`Connection`]: what one connection costs.
//!
//! An idle connection is this record and nothing else: no buffer, no future, no block of its own on
//! the heap. What a busy one needs, an unfinished request, bytes the peer did not take, answers that
//! wait for earlier ones, hangs off it in a [`Busy`] and goes when it is empty.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr, TcpStream};

use tokio::sync::{oneshot, watch};

use crate::outbox::Outbox;
use crate::wheel::{Links, Tick};

/// Bits of [`Connection::flags`].
pub(crate) mod flag {
    /// No further request is read until answers have left.
    pub(crate) const PAUSED: u16 = 1;
    /// The peer will send nothing more.
    pub(crate) const PEER_DONE: u16 = 1 << 1;
    /// End once everything that is owed has been sent.
    pub(crate) const CLOSING: u16 = 1 << 2;
    /// The socket failed: end at the next look.
    pub(crate) const BROKEN: u16 = 1 << 3;
    /// epoll also reports when the socket takes bytes again, or will once it is told about it.
    pub(crate) const WATCH_WRITE: u16 = 1 << 4;
    /// epoll knows the connection.
    pub(crate) const REGISTERED: u16 = 1 << 5;
    /// epoll has reported the end of the peer's bytes, which is yet to be read; it will not again.
    pub(crate) const END_SEEN: u16 = 1 << 6;
    /// The service knows the length of what is still to come of a request, or takes it piece by
    /// piece: it must come at the least rate, not by a deadline.
    pub(crate) const BODY: u16 = 1 << 7;
    /// Once everything that is owed has been sent, take in and drop what the peer still sends, so
    /// that it gets to read the answer instead of a reset.
    pub(crate) const LINGERS: u16 = 1 << 8;
    /// Our side has been ended; what comes is dropped.
    pub(crate) const LINGERING: u16 = 1 << 9;
    /// The service has been told that the peer will send nothing more.
    pub(crate) const END_TOLD: u16 = 1 << 10;
    /// The bytes are another protocol's: the slot stays until the connection ends.
    pub(crate) const UPGRADED: u16 = 1 << 11;
    /// The service has taken what may stand once between two requests, and does not take it again.
    pub(crate) const PADDED: u16 = 1 << 12;
    /// The service wants to know when nothing is kept for the peer any more.
    pub(crate) const TELLS_DRAINED: u16 = 1 << 13;
    /// The peer reads too slowly, and gets nothing more than what is kept for it: at the write
    /// deadline that must have left, however fast it goes.
    pub(crate) const TOO_SLOW: u16 = 1 << 14;
}

/// "The service has nothing of its own for this connection."
pub const NO_SLOT: u32 = u32::MAX;

pub(crate) struct Connection {
    pub(crate) socket: TcpStream,
    /// IPv4 as a mapped address, to be one size.
    peer: Ipv6Addr,
    pub(crate) links: Links,
    /// The ordinal of the next request to be read.
    pub(crate) next_request: u32,
    /// The ordinal of the next answer to be sent; what lies between is in flight.
    pub(crate) next_reply: u32,
    pub(crate) busy: Option<Box<Busy>>,
    /// What the service has of its own for this connection, or [`NO_SLOT`].
    pub(crate) slot: u32,
    pub(crate) flags: u16,
    pub(crate) listener: u8,
}

// An idle connection costs this much of our memory, and the promise is 128 bytes.
const _: () = assert!(size_of::<Option<(u32, Connection)>>() == 72);

/// What a connection holds only while it has work.
#[derive(Default)]
pub(crate) struct Busy {
    /// The front of a request that has not arrived whole.
    pub(crate) spill: Vec<u8>,
    /// How long the spill must be before another look at it is worth while, in bytes.
    pub(crate) need: usize,
    /// How many of its bytes the service has seen and found to be no whole request.
    pub(crate) seen: usize,
    /// When the request that the spill holds the front of began.
    pub(crate) request_started: Tick,
    /// When the spilled request must be whole, a body must have grown enough, or lingering ends;
    /// set while one of these is so.
    pub(crate) request_deadline: Tick,
    /// By how many bytes a body has grown since that was set; or how many were dropped.
    pub(crate) grown: usize,
    pub(crate) outbox: Outbox,
    /// When the outbox must have shrunk enough; set while it is not empty.
    pub(crate) write_deadline: Tick,
    /// By how many bytes it has shrunk since that was set.
    pub(crate) shrunk: usize,
    /// A paused connection goes on when so few requests are in flight.
    pub(crate) resume_at: u32,
    /// Answers ready before their turn. The front belongs to `next_reply` and is always `None`.
    pub(crate) parked: VecDeque<Option<Parked>>,
    /// How many bytes these have together.
    pub(crate) parked_bytes: usize,
    /// Who waits until everything written so far has left, each with the ordinal of its answer.
    pub(crate) drained: Vec<(u32, oneshot::Sender<()>)>,
    /// Who wants to know, while its answer is not complete, whether the peer is still there: told
    /// true when the peer will send nothing more or the server is ending, and dropped with the
    /// connection.
    pub(crate) watchers: Vec<(u32, watch::Sender<bool>)>,
}

/// An answer, or the front of one, that is ready before its turn.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parked {
    pub(crate) bytes: Vec<u8>,
    /// `None` while more of it may come.
    pub(crate) end: Option<End>,
}

/// How an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Whole,
    /// Nobody will give the rest: the connection ends there.
    Cut,
}

impl Busy {
    fn is_empty(&self) -> bool {
        self.spill.is_empty()
            && self.outbox.len() == 0
            && self.parked.is_empty()
            && self.drained.is_empty()
            && self.watchers.is_empty()
    }
}

impl Connection {
    pub(crate) fn new(socket: TcpStream, peer: IpAddr, listener: u8) -> Self {
        let peer = match peer {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        Connection {
            socket,
            peer,
            links: Links::new(),
            next_request: 0,
            next_reply: 0,
            busy: None,
            slot: NO_SLOT,
            flags: 0,
            listener,
        }
    }

    pub(crate) fn peer(&self) -> IpAddr {
        IpAddr::V6(self.peer).to_canonical()
    }

    #[inline]
    pub(crate) fn peer_mapped(&self) -> Ipv6Addr {
        self.peer
    }

    #[inline]
    pub(crate) fn has(&self, flags: u16) -> bool {
        self.flags & flags != 0
    }

    /// Requests read and not yet answered.
    #[inline]
    pub(crate) fn in_flight(&self) -> u32 {
        self.next_request.wrapping_sub(self.next_reply)
    }

    #[inline]
    pub(crate) fn outbox_bytes(&self) -> usize {
        self.busy.as_ref().map_or(0, |busy| busy.outbox.len())
    }

    #[inline]
    pub(crate) fn parked_bytes(&self) -> usize {
        self.busy.as_ref().map_or(0, |busy| busy.parked_bytes)
    }

    #[inline]
    pub(crate) fn spill_bytes(&self) -> usize {
        self.busy.as_ref().map_or(0, |busy| busy.spill.len())
    }

    /// Whether it ends once what it is owed has left.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        let goes_on = self.has(flag::PAUSED | flag::LINGERING);
        self.has(flag::CLOSING) && self.in_flight() == 0 && !goes_on
    }

    /// Whether a request has come in part.
    #[inline]
    pub(crate) fn is_partial(&self) -> bool {
        self.spill_bytes() > 0 || self.has(flag::BODY)
    }

    #[inline]
    pub(crate) fn busy_mut(&mut self) -> &mut Busy {
        self.busy.get_or_insert_default()
    }

    /// The peer will send nothing more, or the server is ending: tells those who want to know.
    pub(crate) fn tell_watchers(&self) {
        for (_, watcher) in self.busy.iter().flat_map(|busy| &busy.watchers) {
            watcher.send_replace(true);
        }
    }

    /// Gives the memory of finished work back.
    #[inline]
    pub(crate) fn tidy(&mut self) {
        if self.busy.as_ref().is_some_and(|busy| busy.is_empty())
            && !self.has(flag::BODY | flag::LINGERING)
        {
            self.busy = None;
        }
    }
}
