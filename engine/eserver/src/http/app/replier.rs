//! [`Replier`]: a reply that comes later, from any thread.

use std::fs::File;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use eserver_wire::http::{BadField, Exchange, Following};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::http::clock;
use crate::http::middleware::Envelope;
use crate::http::reply::{Pieces, Reply, ReplyBody, text};
use crate::http::responder::Responder;
use crate::http::stream::{Gone, Stream};
use crate::http::ticket::{StreamTo, Ticket, begin};
use crate::server::Post;

/// Files that one shard's requests may be reading at once; the others wait. Who waits for a client
/// reads nothing.
const READS_MAX: usize = 16;

/// Files that one shard's clients may be taking piece by piece at once; who asks for one more is
/// refused with 503. They share the process's descriptors with the connections.
const OPEN_FILES_MAX: usize = 4096;

/// Bytes of a file that are read at once. While a client takes these, the next ones are read.
const PIECE_BYTES: u64 = 128 * 1024;

/// The right, and the duty, to answer one request. If it is dropped, the answer is 500 and the
/// connection ends.
pub struct Replier(Option<Debt>);

/// An answer that is owed.
struct Debt {
    ticket: Ticket,
    post: Post,
    envelope: Envelope,
    beside: Arc<Beside>,
    /// No other answer of the connection comes before it.
    is_next: bool,
    /// `None` as long as nobody has asked to be told.
    ended: Option<Ended>,
}

/// Tells when there is nobody left to be answered.
pub(crate) struct Ended(pub(crate) watch::Receiver<bool>);

/// What works beside a shard.
pub(crate) struct Beside {
    runtime: Handle,
    reads: Arc<Semaphore>,
    open_files: Arc<Semaphore>,
}

impl Beside {
    pub(crate) fn new(runtime: Handle) -> Self {
        let [reads, open_files] =
            [READS_MAX, OPEN_FILES_MAX].map(|max| Arc::new(Semaphore::new(max)));
        Beside { runtime, reads, open_files }
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// A place among the open files for a reply that needs one, or another reply.
    fn place_for(&self, reply: Reply) -> (Reply, Option<OwnedSemaphorePermit>) {
        if !matches!(reply.body, ReplyBody::Pieces(_)) {
            return (reply, None);
        }
        match Arc::clone(&self.open_files).try_acquire_owned() {
            Ok(place) => (reply, Some(place)),
            Err(_) => (Reply::busy(), None),
        }
    }

    /// Does what may take its time on a thread that may wait; `None` if it panicked.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let place = Arc::clone(&self.reads).acquire_owned().await.ok()?;
        // The place goes along: what has begun goes on even if nobody waits for it any more.
        let work = move || {
            let _place = place;
            work()
        };
        self.runtime.spawn_blocking(work).await.ok()
    }
}

impl Ended {
    /// Asks the connection's shard.
    fn by(ticket: Ticket, post: &Post) -> Self {
        let (watch, peer) = Stream::channel();
        post.watch(ticket.to, watch);
        Ended(peer)
    }
}

impl Replier {
    pub(crate) fn new(
        ticket: Ticket,
        post: &Post,
        envelope: Envelope,
        beside: &Arc<Beside>,
        is_next: bool,
    ) -> Self {
        let (post, beside) = (post.clone(), Arc::clone(beside));
        Replier(Some(Debt { ticket, post, envelope, beside, is_next, ended: None }))
    }

    /// The same, which need not ask to be told when there is nobody left.
    pub(crate) fn until(mut self, ended: Ended) -> Self {
        if let Some(debt) = &mut self.0 {
            debt.ended = Some(ended);
        }
        self
    }

    /// Answers. If the connection has ended meanwhile, the answer goes nowhere.
    pub fn reply(mut self, reply: impl Into<Reply>) {
        // Should `into` panic, the answer is still owed.
        let reply = reply.into();
        let Some(debt) = self.0.take() else { return };
        let is_early = matches!(reply.body, ReplyBody::Stream(_)) && !debt.is_next;
        if is_early || reply.is_work() {
            let beside = Arc::clone(&debt.beside);
            let replier = Replier(Some(debt));
            beside.runtime.clone().spawn(replier.reply_after(reply, beside));
        } else {
            debt.pay(reply);
        }
    }

    /// Replies with what takes its time, or goes on for long, once it is its turn: however many
    /// requests a client sends at once, it has us open one file, and holds the pieces of one.
    async fn reply_after(mut self, mut reply: Reply, beside: Arc<Beside>) {
        let turn = self.turn();
        let paid = async {
            turn.await?;
            while let ReplyBody::Work(work) = reply.body {
                reply = beside.work(work).await.unwrap_or_else(Reply::internal_error);
            }
            Ok::<_, Gone>(reply)
        };
        match self.unless_gone(paid).await {
            Some(Ok(reply)) => {
                if let Some(debt) = self.0.take() {
                    debt.pay(reply);
                }
            }
            Some(Err(Gone)) | None => self.forget(),
        }
    }

    /// Waits until it is the turn of this answer.
    fn turn(&self) -> impl Future<Output = Result<(), Gone>> + Send + 'static {
        let waiting = self.0.as_ref().filter(|debt| !debt.is_next);
        let drained = waiting.map(|debt| debt.post.drained(debt.ticket.to));
        async move {
            match drained {
                Some(drained) => drained.await.map_err(|_| Gone),
                None => Ok(()),
            }
        }
    }

    /// What comes of `work`, or `None` as soon as the connection has ended.
    pub(crate) async fn unless_gone<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let Some(Debt { ticket, post, ended, .. }) = &mut self.0 else { return None };
        let Ended(peer) = ended.get_or_insert_with(|| Ended::by(*ticket, post));
        tokio::select! {
            biased;
            done = work => Some(done),
            // That its peer will send nothing more is no reason to give it no answer.
            _ = peer.wait_for(|_| false) => None,
        }
    }

    /// There is nobody left to be answered.
    pub(crate) fn forget(mut self) {
        self.0 = None;
    }
}

impl Drop for Replier {
    fn drop(&mut self) {
        if let Some(Debt { ticket, post, envelope, .. }) = self.0.take() {
            // The log is to have what the responder says.
            drop(envelope.seal(text("the request was not answered\n").with_status(500)));
            drop(Responder::new(ticket, post));
        }
    }
}

impl Debt {
    fn pay(self, reply: Reply) {
        let Debt { ticket, post, envelope, beside, ended, .. } = self;
        let (reply, place) = beside.place_for(reply);
        let reply = envelope.seal(reply);
        match reply.body {
            ReplyBody::Stream(_) => {
                let responder = Responder::new(ticket, post);
                if let Err(error) = check_fields(&reply) {
                    return cannot_be_sent(responder, error);
                }
                let stream = responder.stream(reply.status(), |response| {
                    reply.write_fields(response).expect("the fields were checked");
                });
                if let ReplyBody::Stream(start) = reply.body {
                    start(stream, &beside.runtime);
                }
            }
            ReplyBody::Pieces(ref pieces) => {
                let length = pieces.range.end - pieces.range.start;
                let stream = begin_pieces(&reply, length, ticket, post, ended);
                if let (Some(stream), ReplyBody::Pieces(pieces)) = (stream, reply.body) {
                    let runtime = beside.runtime.clone();
                    runtime.spawn(async move {
                        // Whatever goes wrong, the client sees that bytes are missing.
                        let _ = send_pieces(pieces, stream, &beside).await;
                        drop(place);
                    });
                }
            }
            _ => Responder::new(ticket, post)
                .reply_with(reply.status(), |response| reply.write(response)),
        }
    }
}

/// Sends the head of a reply whose body of `length` bytes follows, if it does: not for HEAD.
fn begin_pieces(
    reply: &Reply,
    length: u64,
    ticket: Ticket,
    post: Post,
    ended: Option<Ended>,
) -> Option<Stream> {
    let mut head = Vec::new();
    let exchange = ticket.exchange_by(&post);
    let date = clock::date();
    let mut response = begin(reply.status(), exchange, &date, &mut head);
    if let Err(error) = reply.write_fields(&mut response) {
        drop(response);
        cannot_be_sent(Responder::new(ticket, post), error);
        return None;
    }
    let following = response.length(length);
    if following == Following::Nothing {
        ticket.send_by(&post, head, true);
        return None;
    }
    let Ended(peer) = ended.unwrap_or_else(|| Ended::by(ticket, &post));
    ticket.send_by(&post, head, false);
    Some(Stream::new(StreamTo { to: ticket.to, following }, post, peer))
}

/// Sends a file's bytes, so that no more than two pieces of it are in memory however slow the
/// client is.
async fn send_pieces(pieces: Pieces, stream: Stream, beside: &Beside) -> Result<(), Gone> {
    let Range { mut start, end } = pieces.range;
    while start < end {
        let file = Arc::clone(&pieces.file);
        let piece = beside.work(move || read_piece(&file, start, end)).await;
        let piece = match piece {
            Some(Ok(piece)) => piece,
            Some(Err(error)) => {
                tracing::error!(%error, "a file could not be read to its end");
                return Err(Gone);
            }
            None => return Err(Gone),
        };
        stream.drained().await?;
        stream.chunk(&piece)?;
        start += piece.len() as u64;
    }
    stream.finish()
}

fn read_piece(file: &File, start: u64, end: u64) -> io::Result<Vec<u8>> {
    let bytes = usize::try_from((end - start).min(PIECE_BYTES)).unwrap_or(usize::MAX);
    let mut piece = vec![0; bytes];
    file.read_exact_at(&mut piece, start)?;
    Ok(piece)
}

fn cannot_be_sent(responder: Responder, error: BadField) {
    tracing::error!(%error, "a reply cannot be sent");
    responder.reply_with(500, |response| Reply::internal_error().write(response));
}

/// Whether the fields of a reply can be sent.
fn check_fields(reply: &Reply) -> Result<(), BadField> {
    let mut scratch = Vec::new();
    let date = clock::date();
    let mut response = begin(200, Exchange::LAST, &date, &mut scratch);
    reply.write_fields(&mut response)
}
