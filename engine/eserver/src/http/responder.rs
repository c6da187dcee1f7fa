//! [`Responder`]: an answer that comes later, from any thread.

use eserver_wire::http::{ResponseWriter, Version};

use crate::conn_id::ConnId;
use crate::http::clock;
use crate::http::stream::Stream;
use crate::http::ticket::{TEXT, Ticket, respond, write_plain};
use crate::server::Post;

/// The right, and the duty, to answer one request. If it is dropped, the answer is 500 and the
/// connection ends.
pub struct Responder {
    ticket: Ticket,
    /// `None` once the answer is given.
    post: Option<Post>,
}

impl Responder {
    pub(crate) fn new(ticket: Ticket, post: Post) -> Self {
        Responder { ticket, post: Some(post) }
    }

    /// The connection that asked.
    #[must_use]
    pub fn conn_id(&self) -> ConnId {
        self.ticket.conn_id()
    }

    /// Answers. If the connection has ended meanwhile, the answer goes nowhere.
    pub fn reply(self, status: u16, content_type: &str, body: &[u8]) {
        self.reply_with(status, |response| write_plain(response, content_type, body));
    }

    /// Answers with what `write` makes of the response. If it does not end it, or the status is
    /// not one from 200 to 999, the answer is 500.
    pub fn reply_with(mut self, status: u16, write: impl FnOnce(ResponseWriter<'_>)) {
        // Should `write` panic, the answer is still owed, and is 500.
        let Some(post) = &self.post else { return };
        let mut bytes = Vec::new();
        respond(status, self.ticket.exchange_by(post), &clock::date(), &mut bytes, write);
        self.ticket.send_by(post, bytes, true);
        self.post = None;
    }

    /// Answers piece by piece. `write` adds header fields.
    pub fn stream(mut self, status: u16, write: impl FnOnce(&mut ResponseWriter<'_>)) -> Stream {
        // Should `write` panic, the answer is still owed, and is 500.
        let post = self.post.as_ref().expect("an answer is owed until it is given");
        let (watch, peer) = Stream::channel();
        post.watch(self.ticket.to, watch);
        let stream = self.ticket.stream_by(status, post, write);
        let post = self.post.take().expect("it was there just now");
        Stream::new(stream, post, peer)
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if let Some(post) = self.post.take() {
            let mut bytes = Vec::new();
            let mut exchange = self.ticket.exchange_by(&post);
            // Of others, the shard says so, if no other answer follows.
            exchange.keep_alive &= exchange.version == Version::Http11;
            respond(500, exchange, &clock::date(), &mut bytes, |response| {
                write_plain(response, TEXT, b"the request was not answered\n");
            });
            self.ticket.end_by(&post, bytes);
        }
    }
}
