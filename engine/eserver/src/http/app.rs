//! [`App`]: routes, each answered by a function.

mod gate;
mod handler;
mod pool;
mod replier;
mod request;

use std::future::Future;
use std::net::ToSocketAddrs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use eserver_wire::http::Head;
use thiserror::Error;

use crate::allow::{AllowList, NotAPrefix};
use crate::http::app::gate::Gate;
use crate::http::app::handler::{ByReplier, Handler, InPlace, Later, may_wait, on_pool, panicked};
use crate::http::app::replier::Beside;
use crate::http::application::{Answered, Application, BodyPlan};
use crate::http::call::Call;
use crate::http::files::{self, Files, Served};
use crate::http::middleware::{Cors, Middleware, MiddlewareOnShard};
use crate::http::reply::{Reply, status, text};
use crate::http::router::{BadRoute, Found, Router};
use crate::http::service::Http;
use crate::listener::Newcomers;
use crate::server::{Server, ShardContext, StartError};

pub use gate::Waiting;
pub use pool::Pool;
pub use replier::Replier;
pub use request::{OwnedRequest, Request};

/// The longest body that a route takes if it says nothing else, in bytes.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// How long [`App::listen`] lets requests in flight finish after SIGTERM or SIGINT.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(30);

/// An HTTP application: handlers by method and path.
///
/// ```no_run
/// use eserver::http::{App, OwnedRequest, json, text};
///
/// let mut app = App::new();
/// app.get("/hello/{name}", |request| text(format!("Hello, {}!", request.param("name"))));
/// app.get_async("/later", async |_request: OwnedRequest| {
///     tokio::time::sleep(std::time::Duration::from_millis(500)).await;
///     "here it is"
/// });
/// app.files("/static", "public");
/// app.listen("0.0.0.0:8080")?;
/// # Ok::<(), eserver::http::RunError>(())
/// ```
///
/// A path is what stands between slashes: `{name}` stands for one segment and `{*name}`, at the end,
/// for all that follows. HEAD is answered by the handler of GET, without the body. OPTIONS is
/// answered by itself, as are paths that there is nothing at (404) and methods that a path does not
/// have (405).
///
/// A panic in a handler is logged and answered by a 500.
#[derive(Clone)]
pub struct App {
    routes: Vec<Route>,
    allow: AllowList,
    middleware: Middleware,
    newcomers: Newcomers,
}

/// What is handled by one handler, and its bounds.
#[derive(Clone)]
pub struct Route {
    method: String,
    path: String,
    make: Make,
    body: BodyPlan,
    gate: Option<Arc<Gate>>,
    can_wait: bool,
}

/// Builds a route's handler for one shard.
type Make = Arc<dyn Fn(Option<Arc<Gate>>) -> Box<dyn Handler> + Send + Sync>;

/// Why [`App::listen`] ended without being asked to.
#[derive(Debug, Error)]
pub enum RunError {
    /// Two of the routes, or one of them, cannot be.
    #[error(transparent)]
    Route(#[from] BadRoute),
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

macro_rules! methods {
    ($($method:literal $in_place:ident $may_wait:ident $blocking:ident $later:ident,)*) => {
        /// Routes by method: each as the one of [`App::route`] and its kin.
        impl App {$(
            #[doc = concat!("[`App::route`] for ", $method, ".")]
            pub fn $in_place<R: Into<Reply>>(
                &mut self,
                path: &str,
                handler: impl Fn(&Request<'_>) -> R + Send + Sync + 'static,
            ) -> &mut Route {
                self.route($method, path, handler)
            }

            #[doc = concat!("[`App::route_async`] for ", $method, ".")]
            pub fn $may_wait<F, Fut>(&mut self, path: &str, handler: F) -> &mut Route
            where
                F: Fn(OwnedRequest) -> Fut + Send + Sync + 'static,
                Fut: Future<Output: Into<Reply>> + Send + 'static,
            {
                self.route_async($method, path, handler)
            }

            #[doc = concat!("[`App::route_blocking`] for ", $method, ".")]
            pub fn $blocking<R: Into<Reply>>(
                &mut self,
                path: &str,
                pool: &Pool,
                handler: impl Fn(OwnedRequest) -> R + Send + Sync + 'static,
            ) -> &mut Route {
                self.route_blocking($method, path, pool, handler)
            }

            #[doc = concat!("[`App::route_later`] for ", $method, ".")]
            pub fn $later(
                &mut self,
                path: &str,
                handler: impl Fn(&Request<'_>, Replier) + Send + Sync + 'static,
            ) -> &mut Route {
                self.route_later($method, path, handler)
            }
        )*}
    };
}

methods! {
    "GET" get get_async get_blocking get_later,
    "POST" post post_async post_blocking post_later,
    "PUT" put put_async put_blocking put_later,
    "PATCH" patch patch_async patch_blocking patch_later,
    "DELETE" delete delete_async delete_blocking delete_later,
}

impl App {
    /// Nothing to ask for yet; everybody who reaches the address may connect.
    #[must_use]
    pub fn new() -> Self {
        let (allow, middleware) = (AllowList::everyone(), Middleware::default());
        App { routes: Vec::new(), allow, middleware, newcomers: Newcomers::WithFirstBytes }
    }

    /// Answers in place, on the shard. The handler must not wait: every other request of the shard
    /// would.
    pub fn route<R: Into<Reply>>(
        &mut self,
        method: &str,
        path: &str,
        handler: impl Fn(&Request<'_>) -> R + Send + Sync + 'static,
    ) -> &mut Route {
        let handler = Arc::new(handler);
        self.add(method, path, false, move |_| Box::new(InPlace(Arc::clone(&handler))))
    }

    /// Answers by an `async` function. It is polled once in place, which costs little more than a
    /// plain call; only when it really waits does it move to the tokio runtime.
    ///
    /// If the connection ends meanwhile, the future is dropped where it waits, since nobody is left
    /// to be answered. What must come to its end all the same is to be spawned.
    pub fn route_async<F, Fut>(&mut self, method: &str, path: &str, handler: F) -> &mut Route
    where
        F: Fn(OwnedRequest) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Into<Reply>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        self.add(method, path, true, move |gate| may_wait(Arc::clone(&handler), gate))
    }

    /// Answers by a function that may block, on one of the pool's threads. Without a place in the
    /// pool's line the answer is 503. It is not called for a client whose connection has ended
    /// before its turn has come.
    pub fn route_blocking<R: Into<Reply>>(
        &mut self,
        method: &str,
        path: &str,
        pool: &Pool,
        handler: impl Fn(OwnedRequest) -> R + Send + Sync + 'static,
    ) -> &mut Route {
        self.route_async(method, path, on_pool(pool, handler))
    }

    /// Answers when and where the handler likes: it is given the request in place, and a
    /// [`Replier`] to keep.
    ///
    /// ```
    /// # use eserver::http::App;
    /// let mut app = App::new();
    /// app.get_later("/slow", |_request, replier| {
    ///     std::thread::spawn(move || replier.reply("from afar"));
    /// });
    /// ```
    pub fn route_later(
        &mut self,
        method: &str,
        path: &str,
        handler: impl Fn(&Request<'_>, Replier) + Send + Sync + 'static,
    ) -> &mut Route {
        let handler = Arc::new(handler);
        self.add(method, path, false, move |_| Box::new(ByReplier(Arc::clone(&handler))))
    }

    /// Serves the files of a directory below `prefix`, such as `/static`, or `/`.
    ///
    /// ```
    /// use eserver::http::{App, Files};
    ///
    /// let mut app = App::new();
    /// app.files("/static", Files::of("public").cache_control("max-age=3600"));
    /// app.files("/", "htdocs");
    /// ```
    pub fn files(&mut self, prefix: &str, files: impl Into<Files>) -> &mut Route {
        let served = Arc::new(Served::new(files.into()));
        let prefix = prefix.trim_end_matches('/');
        if !prefix.is_empty() {
            self.get(prefix, files::to_directory);
        }
        self.get(&format!("{prefix}/{{*path}}"), move |request| {
            served.reply(request.param("path"), request)
        })
    }

    /// Lets web pages of other origins use the application.
    pub fn cors(&mut self, cors: Cors) -> &mut Self {
        self.middleware.cors = Some(cors);
        self
    }

    /// Gives every request an id, or takes over the one it has in `X-Request-Id`; the reply has it
    /// in the same field, and handlers by [`Request::id`].
    pub fn request_ids(&mut self) -> &mut Self {
        self.middleware.has_request_ids = true;
        self
    }

    /// Logs one in so many requests, as events of `tracing` with the target `eserver::access` and
    /// level INFO. They are written beside the shards; if that falls behind, some are left out.
    pub fn access_log(&mut self, one_in: u32) -> &mut Self {
        self.middleware.log_one_in = Some(one_in);
        self
    }

    /// Lets this address or prefix connect. From the first call on, nobody else may, but for this
    /// machine.
    ///
    /// # Errors
    /// [`NotAPrefix`] when the text is neither.
    pub fn allow_ip(&mut self, address: &str) -> Result<&mut Self, NotAPrefix> {
        let mut allow = self.allow.clone();
        if allow == AllowList::everyone() {
            allow = AllowList::loopback();
        }
        allow.add(address)?;
        self.allow = allow;
        Ok(self)
    }

    /// When the kernel shows a newcomer; [`Newcomers::WithFirstBytes`] by default, which is right for
    /// all but clients that connect long before they ask.
    pub fn newcomers(&mut self, newcomers: Newcomers) -> &mut Self {
        self.newcomers = newcomers;
        self
    }

    /// Serves on `address` until SIGTERM or SIGINT, then finishes what is in flight.
    ///
    /// # Errors
    /// When the routes contradict one another or the server cannot start.
    pub fn listen(&self, address: impl ToSocketAddrs + std::fmt::Debug) -> Result<(), RunError> {
        let service = self.service()?;
        let running = Server::new().listen(address, self.allow.clone(), service)?.start()?;
        for address in running.addresses() {
            println!("listening on http://{address}");
        }
        running.runtime().block_on(crate::signals::asked_to_end()).map_err(RunError::Signals)?;
        running.shutdown(SHUTDOWN_PATIENCE);
        Ok(())
    }

    /// The application as a service for [`Server::listen`].
    ///
    /// # Errors
    /// [`BadRoute`] when a path is malformed or two routes answer the same requests.
    pub fn service(
        &self,
    ) -> Result<impl Fn(&ShardContext) -> Http<AppOnShard> + Send + Sync + 'static, BadRoute> {
        let mut router = Router::new();
        for (at, route) in self.routes.iter().enumerate() {
            router.insert(&route.method, &route.path, at)?;
            if route.gate.is_some() && !route.can_wait {
                return Err(BadRoute::Concurrency(format!("{} {}", route.method, route.path)));
            }
        }
        let (router, routes) = (Arc::new(router), self.routes.clone());
        let (middleware, newcomers) = (self.middleware.clone(), self.newcomers);
        Ok(move |context: &ShardContext| {
            let application = AppOnShard {
                router: Arc::clone(&router),
                handlers: routes.iter().map(|route| (route.make)(route.gate.clone())).collect(),
                bodies: routes.iter().map(|route| route.body).collect(),
                middleware: middleware.on_shard(context.runtime()),
                beside: Arc::new(Beside::new(context.runtime().clone())),
            };
            Http::new(context, application).newcomers(newcomers)
        })
    }

    fn add(
        &mut self,
        method: &str,
        path: &str,
        can_wait: bool,
        make: impl Fn(Option<Arc<Gate>>) -> Box<dyn Handler> + Send + Sync + 'static,
    ) -> &mut Route {
        self.routes.push(Route {
            method: method.to_owned(),
            path: path.to_owned(),
            make: Arc::new(make),
            body: BodyPlan::Collect { bytes_max: BODY_BYTES_MAX },
            gate: None,
            can_wait,
        });
        self.routes.last_mut().expect("it was just put there")
    }
}

impl Route {
    /// The longest body taken, in bytes; a longer one is answered with 413. 1 MiB by default.
    pub fn body_bytes_max(&mut self, bytes: usize) -> &mut Self {
        self.body = BodyPlan::Collect { bytes_max: bytes };
        self
    }

    /// Answers at once, without waiting for the body: the handler sees none. A body whose rest is
    /// longer than [`SKIP_BYTES_MAX`](crate::http::SKIP_BYTES_MAX) or of unknown length is not read
    /// to its end; the connection ends after the answer.
    pub fn ignore_body(&mut self) -> &mut Self {
        self.body = BodyPlan::Unread;
        self
    }

    /// How many requests of this route are worked on at once, on all shards together; the others
    /// wait or get a 503 with Retry-After. For handlers that wait, `async` or blocking: with others,
    /// the application does not start.
    pub fn concurrency(&mut self, max: usize, waiting: Waiting) -> &mut Self {
        self.gate = Some(Arc::new(Gate::new(max, waiting)));
        self
    }
}

/// An [`App`] as one shard has it.
pub struct AppOnShard {
    router: Arc<Router<usize>>,
    /// By the number of the route.
    handlers: Vec<Box<dyn Handler>>,
    bodies: Vec<BodyPlan>,
    middleware: MiddlewareOnShard,
    beside: Arc<Beside>,
}

impl Application for AppOnShard {
    fn body(&mut self, head: &Head<'_>) -> BodyPlan {
        match self.router.find(head.method, head.path) {
            Found::Route(route, _) => self.bodies[*route],
            _ => BodyPlan::Unread,
        }
    }

    fn call(&mut self, head: &Head<'_>, body: &[u8], call: Call<'_, '_>) -> Answered {
        let mut request = Request::new(head, body, call.conn.peer_mapped(), call.conn_id());
        let envelope = self.middleware.open(&mut request);
        let mut later = Later {
            conn: call.conn,
            ticket: call.ticket,
            post: call.post,
            beside: &self.beside,
            envelope: Some(envelope),
        };
        let reply = match self.router.find(head.method, head.path) {
            Found::Route(route, params) => {
                request.set_params(params);
                let handler = &mut self.handlers[*route];
                match catch_unwind(AssertUnwindSafe(|| handler.call(&request, &mut later))) {
                    Ok(reply) => reply,
                    Err(_) => Some(panicked(&format!("{} {}", head.method, head.path))),
                }
            }
            Found::OtherMethods(allow) if head.method == "OPTIONS" => {
                let preflight = self.middleware.preflight(&request, allow);
                Some(
                    preflight.unwrap_or_else(|| status(204)).with_header("Allow", allow.to_owned()),
                )
            }
            Found::OtherMethods(allow) => {
                let sentence = format!("{} is not for this path; {allow} are\n", head.method);
                Some(text(sentence).with_status(405).with_header("Allow", allow.to_owned()))
            }
            Found::Nothing if head.path == "*" => {
                Some(status(204).with_header("Allow", self.router.allow()))
            }
            Found::Nothing => Some(Reply::not_found()),
            Found::Bad(bad) => Some(text(format!("{bad}\n")).with_status(bad.status)),
        };
        // Without an envelope the duty to answer is with somebody else.
        if let (Some(reply), Some(envelope)) = (reply, later.envelope.take()) {
            if reply.is_whole() {
                let reply = envelope.seal(reply);
                return call.reply_with(reply.status(), |response| reply.write(response));
            }
            let mut replier = later.replier_with(envelope);
            if reply.is_work() {
                replier = replier.until(later.ended());
            }
            replier.reply(reply);
        }
        Answered(())
    }
}
