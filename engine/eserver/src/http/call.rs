//! [`Call`]: the answer that a request still needs.

use std::net::IpAddr;

use eserver_wire::http::{Date, Exchange, ResponseWriter};

use crate::conn_id::ConnId;
use crate::http::application::Answered;
use crate::http::responder::Responder;
use crate::http::stream::Stream;
use crate::http::ticket::{Ticket, begin, respond, write_plain};
use crate::server::Post;
use crate::service::{Conn, Conns};

/// A number for [`Application`](crate::http::Application)'s own use must be below this one.
pub(crate) const SLOTS: u32 = 1 << 31;

/// The answer that a request still needs. Using it up is the only way to get an [`Answered`].
pub struct Call<'a, 'b> {
    pub(crate) conn: &'a mut Conn<'b>,
    pub(crate) ticket: Ticket,
    pub(crate) date: &'a Date,
    pub(crate) post: &'a Post,
    /// The rest of a body that nobody wants is yet to come, and would be skipped.
    pub(crate) skips: bool,
}

impl Call<'_, '_> {
    /// The connection that asked.
    #[must_use]
    pub fn conn_id(&self) -> ConnId {
        self.ticket.conn_id()
    }

    /// The address of the peer.
    #[must_use]
    pub fn peer(&mut self) -> IpAddr {
        self.conn.peer()
    }

    /// What the answer has to observe.
    #[must_use]
    pub fn exchange(&self) -> Exchange {
        self.ticket.exchange
    }

    /// Says that the connection is to end after this answer.
    pub fn close(&mut self) {
        self.ticket.exchange.keep_alive = false;
        self.conn.close_lingering();
    }

    /// A way for other threads to reach the connections of this shard.
    #[must_use]
    pub fn post(&self) -> &Post {
        self.post
    }

    /// All connections of the shard: a request may have things sent to others.
    pub fn conns(&mut self) -> Conns<'_> {
        self.conn.conns()
    }

    /// Answers now. Without a content type the answer has no such field.
    pub fn reply(self, status: u16, content_type: &str, body: &[u8]) -> Answered {
        self.reply_with(status, |response| write_plain(response, content_type, body))
    }

    /// Answers now with what `write` makes of the response. If it does not end it, or the status
    /// is not one from 200 to 999, the answer is 500.
    pub fn reply_with(self, status: u16, write: impl FnOnce(ResponseWriter<'_>)) -> Answered {
        let Ticket { to, exchange } = self.ticket;
        self.conn.reply(to, |out| respond(status, exchange, self.date, out, write));
        Answered(())
    }

    /// Where the answer belongs, for who may give it through [`Call::conns`] before this call is
    /// over: then [`Call::given`] ends it, and [`Call::hold`] otherwise.
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// The answer was given by the [`Call::ticket`], or its holder is about to give it; if the
    /// connection ends before, nobody is told.
    #[must_use]
    pub fn given(self) -> Answered {
        Answered(())
    }

    /// Promises to answer later, from any thread.
    #[must_use]
    pub fn later(self) -> (Responder, Answered) {
        (Responder::new(self.ticket, self.post.clone()), Answered(()))
    }

    /// Promises to answer later through [`Conns`] or [`Post`], on behalf of `slot`: while the
    /// answer is not complete, no further request of the connection is read, and the application is
    /// told when the peer goes ([`Application::peer_done`]), and when it is over one way or the
    /// other ([`Application::released`]). Costs no memory. If the request has a body that was to be
    /// [left unread](crate::http::BodyPlan::Unread) and is not all there, the connection ends after
    /// the answer.
    ///
    /// [`Application::peer_done`]: crate::http::Application::peer_done
    /// [`Application::released`]: crate::http::Application::released
    ///
    /// # Panics
    /// When `slot` is 2^31 or more.
    #[must_use]
    pub fn hold(mut self, slot: u32) -> (Ticket, Answered) {
        assert!(slot < SLOTS, "a slot of an application is below 2^31");
        self.end_if_skips();
        self.conn.set_slot(slot);
        (self.ticket, Answered(()))
    }

    /// Answers piece by piece, from any thread: chunks for HTTP/1.1, until the connection ends for
    /// HTTP/1.0. `write` adds header fields.
    pub fn stream(
        self,
        status: u16,
        write: impl FnOnce(&mut ResponseWriter<'_>),
    ) -> (Stream, Answered) {
        let (watch, peer) = Stream::channel();
        let to = self.ticket.to;
        self.conn.watch(to, watch);
        let stream = self.ticket.stream_with(status, self.date, self.conn.io, write);
        (Stream::new(stream, self.post.clone(), peer), Answered(()))
    }

    /// Answers 101 and makes the connection one of another protocol: its bytes go to
    /// [`Application::receive`] with `slot`, until it ends and the slot is released.
    ///
    /// The request must have asked for it ([`Head::upgrade`]) and have no body.
    ///
    /// [`Application::receive`]: crate::http::Application::receive
    /// [`Head::upgrade`]: eserver_wire::http::Head::upgrade
    ///
    /// # Panics
    /// When `slot` is 2^31 or more, or `protocol` cannot stand in a head.
    pub fn upgrade(
        mut self,
        slot: u32,
        protocol: &'static str,
        write: impl FnOnce(&mut ResponseWriter<'_>),
    ) -> Answered {
        assert!(slot < SLOTS, "a slot of an application is below 2^31");
        self.end_if_skips();
        let Ticket { to, exchange } = self.ticket;
        self.conn.reply(to, |out| {
            let mut response = begin(101, exchange, self.date, out);
            write(&mut response);
            response.upgrade(protocol).expect("the protocol's name is a constant that can be sent");
        });
        self.conn.upgrade(slot);
        Answered(())
    }

    /// A connection has one slot: it cannot be the application's while a body is skipped.
    fn end_if_skips(&mut self) {
        if self.skips {
            self.close();
        }
    }
}
