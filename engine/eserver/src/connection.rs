//! [`Connection`]: what one connection costs.
//!
//! An idle connection is this record and nothing else: no buffer, no future, no block of its own on
//! the heap. What a busy one needs, an unfinished request, bytes the peer did not take, answers that
//! wait for earlier ones, hangs off it in a [`Busy`] and goes when it is empty.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr, TcpStream};

use crate::outbox::Outbox;
use crate::wheel::{Links, Tick};

/// Bits of [`Connection::flags`].
pub(crate) mod flag {
    /// No further request is read until answers have left.
    pub(crate) const PAUSED: u8 = 1;
    /// The peer will send nothing more.
    pub(crate) const PEER_DONE: u8 = 1 << 1;
    /// End once everything that is owed has been sent.
    pub(crate) const CLOSING: u8 = 1 << 2;
    /// The socket failed: end at the next look.
    pub(crate) const BROKEN: u8 = 1 << 3;
    /// epoll also reports when the socket takes bytes again, or will once it is told about it.
    pub(crate) const WATCH_WRITE: u8 = 1 << 4;
    /// epoll knows the connection.
    pub(crate) const REGISTERED: u8 = 1 << 5;
    /// epoll has reported the end of the peer's bytes, which is yet to be read; it will not again.
    pub(crate) const END_SEEN: u8 = 1 << 6;
}

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
    pub(crate) listener: u8,
    pub(crate) flags: u8,
}

// An idle connection costs this much of our memory, and the promise is 128 bytes.
const _: () = assert!(size_of::<Option<(u32, Connection)>>() <= 72);

/// What a connection holds only while it has work.
#[derive(Default)]
pub(crate) struct Busy {
    /// The front of a request that has not arrived whole.
    pub(crate) spill: Vec<u8>,
    /// How long the spill must be before another look at it is worth while, in bytes.
    pub(crate) need: usize,
    /// When the spilled request must be whole; set while `spill` holds one.
    pub(crate) request_deadline: Tick,
    pub(crate) outbox: Outbox,
    /// When the outbox must have shrunk enough; set while it is not empty.
    pub(crate) write_deadline: Tick,
    /// By how many bytes it has shrunk since that was set.
    pub(crate) shrunk: usize,
    /// A paused connection goes on when so few requests are in flight.
    pub(crate) resume_at: u32,
    /// Answers ready before their turn. The front belongs to `next_reply` and is always `None`.
    pub(crate) parked: VecDeque<Option<Box<[u8]>>>,
}

impl Busy {
    fn is_empty(&self) -> bool {
        self.spill.is_empty() && self.outbox.len() == 0 && self.parked.is_empty()
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
            listener,
            flags: 0,
        }
    }

    pub(crate) fn peer(&self) -> IpAddr {
        IpAddr::V6(self.peer).to_canonical()
    }

    #[inline]
    pub(crate) fn has(&self, flags: u8) -> bool {
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
    pub(crate) fn spill_bytes(&self) -> usize {
        self.busy.as_ref().map_or(0, |busy| busy.spill.len())
    }

    #[inline]
    pub(crate) fn busy_mut(&mut self) -> &mut Busy {
        self.busy.get_or_insert_default()
    }

    /// Gives the memory of finished work back.
    #[inline]
    pub(crate) fn tidy(&mut self) {
        if self.busy.as_ref().is_some_and(|busy| busy.is_empty()) {
            self.busy = None;
        }
    }
}
