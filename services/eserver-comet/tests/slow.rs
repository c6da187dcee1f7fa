//! Subscribers that read more slowly than they are sent to, under each policy.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use eserver_comet::{ChannelSettings, Override, Settings, SlowPolicy};
use serde_json::Value;
use support::{PATIENCE, Site, eventually, everywhere, get};

/// Messages that are more than sockets hold, so that most of them have to wait.
const MESSAGES: u64 = 300;
const MESSAGE_BYTES: usize = 64 * 1024;

/// A stream that nobody reads from yet.
fn stall(site: &Site, channel: &str) -> TcpStream {
    let mut stream = TcpStream::connect(site.front).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(get(&format!("/v1/stream?channel={channel}")).as_bytes()).unwrap();
    site.wait_for_subscribers(channel, 1);
    stream
}

/// Publishes messages that begin with their number.
fn flood(site: &Site, channel: &str) {
    flood_and(site, channel, |_| ());
}

/// The same, and does something after each.
fn flood_and(site: &Site, channel: &str, mut after: impl FnMut(u64)) {
    let mut admin = site.admin();
    for number in 1..=MESSAGES {
        let body = format!("{number}{}", "x".repeat(MESSAGE_BYTES));
        let length = body.len();
        let head = format!(
            "POST /v1/channels/{channel}/messages HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"
        );
        assert_eq!(admin.ask(&(head + &body)).head.status, 200);
        after(number);
    }
}

/// What a stream tells until the message of this number has come, without heads and chunks.
fn read_until(stream: TcpStream, last: u64) -> Vec<Value> {
    let mut told = Vec::new();
    for line in BufReader::new(stream).lines() {
        let line = line.unwrap();
        if let Ok(object @ Value::Object(_)) = serde_json::from_str(&line) {
            let is_last = object["type"] == "message" && object["offset"] == last;
            told.push(object);
            if is_last {
                return told;
            }
        }
    }
    panic!("the stream ended before message {last}: {} things were told", told.len());
}

fn settings(slow: SlowPolicy) -> Settings {
    let history_bytes_max = MESSAGE_BYTES * 16;
    let channel = ChannelSettings { slow, history_bytes_max, ..ChannelSettings::default() };
    let overrides = vec![Override { prefix: "slow".to_owned(), channel }];
    Settings { overrides, ..Settings::default() }
}

/// The offsets of messages, in the order in which they were told, and how many were said to be
/// skipped.
fn offsets(told: &[Value]) -> (Vec<u64>, u64) {
    let messages = told.iter().filter(|object| object["type"] == "message");
    for message in messages.clone() {
        let offset = message["offset"].as_u64().unwrap();
        let data = message["data"].as_str().unwrap();
        assert_eq!(data.trim_end_matches('x'), offset.to_string());
    }
    let skipped = told.iter().filter(|object| object["type"] == "skipped");
    let skipped = skipped.map(|object| object["count"].as_u64().unwrap()).sum();
    (messages.map(|message| message["offset"].as_u64().unwrap()).collect(), skipped)
}

#[test]
fn who_misses_messages_is_told_how_many_and_goes_on() {
    for (slow, kept) in [(SlowPolicy::DropOldest, 10), (SlowPolicy::Conflate, 1)] {
        everywhere(&settings(slow), |site| {
            let stream = stall(&site, "slow");
            flood(&site, "slow");
            let (offsets, skipped) = offsets(&read_until(stream, MESSAGES));
            assert!(offsets.is_sorted(), "{offsets:?}");
            assert_eq!(offsets.len() as u64 + skipped, MESSAGES, "nothing is left out in silence");
            assert!(skipped > 100, "{skipped} skipped");
            // At the least it gets what the policy keeps for it.
            let last: Vec<_> = (MESSAGES - kept + 1..=MESSAGES).collect();
            assert!(offsets.ends_with(&last), "{slow:?} {offsets:?}");
        });
    }
}

#[test]
fn a_slow_reader_is_closed_and_others_do_not_notice() {
    everywhere(&settings(SlowPolicy::Disconnect), |site| {
        let stalled = stall(&site, "slow");
        let healthy = TcpStream::connect(site.front).unwrap();
        healthy.set_read_timeout(Some(PATIENCE)).unwrap();
        (&healthy).write_all(get("/v1/stream?channel=slow").as_bytes()).unwrap();
        site.wait_for_subscribers("slow", 2);
        // It reads as fast as it is sent to.
        let mut lines = BufReader::new(healthy).lines();
        flood_and(&site, "slow", |number| {
            let sign = format!("\"offset\":{number},");
            while !lines.next().expect("it goes on").unwrap().contains(&sign) {}
        });
        eventually("the stalled one is closed", || {
            site.comet.stats().contains(&("slow_closed", 1))
        });
        // It reads at last what was kept for it, and why there is no more.
        let mut kept = String::new();
        BufReader::new(stalled).read_to_string(&mut kept).unwrap();
        assert!(kept.ends_with("{\"type\":\"error\",\"code\":\"too_slow\"}\n\r\n0\r\n\r\n"));
        drop(lines);
        eventually("nobody is left", || site.subscribers("slow") == 0);
    });
}

/// What was missed may be longer than what may wait: who came back would otherwise be closed each time
/// it is told, and never get further.
#[test]
fn a_long_history_comes_as_fast_as_it_is_read() {
    let settings = Settings {
        channel: ChannelSettings {
            history_messages_max: MESSAGES as usize,
            history_bytes_max: MESSAGES as usize * 2 * MESSAGE_BYTES,
            ..ChannelSettings::default()
        },
        ..Settings::default()
    };
    everywhere(&settings, |site| {
        flood(&site, "long");
        for query in ["channel=long", "channel=long&channel=other"] {
            let mut stream = TcpStream::connect(site.front).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let target = format!("/v1/stream?start=all&{query}");
            stream.write_all(get(&target).as_bytes()).unwrap();
            let (offsets, skipped) = offsets(&read_until(stream, MESSAGES));
            assert_eq!((offsets, skipped), ((1..=MESSAGES).collect(), 0), "{query}");
            site.wait_for_subscribers("long", 0);
        }
    });
}
