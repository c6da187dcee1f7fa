//! [`App`]: commands by number, each answered by a function.

use std::collections::HashMap;
use std::future::Future;
use std::net::ToSocketAddrs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use eserver_wire::framed::Frame;
use thiserror::Error;

use crate::allow::{AllowList, NotAPrefix};
use crate::framed::application::{Answered, Application, Call, Framed, encode_error};
use crate::framed::request::{Kind, OwnedRequest, Reply, Request, Responder};
use crate::server::{Post, Server, ShardContext, StartError};

/// How long [`App::listen`] lets requests in flight finish after SIGTERM or SIGINT.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(30);

/// A framed application: handlers by command number, and who may connect.
///
/// ```no_run
/// use eserver::framed::{App, Reply};
///
/// let mut app = App::new();
/// app.command(8003, |_request| Reply::new(8003, "0"));
/// app.command_async(8004, async |request| {
///     tokio::time::sleep(std::time::Duration::from_millis(500)).await;
///     Reply::new(8004, request.body)
/// });
/// app.allow_ip("192.168.1.0/24")?;
/// app.listen("0.0.0.0:8888")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct App {
    commands: HashMap<u16, Make>,
    allow: AllowList,
}

/// Builds a command's handler for one shard.
type Make = Arc<dyn Fn() -> Box<dyn Command> + Send + Sync>;

/// Why [`App::listen`] ended without being asked to.
#[derive(Debug, Error)]
pub enum RunError {
    /// The server did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The signals that end it could not be listened for.
    #[error("cannot listen for signals")]
    Signals(#[source] std::io::Error),
}

impl Default for App {
    fn default() -> Self {
        App::new()
    }
}

impl App {
    /// No commands yet; only this machine may connect.
    #[must_use]
    pub fn new() -> Self {
        App { commands: HashMap::new(), allow: AllowList::loopback() }
    }

    /// Answers `command` in place. The handler must not wait; it may answer later through
    /// [`Request::later`].
    pub fn command(
        &mut self,
        command: u16,
        handler: impl Fn(&Request<'_>) -> Reply + Send + Sync + 'static,
    ) -> &mut Self {
        let handler = Arc::new(handler);
        let make =
            move || -> Box<dyn Command> { Box::new(InPlace { handler: Arc::clone(&handler) }) };
        self.commands.insert(command, Arc::new(make));
        self
    }

    /// Answers `command` by an `async` function. It is polled once in place, which costs no more
    /// than a plain call; only when it really waits does it move to the tokio runtime.
    pub fn command_async<F, Fut>(&mut self, command: u16, handler: F) -> &mut Self
    where
        F: Fn(OwnedRequest) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Reply> + Send + 'static,
    {
        let handler = Arc::new(handler);
        let make = move || -> Box<dyn Command> {
            Box::new(MayWait { handler: Arc::clone(&handler), spare: None })
        };
        self.commands.insert(command, Arc::new(make));
        self
    }

    /// Lets one more address or prefix connect, besides this machine.
    ///
    /// # Errors
    /// [`NotAPrefix`] when the text is neither.
    pub fn allow_ip(&mut self, address: &str) -> Result<&mut Self, NotAPrefix> {
        self.allow.add(address)?;
        Ok(self)
    }

    /// Serves on `address` until SIGTERM or SIGINT, then finishes what is in flight.
    ///
    /// # Errors
    /// When the server cannot start.
    pub fn listen(&self, address: impl ToSocketAddrs + std::fmt::Debug) -> Result<(), RunError> {
        let running = Server::new().listen(address, self.allow.clone(), self.service())?.start()?;
        for address in running.addresses() {
            println!("listening on {address}");
        }
        running.runtime().block_on(crate::signals::asked_to_end()).map_err(RunError::Signals)?;
        running.shutdown(SHUTDOWN_PATIENCE);
        Ok(())
    }

    /// The application as a service for [`Server::listen`].
    pub fn service(&self) -> impl Fn(&ShardContext) -> Framed<AppOnShard> + Send + Sync + 'static {
        let commands = self.commands.clone();
        move |context| {
            let commands = commands.iter().map(|(number, make)| (*number, make())).collect();
            let (post, runtime) = (context.post(), context.runtime().clone());
            Framed(AppOnShard { commands, post, runtime })
        }
    }
}

/// An [`App`] as one shard has it.
pub struct AppOnShard {
    commands: HashMap<u16, Box<dyn Command>>,
    post: Post,
    runtime: tokio::runtime::Handle,
}

impl Application for AppOnShard {
    fn call(&mut self, frame: Frame<'_>, mut call: Call<'_, '_>) -> Answered {
        let Some(command) = self.commands.get_mut(&frame.command) else {
            return call.reply(0, br#"{"error":"cmd not defined"}"#);
        };
        let request = Request {
            command: frame.command,
            body: frame.body,
            peer: call.peer(),
            to: call.ticket(),
            post: &self.post,
        };
        // A handler's panic is that request's failure and nobody else's.
        match catch_unwind(AssertUnwindSafe(|| command.call(&request, &self.runtime))) {
            Ok(Reply(Kind::Later)) => call.later().1,
            Ok(reply) => call.reply_with(|out| reply.encode(out)),
            Err(_) => {
                tracing::error!(command = frame.command, "the handler panicked");
                call.reply_with(|out| encode_error("the command failed", out))
            }
        }
    }
}

/// A command's handler on one shard.
trait Command {
    fn call(&mut self, request: &Request<'_>, runtime: &tokio::runtime::Handle) -> Reply;
}

struct InPlace<F> {
    handler: Arc<F>,
}

impl<F: Fn(&Request<'_>) -> Reply> Command for InPlace<F> {
    fn call(&mut self, request: &Request<'_>, _: &tokio::runtime::Handle) -> Reply {
        (self.handler)(request)
    }
}

struct MayWait<F, Fut> {
    handler: Arc<F>,
    /// Room for a future, used again and again by those that finish at the first poll.
    spare: Option<Pin<Box<Option<Fut>>>>,
}

impl<F, Fut> Command for MayWait<F, Fut>
where
    F: Fn(OwnedRequest) -> Fut,
    Fut: Future<Output = Reply> + Send + 'static,
{
    fn call(&mut self, request: &Request<'_>, runtime: &tokio::runtime::Handle) -> Reply {
        let future = (self.handler)(OwnedRequest {
            command: request.command,
            body: request.body.to_vec(),
            peer: request.peer,
            conn_id: request.conn_id(),
        });
        let mut room = self.spare.take().unwrap_or_else(|| Box::pin(None));
        room.set(Some(future));
        // Nobody is woken by this waker: the runtime polls once more when it takes the future over.
        let mut context = Context::from_waker(Waker::noop());
        match poll_room(&mut room, &mut context) {
            Poll::Ready(reply) => {
                room.set(None);
                self.spare = Some(room);
                reply
            }
            Poll::Pending => {
                let (responder, later) = request.later();
                runtime.spawn(finish(room, responder));
                later
            }
        }
    }
}

async fn finish<Fut: Future<Output = Reply>>(
    mut room: Pin<Box<Option<Fut>>>,
    responder: Responder,
) {
    let reply = std::future::poll_fn(|context| poll_room(&mut room, context)).await;
    responder.reply(reply);
}

fn poll_room<Fut: Future<Output = Reply>>(
    room: &mut Pin<Box<Option<Fut>>>,
    context: &mut Context<'_>,
) -> Poll<Reply> {
    let future = room.as_mut().as_pin_mut().expect("the room holds a future until it is ready");
    future.poll(context)
}
