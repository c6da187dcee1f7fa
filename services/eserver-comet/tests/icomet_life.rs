//! What clients of icomet rely on as time passes: signs of life, the life of channels, who is
//! noticed to come and go, and how a server ends.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

mod support;

use std::time::{Duration, Instant};

use eserver_comet::{ChannelSettings, Settings};
use support::{PATIENCE, Site, Subscriber, encoded, eventually, everywhere, get, object};

/// Channels end after `idle_s` without subscribers, and polls after `poll_timeout_s`.
fn with(idle_s: u32, poll_timeout_s: u32) -> Settings {
    let channel = ChannelSettings { idle_s, poll_timeout_s, ..ChannelSettings::default() };
    Settings { channel, ..Settings::default() }
}

#[test]
fn who_hears_nothing_gets_a_sign_of_life() {
    everywhere(&with(30, 1), |site| {
        let begun = Instant::now();
        let mut poll = site.listen("/sub?cname=a&seq=1&noop=7&cb=f");
        let mut streams: Vec<Subscriber> = ["/stream", "/sse", "/iframe"]
            .map(|path| site.listen(&format!("{path}?cname=a&seq=1&noop=-1")))
            .into();
        // A poll ends with its sign of life; the number is the client's own.
        assert_eq!(poll.line(), format!("f({});", object("noop", "a", 7, "")));
        assert!(begun.elapsed() >= Duration::from_millis(950), "{:?}", begun.elapsed());
        poll.finished();
        // A stream gets one after the other, counted on from its number.
        for stream in &mut streams {
            for noop in -1..=2 {
                stream.text_until(&object("noop", "a", noop, ""));
            }
        }
        assert!(begun.elapsed() >= Duration::from_millis(3950), "{:?}", begun.elapsed());
    });
}

#[test]
fn a_message_puts_the_sign_of_life_off() {
    everywhere(&with(30, 2), |site| {
        let mut stream = site.attend("/stream", "a", 1);
        let begun = Instant::now();
        let mut seq = 0;
        while begun.elapsed() < Duration::from_secs(5) {
            seq += 1;
            site.push("a", "x");
            let pushed = Instant::now();
            assert_eq!(stream.line(), object("data", "a", seq, "x"));
            if pushed.elapsed() > Duration::from_secs(1) {
                return; // This machine is too busy to tell.
            }
            std::thread::sleep(Duration::from_millis(250));
        }
        assert_eq!(stream.line(), object("noop", "a", 0, ""));
    });
}

#[test]
fn a_channel_without_subscribers_ends() {
    everywhere(&with(1, 30), |site| {
        let begun = Instant::now();
        site.push("pushed", "x");
        site.poll("cname=polled");
        site.tell("/sign?cname=signed&expires=3");
        site.tell("/sign?cname=not%20signed");
        // What is pushed to a signed channel makes its life no shorter.
        site.push("signed", "x");
        let stream = site.attend("/stream", "occupied", 1);
        for name in ["pushed", "polled", "not signed"] {
            eventually("it ends", || !site.exists(name));
            assert!(begun.elapsed() >= Duration::from_millis(950), "{name}");
        }
        assert_eq!(site.tell("/close?cname=occupied"), "ok 1\n");
        let signed_until = begun + Duration::from_millis(2950);
        assert!(site.exists("signed") || Instant::now() >= signed_until);
        eventually("it ends", || !site.exists("signed"));
        assert!(Instant::now() >= signed_until);
        // With its messages, its token and its number.
        site.push("pushed", "y");
        let messages = format!("[{}]\n", object("data", "pushed", 1, "y"));
        assert_eq!(site.poll("cname=pushed&seq=1"), messages);
        drop(stream);
    });
}

#[test]
fn a_channel_lives_while_somebody_listens_and_its_time_longer() {
    everywhere(&with(2, 1), |site| {
        site.push("other", "x");
        let mut stream = site.attend("/stream", "a", 1);
        eventually("the other one ends", || !site.exists("other"));
        assert!(site.exists("a"));
        // Polls that come again keep it, too, and so do signs of life.
        let mut client = site.front();
        for noop in 0..3 {
            client.send(get(&format!("/sub?cname=polled&seq=1&noop={noop}")));
            assert_eq!(client.answer().body, object("noop", "polled", noop, "") + "\n");
            assert!(site.exists("polled"));
        }
        assert!(site.exists("a"));
        assert_eq!(stream.line(), object("noop", "a", 0, ""));
        let left = Instant::now();
        drop(stream);
        site.wait_for_subscribers("a", 0);
        assert!(site.exists("a"));
        eventually("it ends", || !site.exists("a"));
        assert!(left.elapsed() >= Duration::from_millis(1950));
    });
}

#[test]
fn a_signature_may_shorten_the_life_of_a_channel() {
    everywhere(&with(20, 30), |site| {
        site.push("a", "x");
        let begun = Instant::now();
        site.tell("/sign?cname=a&expires=1");
        eventually("it ends", || !site.exists("a"));
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    });
}

/// Reads lines of `/psub` until this one comes; those in between.
fn lines_until(psub: &mut Subscriber, wanted: &str) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        match psub.line() {
            line if line == wanted => return lines,
            line => lines.push(line),
        }
    }
}

#[test]
fn who_watches_is_told_which_channels_there_are_again_and_again() {
    everywhere(&with(1, 30), |site| {
        let mut psub = site.admin();
        psub.send(get("/psub"));
        let mut psub = psub.listen();
        let mut other = site.admin();
        other.send(get("/psub"));
        let mut other = other.listen();
        // Each shard has some of these. Once they have been told twice, all shards tell.
        let names: Vec<String> = (0..16).map(|at| format!("{at}")).collect();
        let streams: Vec<_> = names.iter().map(|name| site.attend("/stream", name, 1)).collect();
        for _ in 0..2 {
            let mut left: Vec<_> = names.iter().map(|name| format!("1 {name}")).collect();
            while !left.is_empty() {
                let line = psub.line();
                left.retain(|one| *one != line);
            }
        }
        for name in &names {
            lines_until(&mut other, &format!("1 {name}"));
        }
        // It comes when it is made, and goes when its time is over.
        site.push("new", "x");
        for psub in [&mut psub, &mut other] {
            let before = lines_until(psub, "1 new");
            assert!(before.iter().all(|line| line.starts_with("1 ")), "{before:?}");
            lines_until(psub, "0 new");
        }
        // Who leaves is not told of before the channel's time is over.
        drop(streams);
        eventually("nobody is left", || site.totals().1 == 0);
        let left: Vec<_> = names.iter().map(|name| format!("0 {name}")).collect();
        for psub in [&mut psub, &mut other] {
            let mut left = left.clone();
            while !left.is_empty() {
                let line = psub.line();
                left.retain(|one| *one != line);
            }
        }
        // Closing is told at once; one who is gone disturbs nobody.
        drop(other);
        site.push("closed", "x");
        site.tell("/close?cname=closed");
        lines_until(&mut psub, "0 closed");
    });
}

#[test]
fn a_disconnect_is_noticed_and_so_is_one_half_of_it() {
    everywhere(&with(3600, 3600), |site| {
        for path in ["/sub", "/stream", "/sse"] {
            let before = Instant::now();
            let gone = site.attend(path, "a", 1);
            let mut half_gone = site.attend(path, "a", 1);
            let mut still_there = site.attend(path, "a", 1);
            drop(gone);
            site.wait_for_subscribers("a", 2);
            half_gone.client().send_end();
            site.wait_for_subscribers("a", 1);
            half_gone.client().expect_cut();
            assert!(still_there.is_silent());
            drop(still_there);
            site.wait_for_subscribers("a", 0);
            assert!(before.elapsed() < PATIENCE / 2);
        }
        // One whose request waits behind a poll leaves with it.
        let mut client = site.front();
        client.send(get("/sub?cname=a&seq=1").repeat(3));
        site.wait_for_subscribers("a", 1);
        drop(client);
        site.wait_for_subscribers("a", 0);
        // Nothing else needs to happen for that: whoever asked would wake the server.
        let listens = || site.comet.stats()[1].1;
        for half in [false, true] {
            let mut listener = site.attend("/stream", "a", 1);
            eventually("it listens", || listens() == 1);
            if half {
                listener.client().send_end();
            } else {
                drop(listener);
            }
            eventually("it has left", || listens() == 0);
        }
        // Who watches, too.
        let mut psub = site.admin();
        psub.send(get("/psub"));
        let mut psub = psub.listen();
        psub.client().send_end();
        psub.finished();
    });
}

#[test]
fn a_server_that_ends_answers_everybody() {
    everywhere(&with(30, 30), |site| {
        let name = |at| format!("channel {at}");
        let polls: Vec<_> = (0..40)
            .map(|at| {
                let query = format!("cname={}&seq=1&noop={at}", encoded(&name(at)));
                site.listen(&format!("/sub?{query}"))
            })
            .collect();
        let streams: Vec<_> = (0..40)
            .flat_map(|at| ["/stream", "/sse", "/iframe"].map(|path| (path, at)))
            .map(|(path, at)| site.listen(&format!("{path}?cname={}&seq=1", encoded(&name(at)))))
            .collect();
        let mut old = site.front();
        old.send("GET /sub?cname=old&seq=1&noop=3 HTTP/1.0\r\n\r\n");
        let mut psub = site.admin();
        psub.send(get("/psub"));
        let psub = psub.listen();
        eventually("all listen", || site.totals().1 == 40 * 4 + 1);
        let Site { running, .. } = site;
        let begun = Instant::now();
        assert_eq!(running.shutdown(PATIENCE).cut_off, 0);
        assert!(begun.elapsed() < PATIENCE);
        for (at, mut poll) in (0..).zip(polls) {
            assert_eq!(poll.line(), object("noop", &name(at), at.into(), ""));
            poll.finished().expect_end();
        }
        for mut stream in streams {
            if stream.head.field("Content-Type") == Some("text/html; charset=utf-8") {
                (0..4).for_each(|_| drop(stream.text_until("-->\n")));
            }
            // Nothing is told, but the answer is whole.
            stream.finished().expect_end();
        }
        assert_eq!(old.answer().body, object("noop", "old", 3, "") + "\n");
        let (lines, mut client) = psub.rest();
        assert!(lines.lines().all(|line| line.starts_with("1 ")), "{lines}");
        client.expect_end();
    });
}

#[test]
fn a_message_soon_after_a_poll_came_again_arrives_promptly() {
    everywhere(&with(30, 30), |site| {
        let mut client = site.front();
        let mut admin = site.admin();
        let mut late = 0;
        const ROUNDS: u32 = 40;
        for seq in 1..=ROUNDS {
            client.send(get(&format!("/sub?cname=a&seq={seq}")));
            // The head arrives by itself; its acknowledgment is what Nagle would wait for.
            assert!(client.head().is_chunked());
            site.wait_for_subscribers("a", 1);
            let pushed = Instant::now();
            admin.send(get("/push?cname=a&content=x"));
            let mut body = String::new();
            while let Some(chunk) = client.chunk() {
                body.push_str(&chunk);
            }
            late += u32::from(pushed.elapsed() > Duration::from_millis(20));
            assert_eq!(body, object("data", "a", seq.into(), "x") + "\n");
            admin.answer();
            site.wait_for_subscribers("a", 0);
        }
        // With it they would all be, by 40 ms; a busy machine delays some.
        assert!(late < ROUNDS / 2, "{late} of {ROUNDS} were late");
    });
}
