//! `eserver serve`: opens the queues, starts the engine, and obeys signals until told to end.

mod http;

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use eserver::{AllowList, Announce, Asked, Limits, Running, Server, Signals, StartError};
use eserver_comet::{Calling, Comet, Webhook};
use eserver_queue::{
    Clock, DEFAULT_QUEUE_NAME, LogFailed, QueueName, QueueService, QueueSettings, Queues,
    SyncPolicy, WhenFull,
};
use eserver_queue_sql::{Drain, Draining};

use crate::config::key::Reload;
use crate::config::{Config, DrainConfig, Full, Loaded, Settings, Sources, Sync};
use crate::exit::{Exit, OrExit};
use crate::log::{self, Log};

/// Bytes of messages that one queue may be behind its disk before clients are told it is busy.
const QUEUE_INBOX_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long drains may finish the transactions they are at. What is cut off is settled at the next
/// start.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);

/// What the control thread waits for.
enum Event {
    Asked(Asked),
    /// A queue's log has failed; the sentence says which and why.
    LogFailed(String),
}

/// The queue that what webhooks are to be told waits in.
const WEBHOOK_QUEUE: &str = "webhooks";

/// What does not change while the server runs.
struct Started {
    settings: Settings,
    /// Which services have listeners, and so an allow-list.
    listens: Listens,
    comet: Option<Comet>,
}

/// Which services have listeners, besides the queue's; their allow-lists stand in this order.
#[derive(Debug, Clone, Copy)]
struct Listens {
    comet: bool,
    admin: bool,
    http: bool,
}

impl Listens {
    fn of(config: &Config) -> Self {
        Listens {
            comet: config.comet.is_on(),
            admin: config.comet.is_on() && !config.admin.listen.is_empty(),
            http: !config.http.listen.is_empty(),
        }
    }

    /// The allow-lists of a configuration, one per service that listens.
    fn allow(self, config: &Config) -> Vec<AllowList> {
        let list = |prefixes: &[ipnet::IpNet]| prefixes.iter().copied().collect::<AllowList>();
        let admin = list(&config.admin.allow).deny(config.admin.deny.iter().copied());
        let mut all = vec![list(&config.queue.allow)];
        all.extend(self.comet.then(|| list(&config.comet.allow)));
        all.extend(self.admin.then_some(admin));
        all.extend(self.http.then(|| list(&config.http.allow)));
        all
    }
}

/// Tells those who watch the queue, and the listeners of a channel.
struct Everybody(Vec<Arc<dyn Announce>>);

impl Announce for Everybody {
    fn announce(&self, channel: &str, event: &[u8]) {
        self.0.iter().for_each(|one| one.announce(channel, event));
    }
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// When something the server needs is taken, unwritable or damaged, and when a queue's log fails.
pub(crate) fn run(sources: &Sources, loaded: Loaded) -> anyhow::Result<()> {
    let config = &loaded.config;
    let log = log::start(&config.log);
    let (sender, events) = mpsc::channel();
    let mut queues = open_queues(config, sender.clone())?;
    let drains = drains(config)?;
    for drain in &drains {
        queues.set_consumer(index_of(&queues, drain), Arc::clone(drain) as _);
    }
    let webhook = config.comet.webhook.clone().filter(|_| config.comet.is_on()).map(Webhook::new);
    let webhook = webhook.map(Arc::new);
    if let (Some(webhook), Some(index)) = (&webhook, queues.index_of(WEBHOOK_QUEUE)) {
        queues.set_consumer(index, Arc::clone(webhook) as _);
    }
    let queues = Arc::new(queues);
    let comet = channels(config)?;
    let listens = Listens::of(config);
    let mut allow = listens.allow(config).into_iter();
    let mut next_allow = || allow.next().expect("each service that listens has an allow-list");
    let mut server = Server::new()
        .shards(config.shards)
        // Only subscribers can be elsewhere.
        .private_tables(if config.comet.is_on() {
            config.private_tables
        } else {
            Default::default()
        })
        .limits(limits(config))
        .listen_all(
            config.queue.listen.clone(),
            next_allow(),
            QueueService::maker(Arc::clone(&queues)),
        );
    if let Some(comet) = &comet {
        server = server.listen_all(config.comet.listen.clone(), next_allow(), comet.front());
        if listens.admin {
            server = server.listen_all(config.admin.listen.clone(), next_allow(), comet.admin());
        }
        if let Some(index) = queues.index_of(WEBHOOK_QUEUE).filter(|_| webhook.is_some()) {
            comet.report_to(queues.intake(index));
        }
    }
    if listens.http {
        let service = http::app(&config.http).service().or_exit(Exit::Config)?;
        server = server.listen_all(config.http.listen.clone(), next_allow(), service);
    }
    let running = server
        .start()
        .map_err(|error| match error {
            StartError::Shard(_) => (Exit::Io, error),
            _ => (Exit::Unavailable, error),
        })
        .or_else(|(exit, error)| Err(error).or_exit(exit))?;
    let draining = start_drains(&drains, &queues, comet.as_ref())?;
    let calling = start_webhook(webhook.as_deref(), &queues)?;
    listen_for_signals(sender).context("cannot listen for signals").or_exit(Exit::Io)?;
    // A closed standard output is no reason not to serve.
    let _ = welcome(config, &running, &mut io::stdout().lock());
    let started = Started { settings: loaded.settings.clone(), listens, comet };
    let mut failure = obey(sources, loaded, &started, running, &queues, &log, &events);
    // All at once, so that their patience is not added up.
    draining.iter().for_each(Draining::begin_stop);
    draining.into_iter().for_each(|draining| draining.stop(DRAIN_PATIENCE));
    if let Some(calling) = calling {
        calling.stop(DRAIN_PATIENCE);
    }
    // The engine has ended: nobody else holds the queues, so this commits and closes them, and may
    // still fail.
    drop(queues);
    for event in events.try_iter() {
        if let Event::LogFailed(sentence) = event {
            failure.get_or_insert(sentence);
        }
    }
    match failure {
        None => Ok(()),
        Some(sentence) => Err(anyhow::anyhow!(sentence)).or_exit(Exit::Io),
    }
}

/// Passes signals on from a thread of their own. The second request to end is obeyed right there,
/// whatever the rest of the process is waiting for.
fn listen_for_signals(events: mpsc::Sender<Event>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let mut signals = {
        let _inside = runtime.enter();
        Signals::new()?
    };
    let pass_on = async move {
        let mut ending = false;
        loop {
            let asked = signals.next().await;
            if asked == Asked::End && std::mem::replace(&mut ending, true) {
                tracing::warn!("asked to end again: ending at once");
                process::exit(i32::from(Exit::Failed as u8));
            }
            // Nobody receives any more when the process is ending; the second signal still counts.
            let _ = events.send(Event::Asked(asked));
        }
    };
    let name = "eserver-signals".to_owned();
    thread::Builder::new().name(name).spawn(move || runtime.block_on(pass_on)).map(drop)
}

/// Serves until asked to end, or until a queue's log has failed, which it then tells.
fn obey(
    sources: &Sources,
    mut loaded: Loaded,
    started: &Started,
    mut running: Running,
    queues: &Queues,
    log: &Log,
    events: &mpsc::Receiver<Event>,
) -> Option<String> {
    let failure = loop {
        match events.recv().expect("the thread for signals never ends") {
            Event::Asked(Asked::Reload) => {
                reload(sources, started, &mut loaded, &mut running, log);
            }
            Event::Asked(Asked::End) => {
                tracing::info!("asked to end: finishing what is in flight, again to end at once");
                break None;
            }
            Event::LogFailed(sentence) => break Some(sentence),
        }
    };
    // Whoever watches is answered now, or the end would wait for them.
    queues.events().close();
    finish(running, &loaded.config);
    failure
}

/// Lets the engine finish.
fn finish(running: Running, config: &Config) {
    let ended = running.shutdown(config.shutdown_timeout);
    if ended.cut_off > 0 {
        tracing::warn!(connections = ended.cut_off, "cut off, their time to finish was over");
    }
    let counters = ended.counters;
    tracing::info!(
        requests = counters.requests,
        connections = counters.accepted,
        refused = counters.refused + counters.not_allowed,
        timeouts = counters.request_timeouts + counters.slow_readers,
        "ended"
    );
}

/// Takes over what can change while running; keeps everything when the new configuration is bad.
fn reload(
    sources: &Sources,
    started: &Started,
    loaded: &mut Loaded,
    running: &mut Running,
    log: &Log,
) {
    match sources.load() {
        Err(problems) => {
            tracing::error!("the configuration has mistakes; keeping the one in force");
            problems.print();
        }
        Ok(new) => {
            for setting in new.settings.changed_since(&loaded.settings) {
                if setting.key.reload == Reload::Signal {
                    tracing::info!(key = setting.key.path, value = %setting.value, "reloaded");
                }
            }
            if new.settings.changed_since(&loaded.settings).next().is_none() {
                tracing::info!("read the configuration again: nothing has changed");
            }
            for setting in new.settings.changed_since(&started.settings) {
                if setting.key.reload == Reload::Start {
                    let (key, value) = (setting.key.path, &setting.value);
                    tracing::warn!(key, %value, "changes at the next start");
                }
            }
            log.set_level(&new.config.log.level);
            let config = &new.config;
            running.reload(limits(config), started.listens.allow(config));
            if let Some(comet) = &started.comet {
                comet.reload(config.comet.channels.clone());
            }
            *loaded = new;
        }
    }
}

fn open_queues(config: &Config, events: mpsc::Sender<Event>) -> anyhow::Result<Queues> {
    let settings = QueueSettings {
        length_max: config.queue.length_max,
        full: match config.queue.full {
            Full::Reject => WhenFull::Reject,
            Full::OverwriteOldest => WhenFull::OverwriteOldest,
        },
        sync: match config.queue.sync {
            Sync::Always => SyncPolicy::Always,
            Sync::Interval(interval) => SyncPolicy::Interval {
                milliseconds: u64::try_from(interval.as_millis()).unwrap_or(u64::MAX),
            },
            Sync::Never => SyncPolicy::Never,
        },
        payload_bytes_max: eserver::framed::BODY_BYTES_MAX,
        ..QueueSettings::default()
    };
    let on_failure = move |queue: &QueueName, error: &LogFailed| {
        let error = anyhow::Error::new(error.clone());
        let sentence = format!("queue {queue}: {error:#}; nothing is acknowledged any more");
        tracing::error!("{sentence}");
        let _ = events.send(Event::LogFailed(sentence));
    };
    let mut names = config.queue.names.clone();
    if config.comet.webhook.is_some() && !names.iter().any(|name| name == WEBHOOK_QUEUE) {
        names.push(WEBHOOK_QUEUE.to_owned());
    }
    Queues::open(
        &config.data_dir,
        &names,
        &settings,
        Clock::start(),
        QUEUE_INBOX_BYTES_MAX,
        on_failure,
    )
    .or_exit(Exit::CannotCreate)
}

fn drains(config: &Config) -> anyhow::Result<Vec<Arc<Drain>>> {
    let drain = |drain: &DrainConfig| {
        let made = Drain::new(drain.settings()).map(Arc::new);
        made.with_context(|| format!("the drain of the queue {}", drain.queue))
            .or_exit(Exit::Config)
    };
    config.drains.iter().map(drain).collect()
}

/// Which queue a drain works off.
fn index_of(queues: &Queues, drain: &Drain) -> usize {
    queues.index_of(&drain.settings().queue).expect("the configuration was checked")
}

fn start_drains(
    drains: &[Arc<Drain>],
    queues: &Queues,
    comet: Option<&Comet>,
) -> anyhow::Result<Vec<Draining>> {
    let mut told: Vec<Arc<dyn Announce>> = vec![queues.events().clone()];
    told.extend(comet.map(|comet| Arc::new(comet.clone()) as Arc<dyn Announce>));
    let told = Arc::new(Everybody(told));
    let start = |drain: &Arc<Drain>| {
        let feed = queues.feed(index_of(queues, drain));
        let started = drain.start(feed, Arc::clone(&told) as _);
        started.context("cannot start a drain's thread").or_exit(Exit::Io)
    };
    drains.iter().map(start).collect()
}

/// The channels, if they are on.
fn channels(config: &Config) -> anyhow::Result<Option<Comet>> {
    if !config.comet.is_on() {
        return Ok(None);
    }
    let secret = Some(config.comet.secret.as_bytes()).filter(|secret| !secret.is_empty());
    Comet::new(config.comet.channels.clone(), secret).map(Some).or_exit(Exit::Io)
}

fn start_webhook(webhook: Option<&Webhook>, queues: &Queues) -> anyhow::Result<Option<Calling>> {
    let Some((webhook, index)) = webhook.zip(queues.index_of(WEBHOOK_QUEUE)) else {
        return Ok(None);
    };
    let started = webhook.start(queues.feed(index));
    started.map(Some).context("cannot start the thread of webhooks").or_exit(Exit::Io)
}

/// What the default queue takes.
fn push_to_try(config: &Config) -> String {
    let drain = config.drains.iter().find(|drain| drain.queue == DEFAULT_QUEUE_NAME);
    match drain.filter(|drain| !drain.raw_sql).and_then(|drain| drain.statements.first()) {
        Some((name, _)) => format!("push --stmt {name} --param …"),
        None => "push 'insert into t(num) values (%d)'".to_owned(),
    }
}

fn limits(config: &Config) -> Limits {
    Limits {
        connections_max: config.limits.connections_max,
        connections_per_address_max: config.limits.connections_per_address_max,
        request_head_timeout: config.limits.request_head_timeout,
        request_body_timeout: config.limits.request_body_timeout,
        request_body_bytes_per_s_min: config.limits.request_body_bytes_per_s_min,
        idle_timeout: config.limits.idle_timeout,
        outbox_bytes_max: config.limits.outbox_bytes_max,
        write_timeout: config.limits.write_timeout,
        linger_timeout: config.limits.linger_timeout,
        linger_bytes_max: config.limits.linger_bytes_max,
        ..Limits::default()
    }
}

/// A line per listener, each with what to try next, and what the operator should know.
fn welcome(config: &Config, running: &Running, out: &mut impl Write) -> io::Result<()> {
    let names = ["default"].into_iter().chain(config.queue.names.iter().map(String::as_str));
    let names = names.collect::<Vec<_>>().join(", ");
    let version = env!("CARGO_PKG_VERSION");
    let shards = running.shards();
    writeln!(out, "eserver {version}, {shards} shard{}", if shards == 1 { "" } else { "s" })?;
    // As it was typed, so that what is printed can be typed as well.
    let program = std::env::args().next().unwrap_or_else(|| "eserver".to_owned());
    let mut addresses = running.addresses();
    for address in addresses.by_ref().take(config.queue.listen.len()) {
        writeln!(out, "queue     listening on {address}  queues: {names}")?;
        let try_this = push_to_try(config);
        let address = reachable(address);
        writeln!(out, "          try: {program} queue --addr {address} {try_this}")?;
    }
    let listens = Listens::of(config);
    if listens.comet {
        for address in addresses.by_ref().take(config.comet.listen.len()) {
            let try_this = format!("curl -N 'http://{}/stream?cname=news'", reachable(address));
            writeln!(out, "public    listening on {address}  try: {try_this}")?;
        }
    }
    if listens.admin {
        for address in addresses.by_ref().take(config.admin.listen.len()) {
            let address_to_try = reachable(address);
            let try_this = format!("curl 'http://{address_to_try}/push?cname=news&content=hello'");
            writeln!(out, "admin     listening on {address}  try: {try_this}")?;
        }
    }
    for address in addresses {
        let path = http::path_to_try(&config.http);
        let try_this = format!("curl http://{}{path}", reachable(address));
        writeln!(out, "http      listening on {address}  try: {try_this}")?;
    }
    let promise = match config.queue.sync {
        Sync::Always => {
            "a message survives kill -9 and power loss once it is acknowledged".to_owned()
        }
        Sync::Interval(interval) => format!(
            "an acknowledged message survives kill -9; power loss costs the last {} ms",
            interval.as_millis()
        ),
        Sync::Never => {
            "an acknowledged message survives kill -9; power loss costs what the kernel had not \
             written yet"
                .to_owned()
        }
    };
    writeln!(out, "data      {}  {promise}", config.data_dir.display())?;
    for drain in &config.drains {
        let (queue, database) = (&drain.queue, drain.target.describe());
        let what = match (drain.raw_sql, drain.statements.len()) {
            (true, _) => "raw SQL is on: whoever may put may run any statement there".to_owned(),
            (false, 1) => "1 named statement".to_owned(),
            (false, count) => format!("{count} named statements"),
        };
        writeln!(out, "drain     queue {queue} into {database}  {what}")?;
    }
    let (limit, held) = (running.descriptors(), running.connections_max());
    let tables = running.parked().len();
    if tables > 0 {
        writeln!(
            out,
            "limits    at most {held} connections at once: {} by `ulimit -n` ({}), the others, all on \
             the public port, by {tables} threads with descriptors of their own",
            running.core_connections_max(),
            limit.soft,
        )?;
    } else if held < config.limits.connections_max {
        writeln!(
            out,
            "limits    at most {held} connections at once: this process may open {} descriptors \
             (`ulimit -n`), {} are kept for files",
            limit.soft,
            limit.reserved(),
        )?;
    }
    if config.queue.allow.is_empty() {
        writeln!(out, "limits    queue.allow is empty: nobody can connect")?;
    }
    for (name, allow, listens) in [
        ("comet", &config.comet.allow, listens.comet),
        ("admin", &config.admin.allow, listens.admin),
        ("http", &config.http.allow, listens.http),
    ] {
        if listens && allow.is_empty() {
            writeln!(out, "limits    {name}.allow is empty: nobody can connect")?;
        }
    }
    out.flush()
}

/// An address of this machine for one that stands for all of its addresses.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigFile, Flag};

    #[test]
    fn every_limit_reaches_the_engine() {
        let given = [
            ("connections_max", 11),
            ("connections_per_address_max", 12),
            ("request_head_timeout_s", 13),
            ("request_body_timeout_s", 14),
            ("request_body_bytes_per_s_min", 15),
            ("idle_timeout_s", 16),
            ("outbox_bytes_max", 1_700),
            ("write_timeout_s", 18),
            ("linger_timeout_s", 19),
            ("linger_bytes_max", 20),
        ];
        let flags = given.map(|(name, value)| Flag::Set(format!("limits.{name}={value}")));
        let file = ConfigFile::IfPresent("there is no such file".into());
        let sources = Sources { file, environment: Vec::new(), flags: flags.to_vec() };
        let loaded = sources.load().unwrap();
        assert_eq!(crate::config::key::within("limits").count(), given.len());
        let expected = Limits {
            connections_max: 11,
            connections_per_address_max: 12,
            request_head_timeout: Duration::from_secs(13),
            request_body_timeout: Duration::from_secs(14),
            request_body_bytes_per_s_min: 15,
            idle_timeout: Duration::from_secs(16),
            outbox_bytes_max: 1_700,
            write_timeout: Duration::from_secs(18),
            linger_timeout: Duration::from_secs(19),
            linger_bytes_max: 20,
            ..Limits::default()
        };
        assert_eq!(limits(&loaded.config), expected);
    }
}
