//! [`Comet`]: the channels of a server, as services of the engine.
//!
//! A request comes to one of two ports: [`Front`], the public one, where subscribers are, or
//! [`Admin`], the application's. What it wants of a channel's hub becomes a *question*, which is
//! answered at once where the hub is on the same shard, and otherwise travels by *mail* to the
//! *station* of the shard that owns the channel. A station has the hub and the room of its shard
//! and carries their letters. Who subscribes is known to the room by its *line*, and by the slot of
//! its connection; the *teller* makes bytes of what it is told. Those who want to know what becomes
//! of channels are *watchers*.

mod front;

mod admin;

mod parameters;

mod right;

mod question;

mod asked;

mod station;

mod mail;

mod line;

mod sockets;

mod watchers;

mod reporter;

mod asker;

mod answer;

mod counters;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use eserver::http::{HeadLimits, Http};
use eserver::{Announce, Intake, Post, ShardContext};
use eserver_wire::http::FieldLine;

use crate::channel_name::ChannelName;
use crate::hub::ChannelCount;
use crate::message::Data;
use crate::secrets::{NoRandomness, Secrets};
use crate::service::counters::StationCounters;
use crate::service::mail::{Bundle, Mail};
use crate::service::question::Question;
use crate::service::reporter::Reporter;
use crate::service::station::{Common, Station};
use crate::settings::{Policies, Settings};
use crate::shards::Shards;

pub use admin::Admin;
pub use front::Front;

pub(crate) const ANY_ORIGIN: FieldLine = FieldLine::constant("Access-Control-Allow-Origin: *\r\n");
pub(crate) const VARY_ORIGIN: FieldLine = FieldLine::constant("Vary: Origin\r\n");
pub(crate) const ANY_METHOD: FieldLine =
    FieldLine::constant("Access-Control-Allow-Methods: GET, HEAD, POST, DELETE, OPTIONS\r\n");
pub(crate) const ANY_HEADER: FieldLine = FieldLine::constant(
    "Access-Control-Allow-Headers: Authorization, Content-Type, Last-Event-ID\r\n",
);
pub(crate) const PREFLIGHT_AGE: FieldLine =
    FieldLine::constant("Access-Control-Max-Age: 86400\r\n");
pub(crate) const EXPIRES: FieldLine = FieldLine::constant("Expires: 0\r\n");
pub(crate) const NO_CACHE: FieldLine = FieldLine::constant("Cache-Control: no-cache\r\n");
pub(crate) const NO_STORE: FieldLine = FieldLine::constant("Cache-Control: no-store\r\n");
pub(crate) const CACHE_FOR_AN_HOUR: FieldLine =
    FieldLine::constant("Cache-Control: max-age=3600\r\n");
pub(crate) const NO_SNIFFING: FieldLine =
    FieldLine::constant("X-Content-Type-Options: nosniff\r\n");
/// nginx in front would otherwise keep what is to arrive at once.
pub(crate) const NO_BUFFERING: FieldLine = FieldLine::constant("X-Accel-Buffering: no\r\n");
pub(crate) const EVENT_STREAM: FieldLine =
    FieldLine::constant("Content-Type: text/event-stream; charset=utf-8\r\n");
pub(crate) const PLAIN_TEXT: FieldLine =
    FieldLine::constant("Content-Type: text/plain; charset=utf-8\r\n");

/// How long the target of a request to the admin port may be, in bytes; a longer one is answered
/// 414. Clients of icomet publish by GET, with everything in the target.
const TARGET_BYTES_MAX: usize = 1024 * 1024;

/// The channels of a server. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Comet(Arc<Inner>);

struct Inner {
    started: Instant,
    policies: Mutex<Arc<Policies>>,
    secrets: Secrets,
    count: ChannelCount,
    /// The stations that were made, by shard: how to reach them, and what they count.
    stations: Mutex<BTreeMap<usize, (Post, Arc<StationCounters>)>>,
    owners: Mutex<usize>,
    reporter: Mutex<Option<Reporter>>,
}

impl Comet {
    /// No channels yet. With a `secret`, signed tokens are good for all processes that have the same
    /// one, and after a restart.
    ///
    /// # Errors
    /// [`NoRandomness`]
    pub fn new(settings: Settings, secret: Option<&[u8]>) -> Result<Self, NoRandomness> {
        Ok(Comet(Arc::new(Inner {
            started: Instant::now(),
            policies: Mutex::new(Arc::new(Policies::new(settings))),
            secrets: Secrets::new(secret)?,
            count: ChannelCount::default(),
            stations: Mutex::new(BTreeMap::new()),
            owners: Mutex::new(1),
            reporter: Mutex::new(None),
        })))
    }

    /// Puts what becomes of channels into a queue from now on, for [`Webhook`](crate::Webhook). To be
    /// said before the server is started.
    pub fn report_to(&self, intake: Arc<dyn Intake>) {
        *lock(&self.0.reporter) = Some(Reporter::new(intake));
    }

    /// What makes the public port's service, for [`Server::listen`](eserver::Server::listen).
    pub fn front(&self) -> impl Fn(&ShardContext) -> Http<Front> + Send + Sync + 'static {
        let comet = self.clone();
        move |context| Http::new(context, Front::new(comet.station(context)))
    }

    /// What makes the admin port's service.
    pub fn admin(&self) -> impl Fn(&ShardContext) -> Http<Admin> + Send + Sync + 'static {
        let comet = self.clone();
        let limits = HeadLimits {
            target_bytes_max: TARGET_BYTES_MAX,
            head_bytes_max: TARGET_BYTES_MAX + HeadLimits::default().head_bytes_max,
            ..HeadLimits::default()
        };
        move |context| Http::new(context, Admin::new(comet.station(context))).head_limits(limits)
    }

    /// Uses other settings from now on, the secret apart. Channels keep what they have until
    /// something happens to them.
    pub fn reload(&self, settings: Settings) {
        let policies = Arc::new(Policies::new(settings));
        *lock(&self.0.policies) = Arc::clone(&policies);
        for (post, _) in lock(&self.0.stations).values() {
            let mail = vec![Mail::Reload(Arc::clone(&policies))];
            post.pass(Box::new(Bundle { from: 0, mail }));
        }
    }

    /// How it stands, by name, summed over all shards.
    #[must_use]
    pub fn stats(&self) -> Vec<(&'static str, u64)> {
        let mut sum = StationCounters::default().all().to_vec();
        for (_, counters) in lock(&self.0.stations).values() {
            for (all, (_, one)) in sum.iter_mut().zip(counters.all()) {
                all.1 += one;
            }
        }
        sum
    }

    /// The station of a shard, which its services share.
    fn station(&self, context: &ShardContext) -> Rc<RefCell<Station>> {
        context.shared(|| {
            let Inner { started, policies, secrets, count, stations, owners, reporter } = &*self.0;
            let common = Common {
                started: *started,
                policies: Arc::clone(&lock(policies)),
                secrets: secrets.clone(),
                count: count.clone(),
                reporter: lock(reporter).clone(),
            };
            let posts = context.posts();
            let counters = Arc::new(StationCounters::default());
            lock(stations).insert(context.shard(), (context.post(), Arc::clone(&counters)));
            let count = context.core_shards();
            *lock(owners) = count;
            RefCell::new(Station::new(&common, context.shard(), count, posts, counters))
        })
    }
}

impl Announce for Comet {
    /// Publishes the event to its channel. If the shard that has it is too far behind, nobody is
    /// told.
    fn announce(&self, channel: &str, event: &[u8]) {
        let data = str::from_utf8(event).ok().and_then(|event| Data::json(event).ok());
        let (Ok(channel), Some(data)) = (ChannelName::new(channel), data) else {
            tracing::debug!(channel, "an event is not announced: no name of a channel, or no JSON");
            return;
        };
        let owners = u16::try_from(*lock(&self.0.owners)).expect("the engine has no more shards");
        let owner = Shards::new(owners, self.0.secrets.names()).owner(channel);
        let question = Question::Publish { channel: channel.into(), data, event: None, key: None };
        let mail = vec![Mail::Ask(None, Box::new(question))];
        let bundle = Box::new(Bundle { from: owner, mail });
        let is_told = match lock(&self.0.stations).get(&usize::from(owner)) {
            Some((post, _)) => post.tell(bundle),
            None => false,
        };
        if !is_told {
            tracing::warn!(channel = channel.as_str(), "an event was not announced: too many wait");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that panics is done under these locks.
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
