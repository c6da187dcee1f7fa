//! The API that clients of icomet speak, over real sockets: what each path answers, and what each
//! subscription is told.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

mod support;

use eserver_comet::{Auth, ChannelSettings, Settings};
use support::{Site, encoded, everywhere, get, object, post, request};

const OK: &str = "{\"type\":\"ok\"}\n";
const LISTENING: [&str; 5] = ["/sub", "/poll", "/stream", "/sse", "/iframe"];

fn open() -> Settings {
    Settings::default()
}

fn with_tokens() -> Settings {
    Settings { auth: Auth::Token, ..open() }
}

/// The token in the answer of `/sign`.
fn token_of(signed: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(signed).unwrap();
    value["token"].as_str().unwrap().to_owned()
}

fn sign(site: &Site, channel: &str) -> String {
    token_of(&site.tell(&format!("/sign?cname={channel}")))
}

#[test]
fn the_applications_port_answers() {
    everywhere(&open(), |site| {
        let mut client = site.admin();
        for (request, status, media_type, body) in [
            (get("/check?cname=a"), 200, "application/json", "{}\n"),
            (
                get("/info?cname=a"),
                200,
                "application/json",
                "{\"cname\": \"a\", \"subscribers\": 0}\n",
            ),
            (get("/close?cname=a"), 404, "text/plain", "channel[a] not connected\n"),
            (get("/clear?cname=a"), 404, "text/plain", "channel[a] not connected\n"),
            (get("/push?cname=a&content=1"), 200, "application/json", OK),
            (
                get("/push?cname=a&content=1&cb=f"),
                200,
                "text/javascript",
                "f({\"type\":\"ok\"});\n",
            ),
            (get("/push?cname=a&content=1&cb="), 200, "application/json", OK),
            (get("/pub?cname=a&content=1"), 200, "application/json", OK),
            (
                get("/pub?cname=a&content=1&cb=a.f"),
                200,
                "text/javascript",
                "a.f({\"type\":\"ok\"});\n",
            ),
            (post("/push", "cname=a&content=1"), 200, "application/json", OK),
            (post("/pub", "cname=a&content=1"), 200, "application/json", OK),
            (get("/push?cname=a"), 200, "application/json", OK),
            (request("PUT", "/push?cname=a"), 405, "", ""),
            (request("DELETE", "/push?cname=a"), 405, "", ""),
            (request("PUT", "/pub?cname=a"), 405, "", ""),
            (request("HEAD", "/push?cname=a"), 405, "", ""),
            (get("/broadcast?content=1"), 200, "text/plain", "ok\n"),
            (post("/broadcast", "content=1"), 405, "", ""),
            (request("HEAD", "/broadcast?content=1"), 405, "", ""),
            (get("/clear?cname=a"), 200, "text/plain", "ok 10\n"),
            (request("PUT", "/clear?cname=a"), 200, "text/plain", "ok 10\n"),
            (post("/clear", "cname=a"), 200, "text/plain", "ok 10\n"),
            (get("/check?cname=a"), 200, "application/json", "{\"a\": 1}\n"),
            (request("DELETE", "/check?cname=a"), 200, "application/json", "{\"a\": 1}\n"),
            (request("HEAD", "/check?cname=a"), 200, "application/json", ""),
            (request("OPTIONS", "/check?cname=a"), 405, "", ""),
            (request("PATCH", "/close?cname=a"), 405, "", ""),
            (get("/close?cname=a"), 200, "text/plain", "ok 10\n"),
            (request("HEAD", "/close?cname=a"), 404, "text/plain", ""),
            (get("/check?cname=a"), 200, "application/json", "{}\n"),
            (
                get("/Push?cname=a"),
                404,
                "text/plain",
                "there is nothing here; see docs/comet-api.md for what is\n",
            ),
        ] {
            let answer = client.ask(&request);
            let answered = answer.head.field("Content-Type").unwrap_or_default();
            let right = (answer.head.status, answered.split(';').next().unwrap(), &*answer.body);
            assert_eq!(right, (status, media_type, body), "{request}");
            assert!(answer.head.field("Server").is_some(), "{request}");
        }
        let version = env!("CARGO_PKG_VERSION");
        let nobody =
            format!("{{\"version\": \"{version}\", \"channels\": 0, \"subscribers\": 0}}\n");
        assert_eq!(site.tell("/info"), nobody);
        let _here = site.attend("/stream", "a", 1);
        assert_eq!(site.tell("/info"), nobody.replace(": 0", ": 1"));
        assert_eq!(site.tell("/info?cname=a"), "{\"cname\": \"a\", \"subscribers\": 1}\n");
    });
}

#[test]
fn the_public_port_answers() {
    everywhere(&open(), |site| {
        let mut client = site.front();
        for (request, status, body) in [
            (get("/ping"), 200, "icomet_cb({\"type\":\"ping\",\"sub_timeout\":30});\n"),
            (get("/ping?cb="), 200, "icomet_cb({\"type\":\"ping\",\"sub_timeout\":30});\n"),
            (
                get("/ping?cb=jQuery1.f"),
                200,
                "jQuery1.f({\"type\":\"ping\",\"sub_timeout\":30});\n",
            ),
            (post("/ping", ""), 200, "icomet_cb({\"type\":\"ping\",\"sub_timeout\":30});\n"),
            (request("HEAD", "/ping"), 200, ""),
            (post("/sub?cname=a", ""), 405, ""),
            (request("HEAD", "/poll?cname=a"), 405, ""),
            (request("PUT", "/stream?cname=a"), 405, ""),
            (request("DELETE", "/sse?cname=a"), 405, ""),
            (post("/iframe", "cname=a"), 405, ""),
            (
                get("/push?cname=a"),
                404,
                "there is nothing here; see docs/comet-api.md for what is\n",
            ),
            (
                get("/SUB?cname=a"),
                404,
                "there is nothing here; see docs/comet-api.md for what is\n",
            ),
            (request("OPTIONS", "/sub?cname=a"), 204, ""),
        ] {
            let answer = client.ask(&request);
            assert_eq!((answer.head.status, &*answer.body), (status, body), "{request}");
            assert_eq!(answer.head.field("Access-Control-Allow-Origin"), Some("*"), "{request}");
        }
        assert_eq!(site.totals(), (0, 0));
    });
}

#[test]
fn heads_leave_at_once_and_messages_are_framed() {
    let framed = |path: &str, object: &str| match path {
        "/sub" | "/poll" | "/stream" => format!("{object}\n"),
        "/sse" => format!("data: {object}\n\n"),
        _ => format!("<script>parent.icomet_cb({object});</script>\n"),
    };
    everywhere(&open(), |site| {
        for (path, media_type) in LISTENING.into_iter().zip([
            "application/json; charset=utf-8",
            "application/json; charset=utf-8",
            "application/json; charset=utf-8",
            "text/event-stream; charset=utf-8",
            "text/html; charset=utf-8",
        ]) {
            for version in ["1.0", "1.1"] {
                let channel = format!("{path} {version}");
                let name = encoded(&channel);
                let mut client = site.front();
                client.send(format!(
                    "GET {path}?cname={name}&seq=1&cb= HTTP/{version}\r\nHost: a\r\n\r\n"
                ));
                // Nothing has been published: what comes is the head, and the page of an iframe.
                let mut listener = client.listen();
                assert_eq!(listener.head.field("Content-Type"), Some(media_type));
                assert_eq!(listener.head.field("Expires"), Some("0"));
                assert_eq!(listener.head.field("Cache-Control"), Some("no-cache"));
                assert_eq!(listener.head.field("Access-Control-Allow-Origin"), Some("*"));
                assert_eq!(listener.head.is_chunked(), version == "1.1");
                let closes = listener.head.field("Connection") == Some("close");
                assert_eq!(closes, version == "1.0");
                if path == "/iframe" {
                    let page = listener.text_until("-->\n").len()
                        + (0..3).map(|_| listener.text_until("-->\n").len()).sum::<usize>();
                    assert_eq!(page, 461);
                }
                site.wait_for_subscribers(&channel, 1);
                assert!(listener.is_silent());
                site.push(&channel, "hello");
                let message = framed(path, &object("data", &channel, 1, "hello"));
                assert_eq!(listener.text_until(&message), message);
                if matches!(path, "/sub" | "/poll") {
                    let mut client = listener.finished();
                    match version {
                        "1.0" => client.expect_end(),
                        _ => assert_eq!(client.get("/ping").head.status, 200),
                    }
                } else {
                    site.push(&channel, "again");
                    let message = framed(path, &object("data", &channel, 2, "again"));
                    assert_eq!(listener.text_until(&message), message);
                }
            }
        }
    });
}

#[test]
fn polls_may_be_answered_with_a_call_and_streams_not() {
    everywhere(&open(), |site| {
        let call = |callback: &str, json: &str| format!("{callback}({json});\n");
        site.push("a", "1");
        let one = object("data", "a", 1, "1");
        assert_eq!(site.poll("cname=a&seq=1&cb=f"), call("f", &format!("[{one}]")));
        assert_eq!(site.poll("cname=a&cb=f.g"), call("f.g", &object("next_seq", "a", 2, "")));
        assert_eq!(site.poll("cname=a&seq=1&cb="), format!("[{one}]\n"));
        // What icomet.js sends.
        let query = "cb=icomet_cb_1&cname=a&seq=2&noop=5&token=&_=1400000000000&callback=?";
        let mut listener = site.listen(&format!("/sub?{query}"));
        assert_eq!(listener.head.field("Content-Type"), Some("text/javascript; charset=utf-8"));
        site.wait_for_subscribers("a", 1);
        site.push("a", "2");
        let two = object("data", "a", 2, "2");
        assert_eq!(listener.line() + "\n", call("icomet_cb_1", &two));
        listener.finished();
        assert_eq!(site.listen("/stream?cname=a&seq=2&cb=f").line(), two);
        assert_eq!(site.listen("/sse?cname=a&seq=2&cb=f").line(), format!("data: {two}"));
    });
}

#[test]
fn a_connection_is_used_again_unless_it_is_to_close() {
    everywhere(&open(), |site| {
        let mut client = site.front();
        for seq in 1..=20 {
            client.send(get(&format!("/poll?cname=a&seq={seq}")));
            site.wait_for_subscribers("a", 1);
            site.push("a", "x");
            assert_eq!(client.answer().body, object("data", "a", seq, "x") + "\n");
            // The channel may be another shard's, which hears a moment later that the poll is over.
            site.wait_for_subscribers("a", 0);
        }
        client.send("GET /sub?cname=a&seq=21 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        site.wait_for_subscribers("a", 1);
        site.push("a", "x");
        let answer = client.answer();
        assert_eq!(answer.head.field("Connection"), Some("close"));
        assert_eq!(answer.body, object("data", "a", 21, "x") + "\n");
        client.expect_end();
        // An older client may ask for more, but a body without a length ends with the connection.
        let mut client = site.front();
        client.send("GET /sub?cname=a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let answer = client.answer();
        assert_eq!(answer.body, object("next_seq", "a", 22, "") + "\n");
        client.expect_end();
    });
}

#[test]
fn requests_behind_a_waiting_poll_wait_their_turn() {
    everywhere(&open(), |site| {
        let mut client = site.front();
        let polls: String = (1..=3).map(|seq| get(&format!("/sub?cname=a&seq={seq}"))).collect();
        client.send(polls + &get("/ping") + &get("/sub?cname=a"));
        for seq in 1..=3 {
            let mut listener = client.listen();
            site.wait_for_subscribers("a", 1);
            assert!(listener.is_silent());
            site.push("a", "x");
            // It may have been the one before that was still counted: then this one came too late
            // for a live message, and gets an array.
            let line = listener.line();
            assert_eq!(line.trim_matches(['[', ']']), object("data", "a", seq, "x"));
            client = listener.finished();
        }
        assert!(client.answer().body.starts_with("icomet_cb("));
        assert_eq!(client.answer().body, object("next_seq", "a", 4, "") + "\n");
    });
}

#[test]
fn the_rules_of_a_subscription() {
    everywhere(&open(), |site| {
        // An unknown channel is made.
        assert_eq!(site.poll("cname=a"), object("next_seq", "a", 1, "") + "\n");
        assert!(site.exists("a"));
        // 0, nothing and what is no number ask where the channel is; so does a number ahead.
        for (seq, content) in [(1, "one"), (2, "two"), (3, "three")] {
            site.push("a", content);
            assert!(site.exists("a"), "{seq}");
        }
        let next = object("next_seq", "a", 4, "") + "\n";
        for query in
            ["cname=a", "cname=a&seq=0", "cname=a&seq=abc", "cname=a&seq=5", "CNAME=a&Seq="]
        {
            assert_eq!(site.poll(query), next, "{query}");
        }
        let [one, two, three] = [(1, "one"), (2, "two"), (3, "three")]
            .map(|(seq, text)| object("data", "a", seq, text));
        for (query, messages) in [
            ("cname=a&seq=3", format!("[{three}]")),
            ("cname=a&seq=2x", format!("[{two},{three}]")),
            ("cname=a&seq=+2", format!("[{two},{three}]")),
            ("cname=a&seq=1", format!("[{one},{two},{three}]")),
            ("cname=a&seq=-1", format!("[{one},{two},{three}]")),
            ("cname=a&seq=1&seq=3", format!("[{one},{two},{three}]")),
        ] {
            assert_eq!(site.poll(query), messages + "\n", "{query}");
        }
        // A stream gets them one by one and goes on; the first object is no array.
        let mut stream = site.attend("/stream", "a", 2);
        assert_eq!([stream.line(), stream.line()], [two, three]);
        let mut ahead = site.attend("/stream", "a", 9);
        assert_eq!(ahead.line(), object("next_seq", "a", 4, ""));
        // The next number waits, and gets an object, not an array.
        let mut poll = site.attend("/poll", "a", 4);
        assert!(poll.is_silent() && stream.is_silent() && ahead.is_silent());
        site.push("a", "four");
        let four = object("data", "a", 4, "four");
        assert_eq!([poll.line(), stream.line(), ahead.line()], [&*four; 3]);
        poll.finished();
        site.wait_for_subscribers("a", 2);
        // Nothing is buffered of what was cleared: one waits as if there had been nothing.
        assert_eq!(site.tell("/clear?cname=a"), "ok 5\n");
        let mut poll = site.attend("/poll", "a", 1);
        assert!(poll.is_silent());
        site.push("a", "five");
        assert_eq!(poll.line(), object("data", "a", 5, "five"));
        assert_eq!(site.poll("cname=a&seq=1"), format!("[{}]\n", object("data", "a", 5, "five")));
    });
}

#[test]
fn a_broadcast_has_a_number_in_every_channel_and_tells_the_next_one() {
    everywhere(&open(), |site| {
        let names: Vec<String> = (0..20).map(|at| format!("channel {at}")).collect();
        let mut polls = Vec::new();
        let mut streams = Vec::new();
        for (at, name) in names.iter().enumerate() {
            // Each has a number of its own, and some have nobody who listens.
            (0..at).for_each(|_| site.push(name, "x"));
            site.poll(&format!("cname={}", encoded(name)));
            let next = at as i64 + 1;
            if at % 2 == 0 {
                polls.push((next, name, site.attend("/sub", name, next)));
                streams.push((next, name, site.attend("/stream", name, next)));
            }
        }
        assert_eq!(site.tell("/broadcast?content=hello%0A&cname=ignored"), "ok\n");
        let pair = |next, name: &str| {
            (object("broadcast", name, next, r"hello\n"), object("next_seq", name, next + 1, ""))
        };
        for (next, name, mut poll) in polls {
            let (broadcast, after) = pair(next, name);
            assert_eq!(poll.line(), format!("[{broadcast},{after}]"));
            poll.finished();
        }
        for (next, name, stream) in &mut streams {
            let (broadcast, after) = pair(*next, name);
            assert_eq!((stream.line(), stream.line()), (broadcast, after));
        }
        // When it is answered all channels have it, so what is pushed then comes after it.
        for (at, name) in names.iter().enumerate() {
            site.push(name, "then");
            let next = at as i64 + 1;
            let (broadcast, after) = pair(next, name);
            let then = object("data", name, next + 1, "then");
            let missed = site.poll(&format!("cname={}&seq={next}", encoded(name)));
            assert_eq!(missed, format!("[{broadcast},{after},{then}]\n"));
        }
        assert!(!site.exists("ignored"));
    });
}

#[test]
fn what_is_pushed_after_a_broadcast_was_answered_comes_after_it() {
    everywhere(&open(), |site| {
        // Far more channels than are looked at in one go.
        let names: Vec<String> = (0..20_000).map(|at| format!("{at}")).collect();
        let mut client = site.admin();
        for names in names.chunks(200) {
            let pushes = names.iter().map(|name| get(&format!("/push?cname={name}&content=x")));
            client.send(pushes.collect::<String>());
            names.iter().for_each(|_| assert_eq!(client.answer().body, OK));
        }
        assert_eq!(client.get("/broadcast?content=b").body, "ok\n");
        // The last that is reached is pushed to first.
        for name in names.iter().rev().take(10).chain(&names[..10]) {
            assert_eq!(client.get(&format!("/push?cname={name}&content=then")).body, OK);
            let broadcast = object("broadcast", name, 2, "b");
            let (after, then) = (object("next_seq", name, 3, ""), object("data", name, 3, "then"));
            let missed = site.poll(&format!("cname={name}&seq=2"));
            assert_eq!(missed, format!("[{broadcast},{after},{then}]\n"));
        }
    });
}

#[test]
fn closing_ends_what_listens_and_the_channel() {
    everywhere(&open(), |site| {
        site.push("a", "x");
        let mut listeners: Vec<_> =
            LISTENING.into_iter().map(|path| site.attend(path, "a", 2)).collect();
        assert_eq!(site.tell("/close?cname=a"), "ok 2\n");
        let close = object("close", "a", 2, "");
        for listener in &mut listeners {
            listener.text_until(&close);
            listener.text_until("\n");
        }
        for (path, mut listener) in LISTENING.into_iter().zip(listeners) {
            if path == "/sse" {
                listener.text_until("\n");
            }
            // All of them can be used again.
            assert_eq!(listener.finished().get("/ping").head.status, 200);
        }
        assert!(!site.exists("a"));
        assert_eq!(site.totals(), (0, 0));
        // Its number begins anew.
        site.push("a", "x");
        assert_eq!(site.poll("cname=a&seq=1"), format!("[{}]\n", object("data", "a", 1, "x")));
    });
}

#[test]
fn signing_gives_the_token_and_the_oldest_number() {
    everywhere(&open(), |site| {
        let signed = |seq, token: &str, expires: u32| {
            format!(
                "{{\"type\":\"sign\",\"cname\":\"a\",\"seq\":{seq},\"token\":\"{token}\",\
                 \"expires\":{expires},\"sub_timeout\":30}}"
            )
        };
        let token = sign(&site, "a");
        assert!(site.exists("a"));
        for (query, expires) in [
            ("", 30),
            ("&expires=0", 30),
            ("&expires=-5", 30),
            ("&expires=abc", 30),
            ("&expires=7", 7),
            ("&expires=9x", 9),
            ("&expires=99999999999999999999", 2_147_483_647),
        ] {
            let answer = site.tell(&format!("/sign?cname=a{query}"));
            assert_eq!(answer, signed(1, &token, expires) + "\n");
        }
        let answer = site.tell("/sign?cname=a&cb=f");
        assert_eq!(answer, format!("f({});\n", signed(1, &token, 30)));
        let posted = site.admin().ask(&post("/sign", "cname=a&expires=8"));
        assert_eq!(posted.body, signed(1, &token, 8) + "\n");
        // The number of the oldest message that is kept; of the next one if there is none.
        for (pushes, seq) in [(1, 1), (9, 1), (1, 2), (5, 7)] {
            (0..pushes).for_each(|_| site.push("a", "x"));
            assert_eq!(site.tell("/sign?cname=a"), signed(seq, &token, 30) + "\n");
        }
        site.tell("/clear?cname=a");
        assert_eq!(site.tell("/sign?cname=a"), signed(17, &token, 30) + "\n");
        site.tell("/close?cname=a");
        let other = site.tell("/sign?cname=a");
        assert_ne!(token_of(&other), token);
        assert_eq!(other, signed(1, &token_of(&other), 30) + "\n");
    });
}

#[test]
fn tokens_are_needed_where_they_are_and_refusals_have_status_200() {
    everywhere(&with_tokens(), |site| {
        let refused = object("401", "a", 0, "Token error");
        // A client that was refused may ask again on the same connection.
        let mut client = site.front();
        for query in ["cname=a", "cname=a&token=", "cname=a&token=x&seq=1"] {
            let answer = client.get(&format!("/sub?{query}"));
            assert_eq!((answer.head.status, answer.body), (200, refused.clone() + "\n"));
        }
        assert!(!site.exists("a"), "who is refused makes no channel");
        // A push makes one with a token that nobody knows yet.
        site.push("a", "x");
        assert_eq!(client.get("/sub?cname=a&token=").body, refused.clone() + "\n");
        let token = sign(&site, "a");
        let messages = format!("[{}]\n", object("data", "a", 1, "x"));
        assert_eq!(client.get(&format!("/sub?cname=a&seq=1&token={token}")).body, messages);
        assert_eq!(
            client.get(&format!("/sub?cname=a&token={token}x")).body,
            refused.clone() + "\n"
        );
        assert_eq!(
            client.get(&format!("/sub?cname=a&token={}", &token[1..])).body,
            refused.clone() + "\n"
        );
        assert_eq!(client.get("/sub?cname=a&cb=f").body, format!("f({refused});\n"));
        // Every way of listening is told so, and ends.
        for path in LISTENING {
            let mut listener = site.listen(&format!("{path}?cname=a&token=wrong"));
            listener.text_until(&refused);
            listener.text_until("\n");
            if path == "/sse" {
                listener.text_until("\n");
            }
            assert_eq!(listener.finished().get("/ping").head.status, 200);
        }
        // Another life has another token.
        site.tell("/close?cname=a");
        let other = sign(&site, "a");
        assert_eq!(client.get(&format!("/sub?cname=a&token={token}")).body, refused + "\n");
        let next = object("next_seq", "a", 1, "") + "\n";
        assert_eq!(client.get(&format!("/sub?cname=a&token={other}")).body, next);
        // Another channel's is none.
        site.push("b", "x");
        let refused = object("401", "b", 0, "Token error") + "\n";
        assert_eq!(client.get(&format!("/sub?cname=b&token={other}")).body, refused);
        assert_eq!(site.totals().1, 0);
    });
}

#[test]
fn what_is_full_says_429() {
    let channel = ChannelSettings { subscribers_max: 2, ..ChannelSettings::default() };
    everywhere(&Settings { channels_max: 2, channel, ..open() }, |site| {
        let full = object("429", "a", 0, "Too many subscribers");
        let (one, _two) = (site.attend("/sse", "a", 1), site.attend("/sub", "a", 1));
        let mut client = site.front();
        assert_eq!(client.get("/sub?cname=a&seq=1").body, full.clone() + "\n");
        let mut stream = site.listen("/stream?cname=a");
        assert_eq!(stream.line(), full);
        stream.finished();
        site.push("b", "x");
        let full = object("429", "c", 0, "Too many channels");
        assert_eq!(client.get("/sub?cname=c").body, full.clone() + "\n");
        assert_eq!(client.get("/sub?cname=c&cb=f").body, format!("f({full});\n"));
        let mut admin = site.admin();
        for target in ["/push?cname=c", "/pub?cname=c", "/sign?cname=c", "/push?cname=c&cb=f"] {
            let answer = admin.get(target);
            assert_eq!((answer.head.status, &*answer.body), (429, ""), "{target}");
        }
        // Those that are there go on, and one that ends makes room.
        site.push("b", "y");
        assert_eq!(site.totals(), (2, 2));
        site.tell("/close?cname=b");
        site.push("c", "x");
        drop(one);
        site.wait_for_subscribers("a", 1);
        let next = object("next_seq", "a", 1, "") + "\n";
        assert_eq!(client.get("/sub?cname=a").body, next);
    });
}

#[test]
fn parameters_come_from_the_body_first() {
    everywhere(&open(), |site| {
        let mut admin = site.admin();
        let form = "cname=a&content=one+%2B+one";
        let typed = |fields: &str| {
            let length = form.len();
            format!(
                "POST /push?cname=b HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n{fields}\r\n{form}"
            )
        };
        let chunked = "POST /push HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
             7\r\ncname=a\r\n9\r\n&content=\r\n1\r\nx\r\n0\r\n\r\n";
        for (seq, request, content) in [
            (1, typed(""), "one + one"),
            (2, typed("Content-Type: application/x-www-form-urlencoded\r\n"), "one + one"),
            (3, typed("Content-Type: text/plain\r\n"), "one + one"),
            (4, typed("Content-Type: application/octet-stream\r\n"), "one + one"),
            (5, post("/push?content=query&cname=b", "cname=a"), "query"),
            (6, post("/push?cname=a&content=query", ""), "query"),
            (7, post("/push?content=query", "content=body&cname=a&content=second"), "body"),
            (8, chunked.to_owned(), "x"),
            (9, get("/push?cName=a&CONTENT=a+b%20c"), "a b c"),
            (10, get("/%70ush?cname=a&content=x"), "x"),
            (11, get("http://a/push?cname=a&content=x"), "x"),
        ] {
            assert_eq!(admin.ask(&request).body, OK, "{request}");
            let messages = format!("[{}]\n", object("data", "a", seq, content));
            assert_eq!(site.poll(&format!("cname=a&seq={seq}")), messages, "{request}");
        }
        assert!(!site.exists("b"));
        // Who asks first is told to go on.
        admin.send(
            "POST /push HTTP/1.1\r\nHost: a\r\nContent-Length: 17\r\nExpect: 100-continue\r\n\r\n",
        );
        assert_eq!(admin.until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
        admin.send("cname=a&content=x");
        assert_eq!(admin.answer().body, OK);
        assert_eq!(site.poll("cname=a&seq=12"), format!("[{}]\n", object("data", "a", 12, "x")));
    });
}

#[test]
fn what_is_kept_is_bounded() {
    let channel = ChannelSettings { history_messages_max: 3, ..ChannelSettings::default() };
    everywhere(&Settings { channel, ..open() }, |site| {
        for seq in 1..=10 {
            site.push("a", "x");
            let first = (seq - 2).max(1);
            let kept = (first..=seq).map(|seq| object("data", "a", seq, "x")).collect::<Vec<_>>();
            assert_eq!(site.poll("cname=a&seq=1"), format!("[{}]\n", kept.join(",")));
        }
    });
}

#[test]
fn the_content_of_pub_is_json_already() {
    everywhere(&open(), |site| {
        for (seq, content, json) in [
            (1, r#"{\"a\":\"b\"}"#, r#"{\"a\":\"b\"}"#),
            (2, r"tab\tline\nend\u00e9", r"tab\tline\nend\u00e9"),
            (3, "plain", "plain"),
        ] {
            site.tell(&format!("/pub?cname=a&content={}", encoded(content)));
            let messages = format!("[{}]\n", object("data", "a", seq, json));
            assert_eq!(site.poll(&format!("cname=a&seq={seq}")), messages);
        }
        // What is pushed is text.
        site.push("a", "\"quoted\" \\ \n");
        let messages = format!("[{}]\n", object("data", "a", 4, r#"\"quoted\" \\ \n"#));
        assert_eq!(site.poll("cname=a&seq=4"), messages);
    });
}

#[test]
fn much_may_be_published_in_a_target() {
    everywhere(&open(), |site| {
        for (seq, length) in [(1, 10_000), (2, 300_000), (3, 1_000_000)] {
            let content = "x".repeat(length);
            // Not by `push`, which encodes each letter.
            assert_eq!(site.tell(&format!("/push?cname=a&content={content}")), OK);
            let messages = format!("[{}]\n", object("data", "a", seq, &content));
            assert_eq!(site.poll(&format!("cname=a&seq={seq}")), messages);
        }
        let answer = site.admin().get(&format!("/push?cname=a&content={}", "x".repeat(1 << 20)));
        assert_eq!(answer.head.status, 414);
    });
}
