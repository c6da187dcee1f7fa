//! [`Server`] and [`Running`]: from listening addresses and services to shards at work, and back.

use std::any::Any;
use std::cell::RefCell;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::num::NonZero;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::sync::{oneshot, watch};

use crate::allow::AllowList;
use crate::census::Census;
use crate::conn_id::ConnId;
use crate::counters::{Counters, ShardCounters};
use crate::descriptors::DescriptorLimit;
use crate::handover::{Handover, part_from_others};
use crate::io::{Io, ticks};
use crate::limits::Limits;
use crate::mailbox::{Letter, Mailbox, Parting};
use crate::reply::{ReplyBatch, ReplyTo};
use crate::service::Service;
use crate::shard::{Parking, Shard, WAKER};
use crate::signals::block_signals;
use crate::tables::{PrivateTables, Tables};
use crate::trim::Trim;
use crate::wheel::Tick;

/// What all shards obey; replaced as a whole by a reload.
pub(crate) struct Settings {
    pub(crate) limits: Limits,
    /// `limits.connections_max`, lowered to what the descriptor limit leaves.
    pub(crate) connections_max: usize,
    /// `limits.idle_timeout` as the wheel counts it.
    pub(crate) idle_ticks: Tick,
    /// One per service.
    pub(crate) allow: Vec<AllowList>,
}

/// What a service is given when it is made for a shard.
#[derive(Clone)]
pub struct ShardContext {
    shard: usize,
    /// How many shards do not only hold connections.
    core_shards: usize,
    service: u8,
    /// Those of all shards.
    mailboxes: Arc<[Mailbox]>,
    runtime: tokio::runtime::Handle,
    /// What services of this shard have together, each of another type.
    shared: Rc<RefCell<Vec<Rc<dyn Any>>>>,
}

impl ShardContext {
    /// The index of the shard the service is made for.
    #[must_use]
    pub fn shard(&self) -> usize {
        self.shard
    }

    /// How many shards there are that do not only hold connections which others have no room for:
    /// those of the lowest indices.
    #[must_use]
    pub fn core_shards(&self) -> usize {
        self.core_shards
    }

    /// A way for other threads to reach this shard's connections.
    #[must_use]
    pub fn post(&self) -> Post {
        Post { mailbox: self.mailboxes[self.shard].clone(), service: self.service }
    }

    /// A way to reach the same service on each of the shards, by their index.
    #[must_use]
    pub fn posts(&self) -> Vec<Post> {
        let to = |mailbox: &Mailbox| Post { mailbox: mailbox.clone(), service: self.service };
        self.mailboxes.iter().map(to).collect()
    }

    /// The one value of this type that the services of this shard have together: the first to ask
    /// makes it.
    pub fn shared<T: 'static>(&self, make: impl FnOnce() -> T) -> Rc<T> {
        let found = |any: &Rc<dyn Any>| Rc::clone(any).downcast::<T>().ok();
        if let Some(shared) = self.shared.borrow().iter().find_map(found) {
            return shared;
        }
        let made = Rc::new(make());
        self.shared.borrow_mut().push(Rc::clone(&made) as Rc<dyn Any>);
        made
    }

    /// The tokio runtime beside the shards.
    #[must_use]
    pub fn runtime(&self) -> &tokio::runtime::Handle {
        &self.runtime
    }
}

/// Brings answers from any thread to the connections of one shard.
///
/// What is addressed to a connection that has ended goes nowhere, and is counted.
#[derive(Clone)]
pub struct Post {
    mailbox: Mailbox,
    service: u8,
}

impl Post {
    /// Answers many requests at once.
    pub fn replies(&self, batch: ReplyBatch) {
        if !batch.is_empty() {
            self.mailbox.post(Letter::Replies(batch));
        }
    }

    /// Answers one request with encoded bytes.
    pub fn reply(&self, to: ReplyTo, bytes: Vec<u8>) {
        self.mailbox.post(Letter::Reply(to, Some(bytes)));
    }

    /// Says that a request will never be answered: its connection is closed once the answers
    /// before it have left.
    pub fn abandon(&self, to: ReplyTo) {
        self.mailbox.post(Letter::Reply(to, None));
    }

    /// Sends an answer, or the front of one, that says that it is the last one if it is.
    pub(crate) fn part_with(&self, parting: Parting) {
        self.mailbox.post(Letter::Parting(Box::new(parting)));
    }

    /// Sends a piece of an answer. It leaves when the answer's turn has come.
    ///
    /// The connection of a peer that does not read is closed at its bound
    /// ([`Limits::outbox_bytes_max`]). Who has much to send waits for [`Post::drained`] in between.
    pub fn part(&self, to: ReplyTo, bytes: Vec<u8>) {
        self.mailbox.post(Letter::Part(to, bytes, false));
    }

    /// Sends the last piece of an answer, which may be empty.
    pub fn finish(&self, to: ReplyTo, bytes: Vec<u8>) {
        self.mailbox.post(Letter::Part(to, bytes, true));
    }

    /// Comes true once it is the turn of an answer and the kernel has taken everything that was
    /// sent for it so far; fails when the answer is complete or its connection has ended.
    #[must_use]
    pub fn drained(&self, to: ReplyTo) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.mailbox.post(Letter::Drained(to, sender));
        receiver
    }

    /// Tells `watch` when the peer of an answer is done, and drops it when the answer is complete
    /// or cannot be.
    pub(crate) fn watch(&self, to: ReplyTo, watch: watch::Sender<bool>) {
        self.mailbox.post(Letter::Watch(to, watch));
    }

    /// Sends a message to the service that this was made for, on this shard; false when the shard
    /// is too far behind ([`Limits::mailbox_letters_max`]) and it was dropped.
    #[must_use]
    pub fn tell(&self, message: Box<dyn Any + Send>) -> bool {
        self.mailbox.offer(Letter::Tell(self.service, message))
    }

    /// [`Post::tell`] between the shards of one service, whose messages follow from requests that
    /// were let in, and must not be lost: it is dropped only if the shard has ended.
    pub fn pass(&self, message: Box<dyn Any + Send>) {
        self.mailbox.post(Letter::Tell(self.service, message));
    }

    /// Whether the server is ending: what is answered now should say that it is the last answer.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.mailbox.is_draining()
    }

    /// Sends encoded bytes that answer no request; false when the shard is too far behind
    /// ([`Limits::mailbox_letters_max`]) and they were dropped.
    #[must_use]
    pub fn send(&self, conn: ConnId, bytes: Vec<u8>) -> bool {
        self.mailbox.offer(Letter::Send(conn, bytes))
    }

    /// Ends a connection once what it is owed has been sent.
    pub fn close(&self, conn: ConnId) {
        self.mailbox.post(Letter::Close(conn));
    }
}

/// The stack of a shard's thread, in bytes.
const STACK_BYTES: usize = 2 << 20;

/// The same of one that only parks connections, of which there may be many.
const PARKING_STACK_BYTES: usize = 512 << 10;

type Make = Arc<dyn Fn(&ShardContext) -> Box<dyn Service> + Send + Sync>;

struct Listening {
    addresses: Vec<SocketAddr>,
    allow: AllowList,
    make: Make,
}

/// Why a server did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// Another server, or another service of this one, listens there.
    #[error("{0} is in use: another server or service listens there")]
    AddressInUse(SocketAddr),
    /// The address cannot be listened on for another reason.
    #[error("cannot listen on {0}")]
    Listen(SocketAddr, #[source] io::Error),
    /// The text does not name an address.
    #[error("{0:?} is not an address to listen on, such as 127.0.0.1:8888")]
    Address(String, #[source] io::Error),
    /// A shard could not be set up.
    #[error("cannot start a shard")]
    Shard(#[source] io::Error),
}

/// A server that is being put together.
///
/// ```no_run
/// use eserver::{AllowList, Server, framed};
///
/// let mut app = framed::App::new();
/// app.command(1, |request| framed::Reply::new(1, request.body.to_vec()));
/// let running = Server::new()
///     .shards(2)
///     .listen("127.0.0.1:7000", AllowList::loopback(), app.service())?
///     .start()?;
/// running.shutdown(std::time::Duration::from_secs(30));
/// # Ok::<(), eserver::StartError>(())
/// ```
///
/// A panic inside the engine or a service ends the process: a shard that is gone would leave its
/// connections waiting for ever. (Handlers of [`framed::App`](crate::framed::App) and
/// [`http::App`](crate::http::App) are guarded: their panics become error replies.)
pub struct Server {
    shards: usize,
    limits: Limits,
    private_tables: PrivateTables,
    listening: Vec<Listening>,
}

impl Default for Server {
    fn default() -> Self {
        Server::new()
    }
}

impl Server {
    /// One shard per core, default limits, nothing to listen on.
    #[must_use]
    pub fn new() -> Self {
        Server {
            shards: 0,
            limits: Limits::default(),
            private_tables: PrivateTables::Off,
            listening: Vec::new(),
        }
    }

    /// How many shards, each a thread; 0 means one per core.
    #[must_use]
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = shards;
        self
    }

    /// Whether further threads, each with a table of descriptors of its own, hold connections that
    /// the process's table has no room for, of services that [allow it](Service::may_park). Default
    /// [`PrivateTables::Off`].
    #[must_use]
    pub fn private_tables(mut self, choice: PrivateTables) -> Self {
        self.private_tables = choice;
        self
    }

    /// The engine's bounds.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Listens on `address` (all addresses it resolves to) with the service that `make` builds for
    /// each shard, for peers that `allow` allows.
    ///
    /// # Errors
    /// [`StartError::Address`] when the text names no address.
    pub fn listen<S: Service>(
        self,
        address: impl ToSocketAddrs + std::fmt::Debug,
        allow: AllowList,
        make: impl Fn(&ShardContext) -> S + Send + Sync + 'static,
    ) -> Result<Self, StartError> {
        let addresses = address
            .to_socket_addrs()
            .map_err(|error| StartError::Address(format!("{address:?}").replace('"', ""), error))?
            .collect();
        Ok(self.listen_all(addresses, allow, make))
    }

    /// [`Server::listen`] with addresses that are known to be addresses.
    #[must_use]
    pub fn listen_all<S: Service>(
        mut self,
        addresses: Vec<SocketAddr>,
        allow: AllowList,
        make: impl Fn(&ShardContext) -> S + Send + Sync + 'static,
    ) -> Self {
        let make: Make = Arc::new(move |context| Box::new(make(context)));
        self.listening.push(Listening { addresses, allow, make });
        self
    }

    /// Claims the addresses, starts the shards, and returns once all of them listen.
    ///
    /// # Errors
    /// When an address cannot be listened on, or a thread cannot be started. Nothing is left
    /// running then.
    pub fn start(self) -> Result<Running, StartError> {
        let descriptors = DescriptorLimit::raise().map_err(StartError::Shard)?;
        let mut addresses = Vec::new();
        // Held until the shards listen.
        let mut claims = Vec::new();
        for (service, listening) in self.listening.iter().enumerate() {
            for address in &listening.addresses {
                // Our own shards share a port, so the kernel would let two services share it too.
                if addresses.iter().any(|(taken, _)| taken == address) {
                    return Err(StartError::AddressInUse(*address));
                }
                let claimed = crate::listener::claim(*address);
                let (claimed, claim) = claimed.map_err(|error| {
                    if error.kind() == io::ErrorKind::AddrInUse {
                        StartError::AddressInUse(*address)
                    } else {
                        StartError::Listen(*address, error)
                    }
                })?;
                let service = u8::try_from(service).expect("nobody listens with 256 services");
                addresses.push((claimed, service));
                claims.push(claim);
            }
        }
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let shards = if self.shards == 0 { cores } else { self.shards };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(cores)
            .thread_name("eserver-async")
            .enable_all()
            .build()
            .map_err(StartError::Shard)?;
        let allow = self.listening.iter().map(|listening| listening.allow.clone()).collect();
        let connections_max = self.limits.connections_max;
        let tables = Tables::new(descriptors, shards, connections_max, self.private_tables);
        let parking = tables.private.len();
        let mut running = Running {
            settings: Arc::new(settings(self.limits, allow, tables.room())),
            tables: Arc::new(tables),
            core_shards: shards,
            descriptors,
            addresses,
            mailboxes: Vec::new(),
            counters: Vec::new(),
            census: Arc::new(Census::new()),
            threads: Vec::new(),
            runtime: Some(runtime),
        };
        let makes: Vec<Make> = self.listening.into_iter().map(|listening| listening.make).collect();
        let mut polls = Vec::new();
        for _ in 0..shards + parking {
            let poll = mio::Poll::new().map_err(StartError::Shard)?;
            let waker = mio::Waker::new(poll.registry(), WAKER).map_err(StartError::Shard)?;
            let letters_max = running.settings.limits.mailbox_letters_max;
            running.mailboxes.push(Mailbox::new(waker, letters_max));
            polls.push(poll);
        }
        let mailboxes: Arc<[Mailbox]> = running.mailboxes.clone().into();
        let trim = Trim::run(Arc::clone(&running.census), Arc::clone(&mailboxes));
        running.runtime().spawn(trim);
        // The tables part while all wakers are there, and no connection and no listener is.
        let mut ways = Vec::new();
        for (nth, poll) in polls.drain(shards..).enumerate() {
            let (sender, taker) = Handover::pair().map_err(StartError::Shard)?;
            ways.push(sender);
            running.start_shard(shards + nth, poll, &mailboxes, &makes, Parking::Takes(taker))?;
        }
        let ways: Arc<[Handover]> = ways.into();
        for (shard, poll) in polls.into_iter().enumerate() {
            let parking = Parking::Sends(Arc::clone(&running.tables), Arc::clone(&ways));
            running.start_shard(shard, poll, &mailboxes, &makes, parking)?;
        }
        drop(claims);
        Ok(running)
    }
}

fn settings(limits: Limits, allow: Vec<AllowList>, room: usize) -> Settings {
    let connections_max = limits.connections_max.min(room);
    let idle_ticks = ticks(limits.idle_timeout);
    Settings { limits, connections_max, idle_ticks, allow }
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Connections that were still owed something when their time was over.
    pub cut_off: usize,
    /// What happened in the server's life.
    pub counters: Counters,
}

/// A server at work. Dropping it stops it at once; [`Running::shutdown`] lets it finish.
pub struct Running {
    settings: Arc<Settings>,
    tables: Arc<Tables>,
    core_shards: usize,
    descriptors: DescriptorLimit,
    addresses: Vec<(SocketAddr, u8)>,
    mailboxes: Vec<Mailbox>,
    counters: Vec<Arc<ShardCounters>>,
    census: Arc<Census>,
    /// Each with what comes to its end when nothing is left to finish there.
    threads: Vec<(thread::JoinHandle<()>, mpsc::Receiver<()>)>,
    /// `None` once the server has ended.
    runtime: Option<tokio::runtime::Runtime>,
}

impl Running {
    fn start_shard(
        &mut self,
        shard: usize,
        poll: mio::Poll,
        mailboxes: &Arc<[Mailbox]>,
        makes: &[Make],
        parking: Parking,
    ) -> Result<(), StartError> {
        let counters = Arc::new(ShardCounters::default());
        let registry = poll.registry().try_clone().map_err(StartError::Shard)?;
        let io = Io::new(
            u16::try_from(shard).expect("threads run out before 65,536 shards"),
            registry,
            Arc::clone(&self.settings),
            Arc::clone(&counters),
            Arc::clone(&self.census),
            match &parking {
                Parking::Sends(tables, _) => Arc::clone(&tables.shared),
                Parking::Takes(_) => Arc::clone(&self.tables.private[shard - self.core_shards]),
            },
        );
        let core_shards = self.core_shards;
        let stack_bytes = match parking {
            Parking::Sends(..) => STACK_BYTES,
            Parking::Takes(_) => PARKING_STACK_BYTES,
        };
        let runtime = self.runtime().clone();
        let mailboxes = Arc::clone(mailboxes);
        let (addresses, makes) = (self.addresses.clone(), makes.to_vec());
        let (ready, is_ready) = mpsc::channel();
        let (finished, has_finished) = mpsc::channel::<()>();
        let work = move || {
            // Signals are for the thread that listens for them: what a handler writes to here would
            // be another descriptor.
            block_signals();
            if let Parking::Takes(handover) = &parking {
                let keep = [poll.as_raw_fd(), io.registry.as_raw_fd(), handover.raw()];
                if let Err(error) = part_from_others(&keep) {
                    drop(ready.send(Err(error)));
                    return;
                }
            }
            // Handlers that are polled in place find their timers and sockets in this runtime.
            let _inside = runtime.enter();
            let mailbox = mailboxes[shard].clone();
            let shared = Rc::new(RefCell::new(Vec::new()));
            let runtime = runtime.clone();
            let context =
                ShardContext { shard, core_shards, service: 0, mailboxes, runtime, shared };
            let services = (0..)
                .zip(&makes)
                .map(|(service, make)| make(&ShardContext { service, ..context.clone() }));
            let services = services.collect();
            match Shard::new(poll, io, mailbox, &addresses, services, parking, finished) {
                Ok(shard) => {
                    let _ = ready.send(Ok(()));
                    let run = std::panic::AssertUnwindSafe(|| shard.run());
                    if std::panic::catch_unwind(run).is_err() {
                        tracing::error!("a shard panicked; ending the process");
                        std::process::exit(70);
                    }
                }
                Err(error) => drop(ready.send(Err(error))),
            }
        };
        let thread = thread::Builder::new()
            .name(format!("eserver-{shard}"))
            .stack_size(stack_bytes)
            .spawn(work)
            .map_err(StartError::Shard)?;
        self.counters.push(counters);
        self.threads.push((thread, has_finished));
        let first = self.addresses.first().map(|(address, _)| *address);
        match (is_ready.recv(), first) {
            (Ok(Ok(())), _) => Ok(()),
            (Ok(Err(error)), Some(address)) => Err(StartError::Listen(address, error)),
            (Ok(Err(error)), None) => Err(StartError::Shard(error)),
            (Err(_), _) => Err(StartError::Shard(io::Error::other("the shard panicked"))),
        }
    }

    /// The addresses listened on, in the order they were given; port 0 has become a real one.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.addresses.iter().map(|(address, _)| *address)
    }

    /// How many shards there are, those apart that only park connections.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.core_shards
    }

    /// How many connections each of the shards holds that only park them, and how many each may
    /// hold; none if there are no such shards.
    pub fn parked(&self) -> impl ExactSizeIterator<Item = (usize, usize)> {
        self.tables.private.iter().map(|table| (table.held(), table.room))
    }

    /// How many connections the shards may hold that have the process's table of descriptors.
    #[must_use]
    pub fn core_connections_max(&self) -> usize {
        self.tables.shared.room
    }

    /// The limit on descriptors, after raising it as far as it goes.
    #[must_use]
    pub fn descriptors(&self) -> DescriptorLimit {
        self.descriptors
    }

    /// Connections this server will hold at once: the configured bound, or what descriptors allow.
    #[must_use]
    pub fn connections_max(&self) -> usize {
        self.settings.connections_max
    }

    /// Connections held now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.census.total()
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        for counters in &self.counters {
            counters.add_to(&mut sum);
        }
        sum
    }

    /// The tokio runtime beside the shards.
    #[must_use]
    pub fn runtime(&self) -> &tokio::runtime::Handle {
        self.runtime.as_ref().expect("it is there until the server has ended").handle()
    }

    /// A way to reach the connections of the shard that holds `conn`.
    #[must_use]
    pub fn post(&self, conn: ConnId) -> Option<Post> {
        let mailbox = self.mailboxes.get(conn.shard())?.clone();
        Some(Post { mailbox, service: u8::MAX })
    }

    /// Replaces limits and allow-lists, one list per `listen` call, without touching connections:
    /// those that are already in stay in.
    ///
    /// # Panics
    /// When the number of allow-lists is not the number of `listen` calls.
    pub fn reload(&mut self, limits: Limits, allow: Vec<AllowList>) {
        assert_eq!(allow.len(), self.settings.allow.len(), "one allow-list per listen call");
        self.settings = Arc::new(settings(limits, allow, self.tables.room()));
        for mailbox in &self.mailboxes {
            mailbox.post(Letter::Settings(Arc::clone(&self.settings)));
        }
    }

    /// Stops accepting, answers what is in flight, and ends; whoever still waits after `patience`
    /// is cut off. What still blocks a thread of the runtime then is left to itself.
    pub fn shutdown(mut self, patience: Duration) -> Ended {
        let deadline = Instant::now() + patience;
        // Those that accept end first: what they hand over is then still taken.
        let (accepting, parking) = self.mailboxes.split_at(self.core_shards);
        accepting.iter().for_each(Mailbox::drain);
        if !parking.is_empty() {
            let is_open = |mailbox: &Mailbox| mailbox.accepts();
            while accepting.iter().any(is_open) && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(1));
            }
            parking.iter().for_each(Mailbox::drain);
        }
        // No shard ends before all have finished: what one still answers, another may know.
        for (_, has_finished) in &self.threads {
            let left = deadline.saturating_duration_since(Instant::now());
            let _ = has_finished.recv_timeout(left);
        }
        let cut_off = self.census.total();
        self.stop();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(deadline.saturating_duration_since(Instant::now()));
        }
        Ended { cut_off, counters: self.counters() }
    }

    fn stop(&mut self) {
        for mailbox in &self.mailboxes {
            mailbox.post(Letter::Stop);
        }
        for (thread, _) in self.threads.drain(..) {
            // A shard's panic has ended the process already.
            let _ = thread.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
        if let Some(runtime) = self.runtime.take() {
            // Dropping it would wait for what blocks its threads, perhaps for ever.
            runtime.shutdown_background();
        }
    }
}
