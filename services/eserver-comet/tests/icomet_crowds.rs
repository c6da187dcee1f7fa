//! Many subscribers, and slow ones: nothing is lost, nothing is left behind.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

mod support;

use std::thread;

use eserver_comet::{ChannelSettings, Settings};
use support::{Client, Subscriber, eventually, everywhere, get, object};

#[test]
fn a_thousand_subscribers_of_a_channel_get_everything_in_order() {
    const SUBSCRIBERS: usize = 1000;
    const MESSAGES: i64 = 20;
    everywhere(&Settings::default(), |site| {
        let mut streams: Vec<Subscriber> = (0..SUBSCRIBERS)
            .map(|at| {
                let path = ["/stream", "/sse"][at % 2];
                site.listen(&format!("{path}?cname=a&seq=1"))
            })
            .collect();
        let mut polls: Vec<Client> = (0..50).map(|_| site.front()).collect();
        for poll in &mut polls {
            poll.send(get("/sub?cname=a&seq=1"));
        }
        site.wait_for_subscribers("a", (streams.len() + polls.len()) as u64);
        for seq in 1..=MESSAGES {
            site.push("a", &format!("message {seq}"));
        }
        for stream in &mut streams {
            for seq in 1..=MESSAGES {
                let message = object("data", "a", seq, &format!("message {seq}"));
                let told = stream.text_until(&message);
                assert!(told == message || told.trim() == format!("data: {message}"), "{told}");
                stream.text_until("\n");
            }
        }
        for mut poll in polls {
            let first = object("data", "a", 1, "message 1");
            assert_eq!(poll.answer().body, first + "\n");
            // What was pushed meanwhile is kept, as much as there is to keep.
            let rest = poll.get("/sub?cname=a&seq=2").body;
            let last = object("data", "a", MESSAGES, "message 20");
            assert!(rest.ends_with(&format!("{last}]\n")), "{rest}");
        }
        site.wait_for_subscribers("a", SUBSCRIBERS as u64);
    });
}

#[test]
fn connections_come_and_go_and_nothing_is_left_of_them() {
    const WAVES: usize = 10;
    const CONNECTIONS: usize = 300;
    let channel = ChannelSettings { idle_s: 1, ..ChannelSettings::default() };
    everywhere(&Settings { channel, ..Settings::default() }, |site| {
        for wave in 0..WAVES {
            let mut clients: Vec<Client> = (0..CONNECTIONS).map(|_| site.front()).collect();
            for (at, client) in clients.iter_mut().enumerate() {
                let path = ["/sub", "/stream", "/sse", "/iframe"][at % 4];
                let channel = at % 7 + wave;
                let requests = get(&format!("{path}?cname={channel}&seq=1&noop={at}"));
                match at % 5 {
                    // In the midst of a request, behind a poll, not heard out: any way of leaving.
                    0 => client.send(&requests[..requests.len() / 2]),
                    1 => client.send(requests.repeat(3)),
                    2 => {
                        client.send(requests);
                        client.send_end();
                    }
                    3 => client.send(get(&format!("{path}?cname={channel}&cb=f"))),
                    _ => client.send(requests),
                }
            }
            for channel in 0..7 {
                site.push(&(channel + wave).to_string(), "x");
            }
            drop(clients);
        }
        eventually("nobody is left", || site.totals() == (0, 0));
        assert_eq!(site.comet.stats()[..2], [("channels", 0), ("subscriptions", 0)]);
        eventually("no connection is left", || site.running.connections() == 0);
    });
}

#[test]
fn a_slow_reader_is_closed_at_its_bound_and_the_others_are_not_disturbed() {
    const MESSAGES: i64 = 400;
    let content = "x".repeat(100_000);
    let bytes = content.len() * MESSAGES as usize;
    everywhere(&Settings::default(), |site| {
        let mut stalled: Vec<Subscriber> = (0..3).map(|_| site.attend("/stream", "a", 1)).collect();
        let healthy: Vec<Subscriber> = (0..3).map(|_| site.attend("/stream", "a", 1)).collect();
        thread::scope(|scope| {
            let (go_on, may_go_on) = std::sync::mpsc::channel();
            for mut stream in healthy {
                let (content, go_on) = (&content, go_on.clone());
                scope.spawn(move || {
                    for seq in 1..=MESSAGES {
                        assert_eq!(stream.line(), object("data", "a", seq, content));
                        go_on.send(()).unwrap();
                    }
                });
            }
            let mut admin = site.admin();
            for _ in 0..MESSAGES {
                let form = format!("cname=a&content={content}");
                assert_eq!(admin.ask(&support::post("/push", &form)).head.status, 200);
                // No faster than those who read.
                (0..3).for_each(|_| may_go_on.recv().unwrap());
            }
        });
        eventually("the slow ones are gone", || {
            site.subscribers("a") == 3 || site.subscribers("a") == 0
        });
        let stats = site.comet.stats();
        let slow_closed = stats.iter().find(|(name, _)| *name == "slow_closed").unwrap().1;
        assert_eq!(slow_closed, 3);
        for stream in &mut stalled {
            let got = stream.client().expect_cut();
            assert!(got < bytes / 2, "{got} bytes were kept for one who did not read");
        }
    });
}
