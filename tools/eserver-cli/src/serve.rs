//! `eserver serve`: opens the queues, starts the engine, and obeys signals until told to end.

use std::io::{self, Write};
use std::process;
use std::sync::Arc;

use anyhow::Context;
use eserver::{AllowList, Asked, Limits, Running, Server, Signals, StartError};
use eserver_queue::{
    Clock, LogFailed, QueueName, QueueService, QueueSettings, Queues, SyncPolicy, WhenFull,
};
use tokio::sync::mpsc;

use crate::config::key::Reload;
use crate::config::{Config, Full, Loaded, Sources, Sync};
use crate::exit::{Exit, OrExit};
use crate::log::{self, Log};

/// Bytes of messages that one queue may be behind its disk before clients are told it is busy.
const QUEUE_INBOX_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// When something the server needs is taken, unwritable or damaged, and when a queue's log fails.
pub(crate) fn run(sources: &Sources, loaded: Loaded) -> anyhow::Result<()> {
    let Loaded { config, .. } = &loaded;
    let log = log::start(&config.log);
    let (failure, failures) = mpsc::unbounded_channel();
    let queues = open_queues(config, failure)?;
    let queues = Arc::new(queues);
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
    // A closed standard output is no reason not to serve.
    let _ = welcome(config, &running, &mut io::stdout().lock());
    let result = obey(sources, loaded, running, &log, failures);
    // The engine has ended: nobody else holds the queues, so this commits and closes them.
    drop(queues);
    result
}

/// Serves until asked to end, or until a queue's log has failed.
fn obey(
    sources: &Sources,
    mut loaded: Loaded,
    mut running: Running,
    log: &Log,
    mut failures: mpsc::UnboundedReceiver<String>,
) -> anyhow::Result<()> {
    let runtime = running.runtime().clone();
    let mut signals = {
        let _inside = runtime.enter();
        Signals::new().context("cannot listen for signals").or_exit(Exit::Io)?
    };
    loop {
        let asked = runtime.block_on(async {
            tokio::select! {
                asked = signals.next() => Ok(asked),
                failure = failures.recv() => Err(failure.unwrap_or_default()),
            }
        });
        match asked {
            Ok(Asked::Reload) => reload(sources, &mut loaded, &mut running, log),
            Ok(Asked::End) => {
                tracing::info!("asked to end: finishing what is in flight, again to end at once");
                drain(running, &loaded.config, signals);
                return Ok(());
            }
            Err(failure) => {
                tracing::error!("{failure}");
                drain(running, &loaded.config, signals);
                return Err(anyhow::anyhow!(failure)).or_exit(Exit::Io);
            }
        }
    }
}

/// Lets the engine finish; a second signal ends the process at once.
fn drain(running: Running, config: &Config, mut signals: Signals) {
    let runtime = running.runtime().clone();
    let counters = running.counters();
    runtime.spawn(async move {
        while signals.next().await != Asked::End {}
        tracing::warn!("asked to end again: ending at once");
        process::exit(i32::from(Exit::Failed as u8));
    });
    let cut_off = running.shutdown(config.shutdown_timeout);
    if cut_off > 0 {
        tracing::warn!(connections = cut_off, "cut off, their time to finish was over");
    }
    tracing::info!(
        requests = counters.requests,
        connections = counters.accepted,
        refused = counters.refused + counters.not_allowed,
        "ended"
    );
}

/// Takes over what can change while running; keeps everything when the new configuration is bad.
fn reload(sources: &Sources, loaded: &mut Loaded, running: &mut Running, log: &Log) {
    match sources.load() {
        Err(problems) => {
            tracing::error!("the configuration has mistakes; keeping the one in force");
            problems.print();
        }
        Ok(new) => {
            for setting in new.settings.changed_since(&loaded.settings) {
                let key = setting.key.path;
                if setting.key.reload == Reload::Signal {
                    tracing::info!(key, value = %setting.value, "reloaded");
                } else {
                    tracing::warn!(key, value = %setting.value, "changes at the next start");
                }
            }
            log.set_level(&new.config.log.level);
            let allow: AllowList = new.config.queue.allow.iter().copied().collect();
            running.reload(limits(&new.config), vec![allow]);
            *loaded = new;
        }
    }
}

fn open_queues(config: &Config, failure: mpsc::UnboundedSender<String>) -> anyhow::Result<Queues> {
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
        // Nobody listens any more when the server is ending anyway.
        let _ = failure.send(format!("queue {queue}: {error:#}; nothing is acknowledged any more"));
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
    writeln!(out, "eserver {version}, {} shards", running.shards())?;
    for address in running.addresses() {
        writeln!(out, "queue     listening on {address}  queues: {names}")?;
        let try_this = "push 'insert into t(num) values (%d)'";
        writeln!(out, "          try: eserver queue --addr {address} {try_this}")?;
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
