//! The holder against small comet servers that behave as told: what is lost, repeated, shuffled,
//! refused or cut off is found, and nothing else.
//!
//! One at a time: each run gives threads descriptor tables of their own, with copies of whatever
//! the others have open at that moment.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::thread;
use std::time::Duration;

use eserver::http::{App, OwnedRequest, Reply, Request, status, text};
use eserver::{AllowList, Running, Server};
use eserver_bench::hold::{
    Deliveries, HoldError, HoldPlan, HoldReport, PhaseKind, Profile, RepollPlan, bare_send, hold,
    repoll,
};
use tokio::sync::Notify;

/// What a server does that a good one does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Nothing.
    Good,
    /// Forgets what is published to one channel.
    Forgets,
    /// Delivers to one channel twice.
    Repeats,
    /// Delivers what is published to one channel in pairs, the second first.
    Swaps,
    /// Delivers to another channel what was for one.
    Misdelivers,
    /// Changes what is published to one channel.
    Garbles,
    /// Refuses one subscription in icomet's way.
    Refuses,
    /// Answers a poll of one channel with an error once something is published.
    Fails,
    /// Rejects what is published to one channel.
    Rejects,
}

/// The channel at which a server shows its manner.
const ODD: &str = "c3";

/// A channel of the server.
#[derive(Default)]
struct Channel {
    /// All messages, each with its type; the first has number 1.
    messages: Vec<(&'static str, String)>,
    kept_back: Option<(&'static str, String)>,
    changed: Arc<Notify>,
}

/// A comet server with the few requests of icomet's API that the holder makes.
struct Comet {
    manner: Manner,
    noop_after: Duration,
    channels: Mutex<HashMap<String, Channel>>,
}

impl Comet {
    fn publish(&self, name: &str, kind: &'static str, content: &str) {
        let is_odd = name == ODD && kind == "data";
        let name = if is_odd && self.manner == Manner::Misdelivers { "c4" } else { name };
        let mut channels = self.channels.lock().unwrap();
        let channel = channels.entry(name.to_owned()).or_default();
        let message = (kind, content.to_owned());
        match self.manner {
            Manner::Forgets if is_odd => return,
            Manner::Repeats if is_odd => channel.messages.extend([message.clone(), message]),
            Manner::Garbles if is_odd => channel.messages.push((kind, format!("{content}!"))),
            Manner::Swaps if is_odd => match channel.kept_back.take() {
                None => channel.kept_back = Some(message),
                Some(first) => channel.messages.extend([message, first]),
            },
            _ => channel.messages.push(message),
        }
        channel.changed.notify_waiters();
    }

    async fn subscribe(&self, request: OwnedRequest) -> Reply {
        let (name, seq) = (value(&request, "cname"), value(&request, "seq").parse().unwrap());
        if name == ODD && self.manner == Manner::Refuses {
            return text(object("429", &name, 0, "Too many channels"));
        }
        let changed =
            Arc::clone(&self.channels.lock().unwrap().entry(name.clone()).or_default().changed);
        let deadline = tokio::time::Instant::now() + self.noop_after;
        loop {
            let notified = changed.notified();
            if let Some(answer) = self.answer(&name, seq) {
                return answer;
            }
            if tokio::time::timeout_at(deadline, notified).await.is_err() {
                return text(object("noop", &name, 1, ""));
            }
        }
    }

    fn answer(&self, name: &str, seq: usize) -> Option<Reply> {
        let channels = self.channels.lock().unwrap();
        let messages = &channels[name].messages;
        let next = messages.len() + 1;
        if seq == 0 || seq > next {
            return Some(text(object("next_seq", name, next, "")));
        }
        if seq == next {
            return None;
        }
        if name == ODD && self.manner == Manner::Fails {
            return Some(status(503));
        }
        let mut objects: Vec<String> = (seq..)
            .zip(&messages[seq - 1..])
            .map(|(seq, (kind, content))| object(kind, name, seq, content))
            .collect();
        if messages.last().is_some_and(|(kind, _)| *kind == "broadcast") {
            objects.push(object("next_seq", name, next, ""));
        }
        Some(text(match objects.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]\n", many.join(",")),
        }))
    }
}

fn object(kind: &str, name: &str, seq: usize, content: &str) -> String {
    format!("{{\"type\":\"{kind}\",\"cname\":\"{name}\",\"seq\":{seq},\"content\":\"{content}\"}}")
}

/// A parameter of the query; those here need no decoding.
fn value(request: &Request<'_>, name: &str) -> String {
    let pairs = request.query_string().unwrap_or_default().split('&');
    let found = pairs.filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name);
    found.map(|(_, value)| value.to_owned()).unwrap_or_default()
}

/// A running server, its two addresses, and the right to be the only one.
struct Fake {
    _running: Running,
    front: SocketAddr,
    admin: SocketAddr,
    _alone: MutexGuard<'static, ()>,
}

fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    // A test that has failed has nothing to do with the next.
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn serve(manner: Manner, noop_after: Duration) -> Fake {
    let alone = alone();
    let comet = Arc::new(Comet { manner, noop_after, channels: Mutex::default() });
    let (mut front, mut admin) = (App::new(), App::new());
    let subscribed = Arc::clone(&comet);
    front.get_async("/sub", move |request| {
        let comet = Arc::clone(&subscribed);
        async move { comet.subscribe(request).await }
    });
    let pushed = Arc::clone(&comet);
    admin.get("/push", move |request| {
        let name = value(request, "cname");
        if pushed.manner == Manner::Rejects && name == ODD {
            return status(429);
        }
        pushed.publish(&name, "data", &value(request, "content"));
        text("{\"type\":\"ok\"}\n")
    });
    admin.get("/broadcast", move |request| {
        let names: Vec<String> = comet.channels.lock().unwrap().keys().cloned().collect();
        names.iter().for_each(|name| comet.publish(name, "broadcast", &value(request, "content")));
        "ok\n"
    });
    let everyone = AllowList::everyone;
    let running = Server::new()
        .shards(1)
        .listen("127.0.0.1:0", everyone(), front.service().unwrap())
        .unwrap()
        .listen("127.0.0.1:0", everyone(), admin.service().unwrap())
        .unwrap()
        .start()
        .unwrap();
    let addresses: Vec<SocketAddr> = running.addresses().collect();
    Fake { _running: running, front: addresses[0], admin: addresses[1], _alone: alone }
}

const NEVER: Duration = Duration::from_secs(3600);

/// A plan that looks at nothing for long.
fn plan(fake: &Fake, connections: usize) -> HoldPlan {
    HoldPlan {
        settle: Duration::ZERO,
        memory_timeout: Duration::ZERO,
        timeout: Duration::from_secs(1),
        messages: 2,
        ..HoldPlan::new(fake.front, Some(fake.admin), connections)
    }
}

fn run(plan: &HoldPlan) -> HoldReport {
    hold(plan, &AtomicBool::new(false), &mut |_| {}).unwrap()
}

/// What is found at a server of this manner, with ten connections and four messages for each, but
/// five for one.
#[track_caller]
fn check(manner: Manner, expected: Deliveries) {
    let fake = serve(manner, NEVER);
    let report = run(&plan(&fake, 10));
    assert_eq!(report.deliveries(), expected, "{}", report.to_table());
    assert_eq!(report.is_faultless(), manner == Manner::Good, "{}", report.to_table());
}

/// All of it, if nothing goes wrong: two and the broadcast for each of ten, and one.
const ALL: Deliveries = Deliveries {
    expected: 31,
    delivered: 31,
    lost: 0,
    duplicated: 0,
    out_of_order: 0,
    misdelivered: 0,
    refused: 0,
    closed: 0,
    noops: 0,
};

#[test]
fn nothing_is_lost_by_a_good_server() {
    check(Manner::Good, ALL);
}

#[test]
fn what_is_forgotten_is_lost() {
    check(Manner::Forgets, Deliveries { delivered: 29, lost: 2, ..ALL });
}

#[test]
fn what_is_repeated_is_seen() {
    check(Manner::Repeats, Deliveries { duplicated: 2, ..ALL });
}

#[test]
fn what_is_swapped_is_seen() {
    check(Manner::Swaps, Deliveries { out_of_order: 1, ..ALL });
}

#[test]
fn what_reaches_another_is_lost_and_misdelivered() {
    check(Manner::Misdelivers, Deliveries { delivered: 29, lost: 2, misdelivered: 2, ..ALL });
}

#[test]
fn what_is_changed_is_lost_and_misdelivered() {
    check(Manner::Garbles, Deliveries { delivered: 29, lost: 2, misdelivered: 2, ..ALL });
}

#[test]
fn an_answer_that_is_none_is_the_end_of_a_connection() {
    check(Manner::Fails, Deliveries { delivered: 28, lost: 3, closed: 1, ..ALL });
}

#[test]
fn a_publication_that_is_rejected_is_lost() {
    let fake = serve(Manner::Rejects, NEVER);
    let report = run(&plan(&fake, 10));
    let phase = &report.rounds[0].phases[1];
    assert_eq!((phase.rejected, phase.deliveries.lost), (2, 2), "{}", report.to_table());
    assert!(report.first_error.as_ref().unwrap().contains("429"));
    assert!(!report.is_faultless());
}

#[test]
fn a_subscription_that_is_refused_is_no_connection_held() {
    let fake = serve(Manner::Refuses, NEVER);
    let report = run(&HoldPlan { admin: None, ..plan(&fake, 10) });
    let before = report.rounds[0].before;
    assert_eq!((before.refused, before.closed), (1, 0), "{}", report.to_table());
    assert_eq!(report.rounds[0].opened, 9);
    assert!(report.first_error.as_ref().unwrap().contains("Too many channels"));
    assert!(!report.is_faultless());
}

#[test]
fn polls_that_time_out_poll_again() {
    let fake = serve(Manner::Good, Duration::from_millis(30));
    let report = run(&HoldPlan { hold: Duration::from_millis(300), ..plan(&fake, 20) });
    assert!(report.is_faultless(), "{}", report.to_table());
    assert!(report.rounds[0].before.noops >= 40, "{}", report.to_table());
}

#[test]
fn many_hold_on_a_few_descriptors_each_round_anew() {
    let fake = serve(Manner::Good, NEVER);
    let most = Some(900);
    let report =
        run(&HoldPlan { descriptors_max: most, rounds: 2, messages: 1, ..plan(&fake, 3000) });
    assert!(report.is_faultless(), "{}", report.to_table());
    assert!(report.threads >= 4, "{}", report.threads);
    assert_eq!(report.deliveries().delivered, 2 * (2 * 3000 + 1));
    assert!(report.rounds[1].bare_send_ns.is_some_and(|cost| cost > 50.0));
}

#[test]
fn connections_share_channels() {
    let fake = serve(Manner::Good, NEVER);
    let report = run(&HoldPlan { channels: 4, ..plan(&fake, 10) });
    assert!(report.is_faultless(), "{}", report.to_table());
    // The third of four channels has two or three of ten connections.
    assert_eq!(report.rounds[0].phases[0].deliveries.expected, 2);
}

/// Passes on what is said between clients and `front`, answers byte by byte, until dropped.
fn trickle(front: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, mut server) = (client.unwrap(), TcpStream::connect(front).unwrap());
            client.set_nodelay(true).unwrap();
            let (mut to_server, mut from_client) =
                (server.try_clone().unwrap(), client.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut from_client, &mut to_server));
            thread::spawn(move || {
                let mut byte = [0];
                while server.read(&mut byte).is_ok_and(|count| count > 0) {
                    if client.write_all(&byte).is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}

#[test]
fn answers_may_come_byte_by_byte() {
    let fake = serve(Manner::Good, NEVER);
    let front = trickle(fake.front);
    let report = run(&HoldPlan { front, ..plan(&fake, 5) });
    assert!(report.is_faultless(), "{}", report.to_table());
    assert_eq!(report.deliveries().delivered, 16);
}

#[test]
fn a_connection_that_the_server_closes_is_seen() {
    let _alone = alone();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let front = listener.local_addr().unwrap();
    let (keep, kept) = mpsc::channel();
    let server = thread::spawn(move || {
        let mut streams: Vec<TcpStream> = (0..5).map(|_| listener.accept().unwrap().0).collect();
        drop(streams.pop());
        keep.send(streams).unwrap();
    });
    let report = run(&HoldPlan {
        profile: Profile::Tcp,
        settle: Duration::ZERO,
        memory_timeout: Duration::ZERO,
        hold: Duration::from_millis(500),
        ..HoldPlan::new(front, None, 5)
    });
    assert_eq!(report.rounds[0].before.closed, 1, "{}", report.to_table());
    assert!(!report.is_faultless());
    server.join().unwrap();
    drop(kept.recv().unwrap());
}

#[test]
fn where_nobody_listens_there_is_no_report() {
    let _alone = alone();
    let front = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let plan = HoldPlan {
        settle: Duration::ZERO,
        memory_timeout: Duration::ZERO,
        ..HoldPlan::new(front, None, 5)
    };
    let result = hold(&plan, &AtomicBool::new(false), &mut |_| {});
    assert!(matches!(result, Err(HoldError::NobodyHeld { .. })), "{result:?}");
}

#[test]
fn a_run_that_is_stopped_says_how_far_it_came() {
    let fake = serve(Manner::Good, NEVER);
    let stop = AtomicBool::new(false);
    let plan = HoldPlan { hold: Duration::from_secs(600), ..plan(&fake, 50) };
    let report = hold(&plan, &stop, &mut |progress| {
        if progress.what.starts_with("holding") {
            stop.store(true, Ordering::Relaxed);
        }
    })
    .unwrap();
    assert!(report.is_interrupted && !report.is_faultless());
    assert_eq!(report.rounds[0].opened, 50);
    assert!(report.to_table().ends_with("verdict    interrupted\n"), "{}", report.to_table());
}

#[test]
fn a_ramp_is_not_exceeded() {
    let fake = serve(Manner::Good, NEVER);
    let report = run(&HoldPlan { admin: None, ramp_per_s: Some(100.0), ..plan(&fake, 50) });
    assert!(report.rounds[0].opening_s >= 0.4, "{}", report.rounds[0].opening_s);
    assert!(report.is_faultless(), "{}", report.to_table());
}

#[test]
fn a_ramp_that_takes_longer_than_all_time_is_given_up() {
    let fake = serve(Manner::Good, NEVER);
    let timeout = Duration::from_millis(200);
    let plan = HoldPlan { admin: None, ramp_per_s: Some(1e-30), timeout, ..plan(&fake, 2) };
    let report = run(&plan);
    assert_eq!(report.rounds[0].opened, 1);
    assert!(!report.is_faultless(), "{}", report.to_table());
}

#[test]
fn a_server_whose_listener_is_in_a_table_of_its_own_is_found() {
    let _alone = alone();
    let (tell, told) = mpsc::channel();
    let (end, ended) = mpsc::channel::<()>();
    let server = thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_FILES).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        tell.send(listener.local_addr().unwrap()).unwrap();
        let _ = ended.recv();
    });
    let front = told.recv().unwrap();
    let report = run(&HoldPlan {
        profile: Profile::Tcp,
        settle: Duration::ZERO,
        memory_timeout: Duration::ZERO,
        ..HoldPlan::new(front, None, 3)
    });
    assert_eq!(report.server_pid, Some(std::process::id()));
    drop(end);
    server.join().unwrap();
}

#[test]
fn only_what_is_planned_is_published_and_as_often() {
    let fake = serve(Manner::Good, NEVER);
    let phases = vec![PhaseKind::OneChannel, PhaseKind::Broadcast, PhaseKind::OneChannel];
    let report = run(&HoldPlan { channels: 1, phases: phases.clone(), ..plan(&fake, 10) });
    let kinds: Vec<_> = report.rounds[0].phases.iter().map(|phase| phase.kind).collect();
    assert_eq!(kinds, phases);
    assert!(report.is_faultless(), "{}", report.to_table());
    assert_eq!(report.deliveries().delivered, 30);
}

/// A poller of `fake` that is published to at once.
fn repoll_plan(fake: &Fake) -> RepollPlan {
    RepollPlan {
        front: fake.front,
        admin: fake.admin,
        profile: Profile::Eserver,
        delay: Duration::from_millis(1),
        messages: 5,
        content_bytes: 60,
        timeout: Duration::from_secs(10),
    }
}

#[test]
fn a_poller_that_polls_again_is_timed() {
    let fake = serve(Manner::Good, NEVER);
    let waited = repoll(&repoll_plan(&fake)).unwrap();
    assert!(waited.p50 > 0.0 && waited.p50 <= waited.p99 && waited.max < 5_000.0, "{waited:?}");
}

#[test]
fn a_poller_that_hears_nothing_of_it_is_an_error() {
    let fake = serve(Manner::Good, Duration::from_millis(1));
    let plan = RepollPlan { delay: Duration::from_millis(100), ..repoll_plan(&fake) };
    let error = repoll(&plan).unwrap_err();
    assert!(error.to_string().contains("nothing"), "{error}");
}

#[test]
fn a_bare_send_takes_some_time_and_not_long() {
    let _alone = alone();
    let cost = bare_send(200, 50).unwrap();
    assert!(cost > Duration::from_nanos(50) && cost < Duration::from_millis(1), "{cost:?}");
}
