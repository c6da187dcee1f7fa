//! `eserver serve`: opens the queues, starts the engine, and obeys signals until told to end.

use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::process;
use std::sync::{Arc, mpsc};
use std::thread;

use anyhow::Context;
use eserver::{AllowList, Asked, Limits, Running, Server, Signals, StartError};
use eserver_queue::{
    Clock, LogFailed, QueueName, QueueService, QueueSettings, Queues, SyncPolicy, WhenFull,
};

use crate::config::key::Reload;
use crate::config::{Config, Full, Loaded, Settings, Sources, Sync};
use crate::exit::{Exit, OrExit};
use crate::log::{self, Log};

/// Bytes of messages that one queue may be behind its disk before clients are told it is busy.
const QUEUE_INBOX_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What the control thread waits for.
enum Event {
    Asked(Asked),
    /// A queue's log has failed; the sentence says which and why.
    LogFailed(String),
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// When something the server needs is taken, unwritable or damaged, and when a queue's log fails.
pub(crate) fn run(sources: &Sources, loaded: Loaded) -> anyhow::Result<()> {
    let config = &loaded.config;
    let log = log::start(&config.log);
    let (sender, events) = mpsc::channel();
    let queues = Arc::new(open_queues(config, sender.clone())?);
    let running = Server::new()
        .shards(config.shards)
        .limits(limits(config))
        .listen_all(
            config.queue.listen.clone(),
            config.queue.allow.iter().copied().collect(),
            QueueService::maker(Arc::clone(&queues)),
        )
        .start()
        .map_err(|error| match error {
            StartError::Shard(_) => (Exit::Io, error),
            _ => (Exit::Unavailable, error),
        })
        .or_else(|(exit, error)| Err(error).or_exit(exit))?;
    listen_for_signals(sender).context("cannot listen for signals").or_exit(Exit::Io)?;
    // A closed standard output is no reason not to serve.
    let _ = welcome(config, &running, &mut io::stdout().lock());
    let mut failure = obey(sources, loaded, running, &log, &events);
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
    mut running: Running,
    log: &Log,
    events: &mpsc::Receiver<Event>,
) -> Option<String> {
    let started = loaded.settings.clone();
    let failure = loop {
        match events.recv().expect("the thread for signals never ends") {
            Event::Asked(Asked::Reload) => {
                reload(sources, &started, &mut loaded, &mut running, log);
            }
            Event::Asked(Asked::End) => {
                tracing::info!("asked to end: finishing what is in flight, again to end at once");
                break None;
            }
            Event::LogFailed(sentence) => break Some(sentence),
        }
    };
    drain(running, &loaded.config);
    failure
}

/// Lets the engine finish.
fn drain(running: Running, config: &Config) {
    let ended = running.shutdown(config.shutdown_timeout);
    if ended.cut_off > 0 {
        tracing::warn!(connections = ended.cut_off, "cut off, their time to finish was over");
    }
    let counters = ended.counters;
    tracing::info!(
        requests = counters.requests,
        connections = counters.accepted,
        refused = counters.refused + counters.not_allowed,
        "ended"
    );
}

/// Takes over what can change while running; keeps everything when the new configuration is bad.
fn reload(
    sources: &Sources,
    started: &Settings,
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
            for setting in new.settings.changed_since(started) {
                if setting.key.reload == Reload::Start {
                    let (key, value) = (setting.key.path, &setting.value);
                    tracing::warn!(key, %value, "changes at the next start");
                }
            }
            log.set_level(&new.config.log.level);
            let allow: AllowList = new.config.queue.allow.iter().copied().collect();
            running.reload(limits(&new.config), vec![allow]);
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
    Queues::open(
        &config.data_dir,
        &config.queue.names,
        &settings,
        Clock::start(),
        QUEUE_INBOX_BYTES_MAX,
        on_failure,
    )
    .or_exit(Exit::CannotCreate)
}

fn limits(config: &Config) -> Limits {
    Limits {
        connections_max: config.limits.connections_max,
        connections_per_address_max: config.limits.connections_per_address_max,
        request_head_timeout: config.limits.request_head_timeout,
        idle_timeout: config.limits.idle_timeout,
        outbox_bytes_max: config.limits.outbox_bytes_max,
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
    for mut address in running.addresses() {
        writeln!(out, "queue     listening on {address}  queues: {names}")?;
        if address.ip().is_unspecified() {
            address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        let try_this = "push 'insert into t(num) values (%d)'";
        writeln!(out, "          try: {program} queue --addr {address} {try_this}")?;
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
    let (limit, held) = (running.descriptors(), running.connections_max());
    if held < config.limits.connections_max {
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
    out.flush()
}
