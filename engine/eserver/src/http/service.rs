//! [`Http`]: the protocol in front of an [`Application`].

use std::any::Any;
use std::time::{Duration, Instant, SystemTime};

use eserver_wire::http::{
    BadRequest, Body, BodyDecoder, CONTINUE, Date, Exchange, Head, HeadLimits, Version,
};

use crate::census::Refusal;
use crate::connection::NO_SLOT;
use crate::http::application::{Answered, Application, BodyPlan};
use crate::http::call::{Call, SLOTS};
use crate::http::ticket::{TEXT, Ticket, begin, respond, write_plain};
use crate::http::unfinished::{Collected, Refused, Unfinished};
use crate::listener::Newcomers;
use crate::server::{Post, ShardContext};
use crate::service::{Conn, Conns, Received, Service};
use crate::slab::Slab;

/// The rest of a body that nobody wants is read and dropped to keep the connection if it is no
/// longer than this, in bytes.
pub const SKIP_BYTES_MAX: u64 = 64 * 1024;

/// What the block that bodies are decoded into may keep between requests, in bytes.
const SCRATCH_BYTES_MAX: usize = 256 * 1024;

/// When a newcomer that was not let in may come again, in seconds.
const RETRY_AFTER_S: &[u8] = b"1";

/// HTTP/1.0 and HTTP/1.1 in front of an [`Application`].
pub struct Http<A> {
    application: A,
    head_limits: HeadLimits,
    newcomers: Newcomers,
    post: Post,
    date: Date,
    /// The shard's tick that `date` was made in.
    date_tick: u32,
    /// Bodies that come piece by piece. A connection has its slot here plus [`SLOTS`].
    unfinished: Slab<Box<Unfinished>>,
    /// A body is decoded into this, so that one that is all there costs no allocation.
    scratch: Vec<u8>,
}

/// How it goes on after a head.
enum Step {
    /// So many bytes were taken.
    Used(usize),
    /// Nothing was taken: to be shown again when so many bytes are there.
    Need(usize),
    /// The connection ends.
    End,
}

impl<A: Application> Http<A> {
    /// `application` on the shard of this context.
    pub fn new(context: &ShardContext, application: A) -> Self {
        Http {
            application,
            head_limits: HeadLimits::default(),
            newcomers: Newcomers::WithFirstBytes,
            post: context.post(),
            date: Date::at(SystemTime::now()),
            date_tick: 0,
            unfinished: Slab::new(),
            scratch: Vec::new(),
        }
    }

    /// The bounds of heads.
    #[must_use]
    pub fn head_limits(mut self, limits: HeadLimits) -> Self {
        self.head_limits = limits;
        self
    }

    /// When the kernel shows a newcomer; [`Newcomers::WithFirstBytes`] by default.
    #[must_use]
    pub fn newcomers(mut self, newcomers: Newcomers) -> Self {
        self.newcomers = newcomers;
        self
    }

    /// Sees to the request whose head stands in front of `rest`.
    fn request(&mut self, head: &Head<'_>, rest: &[u8], conn: &mut Conn<'_>) -> Step {
        // An older client would take what follows for a part of the answer before it. A newer
        // protocol must not be spoken before the answers in the old one.
        let goes_alone = head.version == Version::Http10 || head.upgrade;
        if (goes_alone || head.expects_continue) && !conn.may_request_below(1) {
            return Step::Need(0);
        }
        let body_at = head.encoded_bytes;
        match head.body {
            Body::None | Body::UntilClose | Body::Length(0) => {
                self.call(head, &[], head.exchange(), conn);
                Step::Used(body_at)
            }
            Body::Length(bytes) => self.request_with_length(head, bytes, rest, conn),
            Body::Chunked => match self.application.body(head) {
                BodyPlan::Collect { bytes_max } => {
                    self.request_in_chunks(head, bytes_max, rest, conn)
                }
                BodyPlan::Unread => self.call_and_end(head, conn),
            },
        }
    }

    fn request_with_length(
        &mut self,
        head: &Head<'_>,
        bytes: u64,
        rest: &[u8],
        conn: &mut Conn<'_>,
    ) -> Step {
        let body = &rest[head.encoded_bytes..];
        let whole = usize::try_from(bytes).ok().and_then(|bytes| body.get(..bytes));
        let BodyPlan::Collect { bytes_max } = self.application.body(head) else {
            let Some(body) = whole else { return self.request_unread(head, bytes, rest, conn) };
            self.call(head, &[], head.exchange(), conn);
            return Step::Used(head.encoded_bytes + body.len());
        };
        if bytes > bytes_max as u64 {
            return self.refuse_length(bytes_max, head.exchange().is_head, conn);
        }
        if let Some(body) = whole {
            conn.body_done();
            self.call(head, body, head.exchange(), conn);
            return Step::Used(head.encoded_bytes + body.len());
        }
        if head.expects_continue && body.is_empty() && !conn.awaits_body() {
            conn.send(CONTINUE);
        }
        conn.await_body();
        // It is no longer than `bytes_max`, which is one.
        Step::Need(head.encoded_bytes.saturating_add(bytes as usize))
    }

    /// Has a request answered at once whose body of `bytes` bytes is not all there and of no
    /// interest.
    fn request_unread(
        &mut self,
        head: &Head<'_>,
        bytes: u64,
        rest: &[u8],
        conn: &mut Conn<'_>,
    ) -> Step {
        // Whoever waits to be told may send the body now, or another request.
        let ends = !head.keep_alive || conn.is_draining() || head.expects_continue;
        if ends || bytes > SKIP_BYTES_MAX {
            return self.call_and_end(head, conn);
        }
        self.call_with(head, &[], head.exchange(), true, conn);
        if conn.slot() != NO_SLOT {
            return Step::End;
        }
        let left = bytes - (rest.len() - head.encoded_bytes) as u64;
        let decoder = BodyDecoder::new(Body::Length(left));
        let bytes_max = SKIP_BYTES_MAX as usize;
        let body = Collected { decoder, data: Vec::new(), bytes_max };
        self.wait_for(Unfinished { head: Vec::new(), body }, conn);
        Step::Used(rest.len())
    }

    fn request_in_chunks(
        &mut self,
        head: &Head<'_>,
        bytes_max: usize,
        rest: &[u8],
        conn: &mut Conn<'_>,
    ) -> Step {
        let (front, input) = rest.split_at(head.encoded_bytes);
        if head.expects_continue && input.is_empty() {
            conn.send(CONTINUE);
        }
        let data = std::mem::take(&mut self.scratch);
        let mut body = Collected { decoder: BodyDecoder::new(Body::Chunked), data, bytes_max };
        match body.take(input) {
            Err(refused) => self.refuse(refused, head.exchange().is_head, conn),
            Ok(used) if body.decoder.is_done() => {
                self.call(head, &body.data, head.exchange(), conn);
                self.keep_scratch(body.data);
                Step::Used(front.len() + used)
            }
            Ok(_) => {
                // Only what has come is kept for it, not the whole block.
                let data = body.data.clone();
                self.keep_scratch(std::mem::replace(&mut body.data, data));
                self.wait_for(Unfinished { head: front.to_vec(), body }, conn);
                Step::Used(rest.len())
            }
        }
    }

    fn wait_for(&mut self, unfinished: Unfinished, conn: &mut Conn<'_>) {
        conn.await_body();
        conn.set_slot(SLOTS | self.unfinished.insert(|_, _| Box::new(unfinished)).0);
    }

    /// More has come of a body that is taken piece by piece.
    fn go_on(&mut self, slot: u32, input: &[u8], conn: &mut Conn<'_>) -> Step {
        let Some(unfinished) = self.unfinished.at_mut(slot) else {
            conn.close_lingering();
            return Step::End;
        };
        let taken = unfinished.body.take(input);
        if taken.is_ok() && !unfinished.body.decoder.is_done() {
            if unfinished.head.is_empty() {
                unfinished.body.data.clear();
            }
            return Step::Used(input.len());
        }
        conn.set_slot(NO_SLOT);
        conn.body_done();
        let unfinished = self.take_unfinished(slot);
        match (taken, unfinished) {
            (Err(refused), unfinished) => {
                let is_head = unfinished.is_some_and(|unfinished| is_head(&unfinished.head));
                self.refuse(refused, is_head, conn)
            }
            (Ok(used), Some(Unfinished { head, body })) => {
                if let Ok(Some(head)) = Head::parse(&head, 0, &self.head_limits) {
                    self.call(&head, &body.data, head.exchange(), conn);
                    self.keep_scratch(body.data);
                }
                Step::Used(used)
            }
            (Ok(used), None) => Step::Used(used),
        }
    }

    fn take_unfinished(&mut self, slot: u32) -> Option<Unfinished> {
        let generation = self.unfinished.generation(slot)?;
        self.unfinished.remove(slot, generation).map(|unfinished| *unfinished)
    }

    fn keep_scratch(&mut self, mut data: Vec<u8>) {
        if data.capacity() <= SCRATCH_BYTES_MAX {
            data.clear();
            self.scratch = data;
        }
    }

    /// Has a request answered whose body will not be read.
    fn call_and_end(&mut self, head: &Head<'_>, conn: &mut Conn<'_>) -> Step {
        self.call(head, &[], Exchange { keep_alive: false, ..head.exchange() }, conn);
        conn.close_lingering();
        Step::End
    }

    #[inline]
    fn call(&mut self, head: &Head<'_>, body: &[u8], exchange: Exchange, conn: &mut Conn<'_>) {
        self.call_with(head, body, exchange, false, conn);
    }

    /// Has a request answered. `skips` says that the rest of its body is yet to be skipped.
    #[inline]
    fn call_with(
        &mut self,
        head: &Head<'_>,
        body: &[u8],
        mut exchange: Exchange,
        skips: bool,
        conn: &mut Conn<'_>,
    ) {
        exchange.keep_alive &= !conn.is_draining();
        let ticket = Ticket { to: conn.begin_request(), exchange };
        if !exchange.keep_alive {
            conn.close_after_replies();
        }
        let call = Call { conn, ticket, date: &self.date, post: &self.post, skips };
        let Answered(()) = self.application.call(head, body, call);
    }

    fn refuse(&mut self, refused: Refused, is_head: bool, conn: &mut Conn<'_>) -> Step {
        match refused {
            Refused::TooLong(bytes_max) => self.refuse_length(bytes_max, is_head, conn),
            Refused::Bad(bad) => self.refuse_bad(bad, is_head, conn),
        }
    }

    fn refuse_bad(&mut self, bad: BadRequest, is_head: bool, conn: &mut Conn<'_>) -> Step {
        self.last_words(conn, |date, out| bad.encode(is_head, date, out))
    }

    fn refuse_length(&mut self, bytes_max: usize, is_head: bool, conn: &mut Conn<'_>) -> Step {
        let sentence = format!("the body is longer than {bytes_max} bytes\n");
        self.last_words(conn, |date, out| {
            let exchange = Exchange { is_head, ..Exchange::LAST };
            respond(413, exchange, date, out, |response| {
                write_plain(response, TEXT, sentence.as_bytes());
            });
        })
    }

    /// Answers and ends the connection.
    fn last_words(
        &mut self,
        conn: &mut Conn<'_>,
        encode: impl FnOnce(&Date, &mut Vec<u8>),
    ) -> Step {
        let to = conn.begin_request();
        conn.reply(to, |out| encode(&self.date, out));
        conn.body_done();
        conn.close_lingering();
        Step::End
    }
}

impl<A: Application> Service for Http<A> {
    fn newcomers(&self) -> Newcomers {
        self.newcomers
    }

    fn receive(&mut self, input: &[u8], conn: &mut Conn<'_>) -> Received {
        if self.date_tick != conn.tick() {
            self.date_tick = conn.tick();
            self.date = Date::at(SystemTime::now());
        }
        let mut used = 0;
        loop {
            let rest = &input[used..];
            let (slot, is_upgraded) = conn.slot_and_upgrade();
            if is_upgraded {
                let received = self.application.receive(slot, rest, conn);
                return Received { used: used + received.used, ..received };
            }
            if rest.is_empty() {
                return Received { used, need: 0, seen: 0 };
            }
            let step = if slot != NO_SLOT && slot >= SLOTS {
                self.go_on(slot - SLOTS, rest, conn)
            } else {
                // What has a slot is answered alone: who waits there needs no further answer.
                if !conn.may_request_below(if slot == NO_SLOT { u32::MAX } else { 1 }) {
                    return Received { used, need: 0, seen: 0 };
                }
                let seen = if used == 0 { conn.seen_bytes() } else { 0 };
                match Head::parse(rest, seen, &self.head_limits) {
                    _ if rest[0].is_ascii_whitespace() && conn.is_padded() => {
                        self.refuse_bad(BadRequest::BLANK_LINES, false, conn)
                    }
                    // What old clients send after a body is no beginning of a request.
                    Ok(None) if rest == b"\r\n" => {
                        conn.set_padded();
                        Step::Used(rest.len())
                    }
                    Ok(Some(head)) => self.request(&head, rest, conn),
                    Ok(None) => return Received { used, need: 0, seen: rest.len() },
                    Err(bad) => self.refuse_bad(bad, is_head(rest), conn),
                }
            };
            match step {
                Step::Used(bytes) => used += bytes,
                Step::Need(need) => return Received { used, need, seen: 0 },
                Step::End => return Received { used: input.len(), need: 0, seen: 0 },
            }
        }
    }

    fn turn_ended(&mut self, conns: &mut Conns<'_>) {
        self.application.turn_ended(conns);
    }

    fn told(&mut self, message: Box<dyn Any + Send>, conns: &mut Conns<'_>) {
        self.application.told(message, conns);
    }

    fn may_park(&self) -> bool {
        self.application.may_park()
    }

    fn deadline(&self) -> Option<Instant> {
        self.application.deadline()
    }

    fn wake(&mut self, conns: &mut Conns<'_>) {
        self.application.wake(conns);
    }

    fn drained(&mut self, slot: u32, conns: &mut Conns<'_>) {
        if slot < SLOTS {
            self.application.drained(slot, conns);
        }
    }

    fn peer_done(&mut self, slot: u32, conns: &mut Conns<'_>) {
        if slot < SLOTS {
            self.application.peer_done(slot, conns);
        }
    }

    fn released(&mut self, slot: u32) {
        if slot < SLOTS {
            self.application.released(slot);
        } else {
            self.take_unfinished(slot - SLOTS);
        }
    }

    fn trim(&mut self) {
        self.unfinished.trim();
        self.scratch = Vec::new();
        self.application.trim();
    }

    fn draining(&mut self, conns: &mut Conns<'_>) {
        self.application.draining(conns);
    }

    fn refuse(&self, why: Refusal, out: &mut Vec<u8>) {
        let mut response = begin(503, Exchange::LAST, &Date::at(SystemTime::now()), out);
        if response.field("Retry-After", RETRY_AFTER_S).is_ok() {
            write_plain(response, TEXT, format!("{why}\n").as_bytes());
        }
    }

    fn too_slow(&self, limit: Duration, out: &mut Vec<u8>) {
        let seconds = limit.as_secs_f64();
        let sentence = format!("the request did not come fast enough: {seconds} s have passed\n");
        respond(408, Exchange::LAST, &Date::at(SystemTime::now()), out, |response| {
            write_plain(response, TEXT, sentence.as_bytes());
        });
    }
}

/// Whether a request that may not be one begins as one whose answer has no body.
fn is_head(request: &[u8]) -> bool {
    request.strip_prefix(b"\r\n").unwrap_or(request).starts_with(b"HEAD ")
}
