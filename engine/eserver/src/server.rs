//! [`Server`] and [`Running`]: from listening addresses and services to shards at work, and back.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::num::NonZero;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::allow::AllowList;
use crate::census::Census;
use crate::conn_id::ConnId;
use crate::counters::{Counters, ShardCounters};
use crate::descriptors::DescriptorLimit;
use crate::io::Io;
use crate::limits::Limits;
use crate::mailbox::{Letter, Mailbox};
use crate::reply::{ReplyBatch, ReplyTo};
use crate::service::Service;
use crate::shard::{Shard, WAKER};

/// What all shards obey; replaced as a whole by a reload.
pub(crate) struct Settings {
    pub(crate) limits: Limits,
    /// `limits.connections_max`, lowered to what the descriptor limit leaves.
    pub(crate) connections_max: usize,
    /// One per service.
    pub(crate) allow: Vec<AllowList>,
}

/// What a service is given when it is made for a shard.
pub struct ShardContext {
    shard: usize,
    mailbox: Mailbox,
    runtime: tokio::runtime::Handle,
}

impl ShardContext {
    /// The index of the shard the service is made for.
    #[must_use]
    pub fn shard(&self) -> usize {
        self.shard
    }

    /// A way for other threads to reach this shard's connections.
    #[must_use]
    pub fn post(&self) -> Post {
        Post(self.mailbox.clone())
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
pub struct Post(Mailbox);

impl Post {
    /// Answers many requests at once.
    pub fn replies(&self, batch: ReplyBatch) {
        if !batch.is_empty() {
            self.0.post(Letter::Replies(batch));
        }
    }

    /// Answers one request with encoded bytes.
    pub fn reply(&self, to: ReplyTo, bytes: Vec<u8>) {
        self.0.post(Letter::Reply(to, Some(bytes)));
    }

    /// Says that a request will never be answered: its connection is closed.
    pub fn abandon(&self, to: ReplyTo) {
        self.0.post(Letter::Reply(to, None));
    }

    /// Sends encoded bytes that answer no request; false when the shard is too far behind
    /// ([`Limits::mailbox_letters_max`]) and they were dropped.
    #[must_use]
    pub fn send(&self, conn: ConnId, bytes: Vec<u8>) -> bool {
        self.0.offer(Letter::Send(conn, bytes))
    }

    /// Ends a connection once what it is owed has been sent.
    pub fn close(&self, conn: ConnId) {
        self.0.post(Letter::Close(conn));
    }
}

type Make = Arc<dyn Fn(&ShardContext) -> Box<dyn Service> + Send + Sync>;

struct Listening {
    addresses: Vec<SocketAddr>,
    allow: AllowList,
    make: Make,
}

/// Why a server did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// Somebody else listens there.
    #[error("{0} is in use: another server listens there")]
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
/// connections waiting for ever. (Handlers of [`framed::App`](crate::framed::App) are guarded: their
/// panics become error replies.)
pub struct Server {
    shards: usize,
    limits: Limits,
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
        Server { shards: 0, limits: Limits::default(), listening: Vec::new() }
    }

    /// How many shards, each a thread; 0 means one per core.
    #[must_use]
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = shards;
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
        for (service, listening) in self.listening.iter().enumerate() {
            for address in &listening.addresses {
                let claimed = crate::listener::claim(*address).map_err(|error| {
                    if error.kind() == io::ErrorKind::AddrInUse {
                        StartError::AddressInUse(*address)
                    } else {
                        StartError::Listen(*address, error)
                    }
                })?;
                let service = u8::try_from(service).expect("nobody listens with 256 services");
                addresses.push((claimed, service));
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
        let mut running = Running {
            settings: Arc::new(settings(self.limits, allow, descriptors)),
            descriptors,
            addresses,
            mailboxes: Vec::new(),
            counters: Vec::new(),
            census: Arc::new(Census::new()),
            threads: Vec::new(),
            runtime,
        };
        let makes: Vec<Make> = self.listening.into_iter().map(|listening| listening.make).collect();
        for shard in 0..shards {
            running.start_shard(shard, &makes)?;
        }
        Ok(running)
    }
}

fn settings(limits: Limits, allow: Vec<AllowList>, descriptors: DescriptorLimit) -> Settings {
    let connections_max = limits.connections_max.min(descriptors.connections_max());
    Settings { limits, connections_max, allow }
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
    descriptors: DescriptorLimit,
    addresses: Vec<(SocketAddr, u8)>,
    mailboxes: Vec<Mailbox>,
    counters: Vec<Arc<ShardCounters>>,
    census: Arc<Census>,
    threads: Vec<(thread::JoinHandle<()>, mpsc::Receiver<()>)>,
    runtime: tokio::runtime::Runtime,
}

impl Running {
    fn start_shard(&mut self, shard: usize, makes: &[Make]) -> Result<(), StartError> {
        let poll = mio::Poll::new().map_err(StartError::Shard)?;
        let waker = mio::Waker::new(poll.registry(), WAKER).map_err(StartError::Shard)?;
        let mailbox = Mailbox::new(waker, self.settings.limits.mailbox_letters_max);
        let counters = Arc::new(ShardCounters::default());
        let registry = poll.registry().try_clone().map_err(StartError::Shard)?;
        let io = Io::new(
            u16::try_from(shard).expect("threads run out before 65,536 shards"),
            registry,
            Arc::clone(&self.settings),
            Arc::clone(&counters),
            Arc::clone(&self.census),
        );
        let runtime = self.runtime.handle().clone();
        let context = ShardContext { shard, mailbox: mailbox.clone(), runtime: runtime.clone() };
        let (addresses, makes) = (self.addresses.clone(), makes.to_vec());
        let (ready, is_ready) = mpsc::channel();
        let (ended, has_ended) = mpsc::channel::<()>();
        let shard_mailbox = mailbox.clone();
        let work = move || {
            // Handlers that are polled in place find their timers and sockets in this runtime.
            let _inside = runtime.enter();
            let services = makes.iter().map(|make| make(&context)).collect();
            match Shard::new(poll, io, shard_mailbox, &addresses, services) {
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
            drop(ended);
        };
        let thread = thread::Builder::new()
            .name(format!("eserver-{shard}"))
            .spawn(work)
            .map_err(StartError::Shard)?;
        self.mailboxes.push(mailbox);
        self.counters.push(counters);
        self.threads.push((thread, has_ended));
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

    /// How many shards there are.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.mailboxes.len()
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
        self.runtime.handle()
    }

    /// A way to reach the connections of the shard that holds `conn`.
    #[must_use]
    pub fn post(&self, conn: ConnId) -> Option<Post> {
        self.mailboxes.get(conn.shard()).cloned().map(Post)
    }

    /// Replaces limits and allow-lists, one list per `listen` call, without touching connections:
    /// those that are already in stay in.
    ///
    /// # Panics
    /// When the number of allow-lists is not the number of `listen` calls.
    pub fn reload(&mut self, limits: Limits, allow: Vec<AllowList>) {
        assert_eq!(allow.len(), self.settings.allow.len(), "one allow-list per listen call");
        self.settings = Arc::new(settings(limits, allow, self.descriptors));
        for mailbox in &self.mailboxes {
            mailbox.post(Letter::Settings(Arc::clone(&self.settings)));
        }
    }

    /// Stops accepting, answers what is in flight, and ends; whoever still waits after `patience`
    /// is cut off.
    pub fn shutdown(mut self, patience: Duration) -> Ended {
        let deadline = Instant::now() + patience;
        for mailbox in &self.mailboxes {
            mailbox.post(Letter::Shutdown);
        }
        for (_, has_ended) in &self.threads {
            let left = deadline.saturating_duration_since(Instant::now());
            let _ = has_ended.recv_timeout(left);
        }
        let cut_off = self.census.total();
        self.stop();
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
    }
}
