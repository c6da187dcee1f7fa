//! Where icomet is wrong, each with what is done instead. Some of its wrongs have their tests
//! elsewhere: what is not read is bounded in `icomet_crowds.rs`, promptness is in `icomet_life.rs`;
//! connections, heads and time limits are the engine's.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

mod support;

use eserver::{AllowList, Server};
use eserver_comet::{Auth, ChannelSettings, Comet, Settings};
use serde_json::Value;
use support::{Client, PATIENCE, Response, Site, encoded, everywhere, get, object, post, request};

const OK: &str = "{\"type\":\"ok\"}\n";

/// Text that icomet does not escape, or breaks other ways.
const ODD: &str = "\0\u{1}\t\u{8}\u{b}\u{c}\r\n\u{1b}\u{7f}\"\\/</script>é€😀\u{2028}\u{2029}&=+%";

/// The objects of a poll's answer.
fn objects(body: &str) -> Vec<Value> {
    match serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}")) {
        Value::Array(objects) => objects,
        object => vec![object],
    }
}

#[test]
fn what_is_sent_is_json_whatever_was_pushed() {
    everywhere(&Settings::default(), |site| {
        for path in ["/push", "/pub"] {
            let channel = format!("{path}{ODD}");
            let name = encoded(&channel);
            let mut stream = site.attend("/stream", &channel, 1);
            let mut events = site.attend("/sse", &channel, 1);
            let mut page = site.attend("/iframe", &channel, 1);
            let form = format!("cname={name}&content={}", encoded(ODD));
            assert_eq!(site.admin().ask(&post(path, &form)).body, OK);
            let said = |object: &Value| {
                assert_eq!(object["cname"], *channel);
                assert_eq!(object["content"], *ODD);
                assert_eq!(object["seq"], 1);
            };
            let missed = objects(&site.poll(&format!("cname={name}&seq=1")));
            assert_eq!(missed.len(), 1);
            said(&missed[0]);
            // Each is one line, one event, one script.
            said(&objects(&stream.line())[0]);
            let event = events.text_until("\n\n");
            let lines: Vec<_> = event.trim_end().lines().collect();
            assert_eq!(lines.len(), 1, "{lines:?}");
            said(&objects(lines[0].strip_prefix("data: ").unwrap())[0]);
            (0..4).for_each(|_| drop(page.text_until("-->\n")));
            let script = page.text_until("</script>\n");
            let json = script.strip_prefix("<script>parent.icomet_cb(").unwrap();
            said(&objects(json.strip_suffix(");</script>\n").unwrap())[0]);
            assert!([&mut stream, &mut events, &mut page].iter_mut().all(|one| one.is_silent()));
        }
        // Names stand in other answers, too.
        let name = encoded(ODD);
        for target in ["/sign", "/info"] {
            let answer = site.tell(&format!("{target}?cname={name}"));
            assert_eq!(objects(&answer)[0]["cname"], *ODD);
        }
        let answer = site.tell(&format!("/check?cname={name}"));
        assert_eq!(objects(&answer)[0][ODD], 1);
        // What is no text becomes one.
        site.tell("/push?cname=a&content=%ff%c3");
        let missed = objects(&site.poll("cname=a&seq=1"));
        assert_eq!(missed[0]["content"], "\u{fffd}\u{fffd}");
    });
}

#[test]
fn one_odd_parameter_does_not_void_the_others() {
    everywhere(&Settings::default(), |site| {
        let mut admin = site.admin();
        for (seq, query) in (1..).zip([
            "cname=a&content=x&foo",
            "&cname=a&&content=x&",
            "cname=a&content=x&bad=%zz",
            "cname=a&content=x&=",
            "foo&cname=a&content=x&other={\"a\":1}",
        ]) {
            assert_eq!(admin.get(&format!("/push?{query}")).body, OK);
            let missed = site.poll(&format!("foo&&bad=%zz&cname=a&seq={seq}&"));
            assert_eq!(missed, format!("[{}]\n", object("data", "a", seq, "x")), "{query}");
        }
        // JSON in a query, as it is.
        let json = r#"{"a":"b"}"#;
        assert_eq!(admin.get(&format!("/push?cname=a&content={json}")).body, OK);
        assert_eq!(objects(&site.poll("cname=a&seq=6"))[0]["content"], json);
        assert_eq!(admin.get("/push?cname=a&content=100%").body, OK);
        assert_eq!(objects(&site.poll("cname=a&seq=7"))[0]["content"], "100%");
        // What cannot be understood is refused, not pushed to the channel without a name.
        let typed = |media_type: &str, body: &str| {
            let length = body.len();
            format!(
                "POST /push HTTP/1.1\r\nHost: a\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\n\r\n{body}"
            )
        };
        for (request, status) in [
            (get("/push"), 400),
            (get("/push?content=x"), 400),
            (post("/push", "content=x"), 400),
            (typed("application/json", "{\"cname\":"), 400),
            (typed("application/json", "[]"), 400),
            (typed("multipart/form-data; boundary=b", "--b"), 415),
        ] {
            let Response { head, body } = admin.ask(&request);
            assert_eq!(head.status, status, "{request}: {body}");
            assert!(body.ends_with('\n') && body.len() > 10, "{body:?} says what is wrong");
        }
        let json = typed("application/json", "{\"cname\":\"a\",\"content\":\"x\",\"cb\":\"f\"}");
        assert_eq!(admin.ask(&json).body, "f({\"type\":\"ok\"});\n");
        assert_eq!(site.poll("cname=a&seq=8"), format!("[{}]\n", object("data", "a", 8, "x")));
        assert!(!site.exists(""));
    });
}

#[test]
fn bytes_that_no_url_has_are_refused() {
    everywhere(&Settings::default(), |site| {
        for target in ["/push?cname=a&content=\u{e9}", "/push?cname=a&content=x#y"] {
            let mut admin = site.admin();
            assert_eq!(admin.get(target).head.status, 400);
            admin.expect_end();
        }
        assert_eq!(site.totals(), (0, 0));
    });
}

#[test]
fn what_a_browser_is_to_run_is_called_so_and_nothing_else_is() {
    everywhere(&Settings::default(), |site| {
        let script = Some("text/javascript; charset=utf-8");
        let json = Some("application/json; charset=utf-8");
        for (address, target, media_type) in [
            (site.front, "/sub?cname=a", json),
            (site.front, "/sub?cname=a&cb=f", script),
            (site.front, "/ping", script),
            (site.admin, "/push?cname=a&cb=f", script),
            (site.admin, "/push?cname=a", json),
            (site.admin, "/sign?cname=a", json),
            (site.admin, "/sign?cname=a&cb=f", script),
        ] {
            let head = Client::connect(address).get(target).head;
            assert_eq!(head.field("Content-Type"), media_type, "{target}");
        }
        let (mut front, mut admin) = (site.front(), site.admin());
        let page = site.listen("/iframe?cname=a");
        assert_eq!(page.head.field("Content-Type"), Some("text/html; charset=utf-8"));
        assert_eq!(page.head.field("X-Content-Type-Options"), Some("nosniff"));
        // A name of a function, and no script.
        for callback in ["alert(1)//", "<script>", "f;g", "1f", "f(", "a b", "\u{e9}"] {
            let callback = encoded(callback);
            for target in ["/sub?cname=a&cb=", "/ping?cb="] {
                let answer = front.get(&format!("{target}{callback}"));
                assert_eq!(answer.head.status, 400);
                assert_eq!(answer.head.field("Content-Type"), Some("text/plain; charset=utf-8"));
            }
            for target in ["/push?cname=never&cb=", "/sign?cname=never&cb="] {
                assert_eq!(admin.get(&format!("{target}{callback}")).head.status, 400);
            }
        }
        assert!(!site.exists("never"), "what is refused does nothing");
        for callback in ["f", "jQuery19_1400", "a.b.c", "_", "$", "icomet_cb_1", "a[0].b"] {
            let answer = front.get(&format!("/ping?cb={}", encoded(callback)));
            assert!(answer.body.starts_with(&format!("{callback}({{")), "{}", answer.body);
        }
    });
}

#[test]
fn the_answer_to_head_has_no_body_and_the_connection_goes_on() {
    everywhere(&Settings::default(), |site| {
        site.push("a", "x");
        let mut admin = site.admin();
        for target in
            ["/info", "/info?cname=a", "/check?cname=a", "/sign?cname=a", "/clear?cname=a"]
        {
            admin.send(request("HEAD", target) + &get("/check?cname=none"));
            let head = admin.answer_to("HEAD").head;
            assert_eq!(head.status, 200, "{target}");
            let length: usize = head.field("Content-Length").unwrap().parse().unwrap();
            assert!(length > 0);
            assert_eq!(admin.answer().body, "{}\n");
        }
        // One that would have no end has one.
        admin.send(request("HEAD", "/psub") + &get("/check?cname=none"));
        assert_eq!(admin.answer_to("HEAD").head.status, 200);
        assert_eq!(admin.answer().body, "{}\n");
    });
}

#[test]
fn several_may_be_allowed_and_prefixes_are_of_bits() {
    for (allowed, is_let_in) in [
        (&["127.0.0.1"][..], true),
        (&["127.0.0.1", "127.0.0.10"], true),
        (&["127.0.0.10", "127.0.0.1"], true),
        (&["127.0.0.0/8", "127.0.0.2"], true),
        (&["127.0.0.10"], false),
        (&["12.0.0.0/8"], false),
        (&[], false),
    ] {
        let comet = Comet::new(Settings::default(), None).unwrap();
        let allowed_list = AllowList::try_from(allowed).unwrap();
        let server = Server::new().shards(1).listen("127.0.0.1:0", allowed_list, comet.admin());
        let running = server.unwrap().start().unwrap();
        let mut client = Client::connect(running.addresses().next().unwrap());
        if is_let_in {
            assert_eq!(client.get("/check?cname=a").body, "{}\n", "{allowed:?}");
        } else {
            client.send(get("/check?cname=a"));
            assert_eq!(client.expect_cut(), 0, "{allowed:?}");
        }
        drop(running);
    }
}

#[test]
fn it_listens_on_ipv6() {
    let comet = Comet::new(Settings::default(), None).unwrap();
    let server = Server::new().shards(1).listen("[::1]:0", AllowList::loopback(), comet.front());
    let running = match server.unwrap().start() {
        Ok(running) => running,
        Err(error) => return println!("this machine has no IPv6: {error}"),
    };
    let mut client = Client::connect(running.addresses().next().unwrap());
    assert!(client.get("/ping").body.starts_with("icomet_cb("));
}

#[test]
fn the_seq_of_a_signature_knows_how_much_is_kept() {
    for kept in [0, 3, 50] {
        let channel = ChannelSettings { history_messages_max: kept, ..ChannelSettings::default() };
        everywhere(&Settings { channel, ..Settings::default() }, |site| {
            (0..60).for_each(|_| site.push("a", "x"));
            let signed: Value = serde_json::from_str(&site.tell("/sign?cname=a")).unwrap();
            assert_eq!(signed["seq"], 61 - kept);
            // Who begins there gets all that is kept.
            if kept > 0 {
                let query = format!("cname=a&seq={}", signed["seq"]);
                assert_eq!(objects(&site.poll(&query)).len(), kept);
            }
        });
    }
}

#[test]
fn a_restart_and_a_new_life_can_be_told_from_what_was() {
    let settings = Settings::default();
    let cursor_of = |site: &Site| {
        let answer = site.front().get("/v1/poll?channel=a");
        let cursor = &objects(&answer.body)[0]["cursor"];
        cursor.as_str().unwrap_or_else(|| panic!("{}", answer.body)).to_owned()
    };
    let is_reset = |site: &Site, cursor: &str| {
        let answer = site.front().get(&format!("/v1/poll?channel=a&cursor={cursor}"));
        answer.body.contains("\"type\":\"reset\"")
    };
    let site = Site::start(1, &settings);
    site.push("a", "x");
    let before = cursor_of(&site);
    site.tell("/close?cname=a");
    site.push("a", "x");
    assert!(is_reset(&site, &before));
    let before = cursor_of(&site);
    drop(site);
    let site = Site::start(1, &settings);
    site.push("a", "x");
    assert!(is_reset(&site, &before));
}

#[test]
fn tokens_cannot_be_guessed() {
    let settings = Settings { auth: Auth::Token, ..Settings::default() };
    let token_of = |site: &Site, channel: &str| {
        let signed: Value =
            serde_json::from_str(&site.tell(&format!("/sign?cname={channel}"))).unwrap();
        signed["token"].as_str().unwrap().to_owned()
    };
    let (one, other) = (Site::start(1, &settings), Site::start(1, &settings));
    let tokens =
        [token_of(&one, "a"), token_of(&one, "b"), token_of(&other, "a"), token_of(&other, "b")];
    for (at, token) in tokens.iter().enumerate() {
        assert!(
            token.len() >= 20
                && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)),
            "{token}"
        );
        assert!(!tokens[..at].contains(token));
    }
}

#[test]
fn requests_in_a_row_are_not_held_up() {
    everywhere(&Settings::default(), |site| {
        let mut admin = site.admin();
        for _ in 0..100 {
            admin.send(get("/push?cname=a&content=x").repeat(4));
            let before = std::time::Instant::now();
            (0..4).for_each(|_| assert_eq!(admin.answer().body, OK));
            assert!(before.elapsed() < PATIENCE);
        }
        assert_eq!(site.tell("/clear?cname=a"), "ok 401\n");
    });
}

#[test]
fn what_is_too_long_is_refused() {
    let settings = Settings { message_bytes_max: 1000, ..Settings::default() };
    everywhere(&settings, |site| {
        let content = "x".repeat(2000);
        let mut admin = site.admin();
        for request in [
            get(&format!("/push?cname=a&content={content}")),
            get(&format!("/pub?cname=a&content={content}")),
            get(&format!("/broadcast?content={content}")),
            post("/push", &format!("cname=a&content={content}")),
        ] {
            let answer = admin.ask(&request);
            assert_eq!(answer.head.status, 413, "{request}");
            assert!(answer.body.contains("1000 bytes"), "{}", answer.body);
        }
        let name = "x".repeat(256);
        for target in ["/push", "/pub", "/sign", "/close", "/clear", "/info", "/check"] {
            assert_eq!(admin.get(&format!("{target}?cname={name}")).head.status, 400);
        }
        assert_eq!(site.front().get(&format!("/sub?cname={name}")).head.status, 400);
        assert_eq!(site.totals(), (0, 0));
        // A body that no content could be that long.
        let answer = admin.ask(&post("/push", &"x".repeat(100_000)));
        assert_eq!(answer.head.status, 413);
    });
}

#[test]
fn a_page_of_any_origin_may_listen() {
    everywhere(&Settings::default(), |site| {
        let mut front = site.front();
        for path in ["/sub", "/poll", "/stream", "/sse", "/iframe", "/ping", "/elsewhere"] {
            let preflight = format!(
                "OPTIONS {path}?cname=a HTTP/1.1\r\nHost: a\r\nOrigin: http://b\r\n\
                 Access-Control-Request-Method: GET\r\n\
                 Access-Control-Request-Headers: last-event-id\r\n\r\n"
            );
            let head = front.ask(&preflight).head;
            assert_eq!(head.status, 204);
            assert_eq!(head.field("Access-Control-Allow-Origin"), Some("*"));
            assert!(head.field("Access-Control-Allow-Methods").unwrap().contains("GET"));
            assert!(head.field("Access-Control-Allow-Headers").unwrap().contains("Last-Event-ID"));
        }
        for path in ["/sub", "/poll", "/stream", "/sse", "/iframe"] {
            let listener = site.listen(&format!("{path}?cname=a"));
            assert_eq!(listener.head.field("Access-Control-Allow-Origin"), Some("*"));
        }
    });
}

#[test]
fn a_bare_line_feed_ends_no_line_of_a_head() {
    let site = Site::start(1, &Settings::default());
    let mut admin = site.admin();
    admin.send("GET /push?cname=a HTTP/1.1\nHost: a\n\n");
    assert_eq!(admin.answer().head.status, 400);
    admin.expect_end();
    assert!(!site.exists("a"));
}
