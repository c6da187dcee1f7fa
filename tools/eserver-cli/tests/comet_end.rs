//! The end under load, on several shards: every publication is answered, everybody has got what was
//! acknowledged before it is told of the end, and nobody is cut off.

mod support;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::eventually;
use support::http::{HttpClient, request};
use support::listener::{
    self, Coming, Listener, Told, Way, number, raise_descriptor_limit, subscribers,
};
use support::server::Setup;

const CHANNELS: usize = 10;

/// Of each way to listen, on each channel.
const LISTENERS: usize = 8;

const PUBLISHERS: usize = 6;

/// So many publications are answered before the server is told to end.
const BEFORE: usize = 2_000;

/// What a listener was told.
struct Heard {
    /// The numbers of messages, in this order.
    offsets: Vec<u64>,
    /// Whether that came last which says when to come again.
    was_told_when: bool,
    /// Whether its answer ended as its form has it.
    has_ended: bool,
}

fn listen(address: SocketAddr, way: Way, channel: &str) -> Heard {
    let mut listener = Listener::open(address, Coming::to(way, channel));
    let mut heard = Heard { offsets: Vec::new(), was_told_when: false, has_ended: false };
    while let Some(told) = listener.told() {
        match told {
            Told::Object(object, _) if listener::kind(&object) == "message" => {
                assert!(!heard.was_told_when, "nothing comes after the goodbye: {object}");
                heard.offsets.push(number(&object, "offset"));
            }
            Told::Object(object, _) if listener::kind(&object) == "goodbye" => {
                heard.was_told_when = true;
            }
            Told::Object(object, _) => {
                assert_eq!(listener::kind(&object), "subscribed", "{object}");
            }
            // A stream begins with one, too.
            Told::Retry(_) => heard.was_told_when = !heard.offsets.is_empty(),
            Told::Closed(code, reason) => assert_eq!((code, &*reason), (1001, "come again")),
        }
    }
    heard.has_ended = listener.has_ended;
    heard
}

/// Publishes until nobody listens any more; what was acknowledged, by channel.
fn publish_on(admin: SocketAddr, nth: usize, answered: &impl Fn()) -> Vec<(usize, u64)> {
    let mut acknowledged = Vec::new();
    let mut client = HttpClient::connect(admin);
    for turn in nth.. {
        let channel = turn % CHANNELS;
        let target = format!("/v1/channels/c{channel}/messages");
        let sent = client.send(request("POST", &target, "Content-Length: 1\r\n") + "x");
        match sent.and_then(|()| client.receive("POST")) {
            Ok(Some(answer)) => {
                assert_eq!(answer.status, 200, "{}", answer.text());
                acknowledged.push((channel, number(answer.text(), "offset")));
                answered();
                if !answer.keep_alive {
                    break;
                }
            }
            // It was closed while nothing was asked on it.
            Ok(None) => break,
            Err(error) => {
                let is_closed = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
                assert!(is_closed.contains(&error.kind()), "{error}");
                break;
            }
        }
    }
    acknowledged
}

/// Ends the server when the test has failed: its listeners would wait for ever.
struct EndsWithTest(i32);

impl Drop for EndsWithTest {
    fn drop(&mut self) {
        if thread::panicking() {
            let _ = kill(Pid::from_raw(self.0), Signal::SIGKILL);
        }
    }
}

#[test]
fn what_was_acknowledged_has_come_before_the_goodbye() {
    raise_descriptor_limit(4_096);
    let mut server = Setup::new().set("shards", 3).start();
    let (public, admin) = (server.public_address(), server.admin_address());
    let count = AtomicUsize::new(0);
    let process_id = i32::try_from(server.process_id()).expect("a process id");
    thread::scope(|scope| {
        let _ends = EndsWithTest(process_id);
        let mut listeners = Vec::new();
        for channel in 0..CHANNELS {
            for way in [Way::Events, Way::Socket] {
                for _ in 0..LISTENERS {
                    let listens = move || listen(public, way, &format!("c{channel}"));
                    listeners.push((channel, way, scope.spawn(listens)));
                }
            }
        }
        let mut asker = HttpClient::connect(admin);
        for channel in 0..CHANNELS {
            eventually("all listen", || {
                let count = subscribers(&mut asker, &format!("c{channel}"));
                (count == 2 * LISTENERS as u64).then_some(())
            });
        }
        // One that waits for a channel on which nothing comes.
        let mut poll = HttpClient::connect(public);
        let here = poll.get("/v1/poll?channel=silent");
        let cursor = listener::text(here.text(), "cursor").expect("where it is");
        let target = format!("/v1/poll?channel=silent&cursor={cursor}");
        poll.send(request("GET", &target, "")).expect("it reads");
        eventually("it waits", || (subscribers(&mut asker, "silent") == 1).then_some(()));
        let answered = || {
            count.fetch_add(1, Ordering::Relaxed);
        };
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|nth| scope.spawn(move || publish_on(admin, nth, &answered)))
            .collect();
        eventually("much was published", || {
            (count.load(Ordering::Relaxed) >= BEFORE).then_some(())
        });
        server.signal(Signal::SIGTERM);
        assert_eq!(poll.answer("GET").status, 200);
        let mut acknowledged = vec![Vec::new(); CHANNELS];
        for publisher in publishers {
            for (channel, offset) in publisher.join().expect("a publisher") {
                acknowledged[channel].push(offset);
            }
        }
        for (channel, way, listener) in listeners {
            let heard = listener.join().expect("a listener");
            let what = format!("{way:?} on c{channel}");
            assert!(heard.was_told_when && heard.has_ended, "{what}: an end in order");
            let in_order: Vec<_> = (1..=heard.offsets.len() as u64).collect();
            assert!(heard.offsets == in_order, "{what}: each once and in order");
            let last = acknowledged[channel].iter().max().copied().unwrap_or(0);
            assert!(last <= heard.offsets.len() as u64, "{what}: {last} was acknowledged");
        }
    });
    assert!(server.wait().success());
    let stderr = server.stderr();
    assert!(!stderr.contains("cut off"), "{stderr}");
}
