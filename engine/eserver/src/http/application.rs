//! [`Application`]: requests in, answers out, on the shard's own thread.

use std::any::Any;
use std::time::Instant;

use eserver_wire::http::Head;

use crate::http::call::Call;
use crate::service::{Conn, Conns, Received};

/// What serves requests: one value per shard.
///
/// A panic in it ends the process. What it has of its own for a connection it finds by a slot, a
/// number below 2^31 that it gives with [`Call::hold`] or [`Call::upgrade`].
pub trait Application: 'static {
    /// Whether the body that follows this head is to be read. It is asked as soon as the head is
    /// there, perhaps more than once.
    fn body(&mut self, head: &Head<'_>) -> BodyPlan {
        let _ = head;
        BodyPlan::default()
    }

    /// Sees to the answer of one request. `body` is empty if it was to be left unread.
    fn call(&mut self, head: &Head<'_>, body: &[u8], call: Call<'_, '_>) -> Answered;

    /// Every request of this turn has been called: the moment to pass a batch on.
    fn turn_ended(&mut self, conns: &mut Conns<'_>) {
        let _ = conns;
    }

    /// Somebody sent this by [`Post::tell`](crate::Post::tell).
    fn told(&mut self, message: Box<dyn Any + Send>, conns: &mut Conns<'_>) {
        let _ = (message, conns);
    }

    /// Whether connections may be on a thread that has a table of descriptors of its own; see
    /// [`Service::may_park`](crate::Service::may_park).
    fn may_park(&self) -> bool {
        false
    }

    /// When [`Application::wake`] is to be called. Asked in every turn, so it must be at hand.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// The deadline has come, perhaps a few milliseconds ago.
    fn wake(&mut self, conns: &mut Conns<'_>) {
        let _ = conns;
    }

    /// The peer of the connection with this slot has read all that was kept for it
    /// ([`Conns::tell_drained`]).
    fn drained(&mut self, slot: u32, conns: &mut Conns<'_>) {
        let _ = (slot, conns);
    }

    /// The peer of the connection with this slot will send nothing more. It may well still read; a
    /// program that has been ended looks just so.
    fn peer_done(&mut self, slot: u32, conns: &mut Conns<'_>) {
        let _ = (slot, conns);
    }

    /// No connection has this slot any more: its request was answered to the end, or the connection
    /// ended, however it ended.
    fn released(&mut self, slot: u32) {
        let _ = slot;
    }

    /// A crowd has left: what is kept to be used again, and is not in use, is to be given back.
    fn trim(&mut self) {}

    /// The server is ending: it waits until every request is answered to its end, and until those
    /// connections are closed that were [upgraded](Call::upgrade), which is the application's to
    /// do. Those who would wait for long are to be answered, and streams to be ended, soon.
    fn draining(&mut self, conns: &mut Conns<'_>) {
        let _ = conns;
    }

    /// Takes whole messages off the front of `input`, bytes of a connection that was
    /// [upgraded](Call::upgrade) with this slot.
    fn receive(&mut self, slot: u32, input: &[u8], conn: &mut Conn<'_>) -> Received {
        let _ = slot;
        conn.close_lingering();
        Received { used: input.len(), need: 0, seen: 0 }
    }
}

/// What to do with the body of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyPlan {
    /// Collect it and call with all of it.
    Collect {
        /// The longest body, in bytes; the answer to a longer one is 413. Default 1 MiB.
        bytes_max: usize,
    },
    /// Call at once, without it. If there is more of it to come than [`SKIP_BYTES_MAX`], or one
    /// cannot know, the connection ends after the answer.
    ///
    /// [`SKIP_BYTES_MAX`]: crate::http::SKIP_BYTES_MAX
    Unread,
}

impl Default for BodyPlan {
    fn default() -> Self {
        BodyPlan::Collect { bytes_max: 1024 * 1024 }
    }
}

/// Proof that a call was answered, or will be.
#[derive(Debug)]
pub struct Answered(pub(crate) ());
