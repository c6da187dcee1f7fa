//! Which web pages may use the public port: CORS, and WebSockets, which it does not hold for.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

mod support;

use eserver_comet::{Auth, Origins, Settings};
use serde_json::Value;
use support::{Client, Head, Site, everywhere};

const HOME: &str = "https://example.org";
const ALLOW: &str = "Access-Control-Allow-Origin";
const HANDSHAKE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";

fn of(origins: &[&str]) -> Settings {
    let origins = origins.iter().map(|origin| origin.parse().unwrap()).collect();
    Settings { origins: Origins::Of(origins), ..Settings::default() }
}

/// A request of a page of this origin, or of none if it is empty.
fn asked(line: &str, origin: &str, fields: &str) -> String {
    let origin = if origin.is_empty() { String::new() } else { format!("Origin: {origin}\r\n") };
    format!("{line} HTTP/1.1\r\nHost: a\r\n{origin}{fields}\r\n")
}

/// The head of what comes, however it goes on.
fn head(site: &Site, request: &str) -> Head {
    let mut client = site.front();
    client.send(request);
    client.head()
}

/// What a head says of origins.
#[track_caller]
fn check(head: &Head, allowed: Option<&str>, request: &str) {
    assert_eq!(head.field(ALLOW), allowed, "{request}");
    let is_listed = allowed != Some("*");
    assert_eq!(head.field("Vary"), is_listed.then_some("Origin"), "{request}");
}

/// Requests that are answered at once, each with its status.
const REQUESTS: &[(&str, u16)] = &[
    ("GET /sub?cname=a&seq=1", 200),
    ("GET /poll?cname=a&cb=f", 200),
    ("GET /stream?cname=a", 200),
    ("GET /sse?cname=a", 200),
    ("GET /iframe?cname=a", 200),
    ("GET /ping", 200),
    ("GET /sub?cname=a&cb=%3Cscript%3E", 400),
    ("POST /sub?cname=a", 405),
    ("GET /v1/poll?channel=a", 200),
    ("GET /v1/stream?channel=a", 200),
    ("GET /v1/events?channel=a", 200),
    ("GET /v1/events", 400),
    ("POST /v1/poll?channel=a", 405),
    ("GET /v1/socket", 426),
    ("POST /v1/socket", 405),
    ("GET /v1/nowhere", 404),
    ("GET /nowhere", 404),
    ("GET /%ff", 400),
    ("GET /eserver.js", 200),
    ("POST /eserver.js", 405),
    ("GET /openapi.json", 200),
];

#[test]
fn a_listed_origin_comes_back_and_others_are_not_told() {
    everywhere(&of(&["http://localhost:5173", HOME]), |site| {
        for (line, status) in REQUESTS {
            for (origin, allowed) in [
                (HOME, Some(HOME)),
                ("http://localhost:5173", Some("http://localhost:5173")),
                ("http://example.org", None),
                ("https://example.org.evil", None),
                ("https://EXAMPLE.org", None),
                ("null", None),
                ("*", None),
                ("", None),
            ] {
                let request = asked(line, origin, "");
                let head = head(&site, &request);
                assert_eq!(head.status, *status, "{request}");
                check(&head, allowed, &request);
            }
        }
    });
}

#[test]
fn without_a_list_all_pages_are_let_in() {
    let site = Site::start(1, &Settings::default());
    for (line, status) in REQUESTS {
        for origin in ["", HOME, "null"] {
            let request = asked(line, origin, "");
            let head = head(&site, &request);
            assert_eq!(head.status, *status, "{request}");
            check(&head, Some("*"), &request);
        }
    }
    let opening = asked("GET /v1/socket", HOME, HANDSHAKE);
    assert_eq!(head(&site, &opening).status, 101);
}

#[test]
fn a_page_that_asks_before_is_told_what_it_may_do() {
    everywhere(&of(&[HOME]), |site| {
        for path in ["/sub", "/stream", "/sse", "/v1/poll", "/v1/events", "/v1/socket", "/x"] {
            for (origin, is_in) in [(HOME, true), ("https://evil.example", false), ("", false)] {
                let fields = "Access-Control-Request-Method: GET\r\n\
                    Access-Control-Request-Headers: authorization\r\n";
                let request = asked(&format!("OPTIONS {path}?channel=a"), origin, fields);
                let head = head(&site, &request);
                assert_eq!(head.status, 204, "{request}");
                check(&head, is_in.then_some(HOME), &request);
                for name in ["Methods", "Headers"] {
                    let field = format!("Access-Control-Allow-{name}");
                    assert_eq!(head.field(&field).is_some(), is_in, "{request}");
                }
                assert_eq!(head.field("Access-Control-Max-Age").is_some(), is_in, "{request}");
            }
        }
    });
}

#[test]
fn a_poll_that_waits_is_answered_to_who_has_asked() {
    everywhere(&of(&[HOME]), |site| {
        let cursor = |site: &Site| {
            let answer: Value =
                serde_json::from_str(&site.front().get("/v1/poll?channel=a").body).unwrap();
            answer["cursor"].as_str().unwrap().to_owned()
        };
        let wait = |origin: &str| {
            let mut client = site.front();
            let line = format!("GET /v1/poll?channel=a&cursor={}", cursor(&site));
            client.send(asked(&line, origin, ""));
            client
        };
        let told = |mut client: Client, allowed: Option<&str>, whose: &str| {
            let answer = client.answer();
            assert!(answer.body.contains("\"data\":"), "{whose}: {}", answer.body);
            check(&answer.head, allowed, whose);
            client
        };
        let waiting = [HOME, "https://evil.example", ""].map(wait);
        site.wait_for_subscribers("a", 3);
        site.push("a", "one");
        let [page, stranger, program] = waiting;
        let page = told(page, Some(HOME), "a page");
        told(stranger, None, "a stranger");
        // On the same connection comes the next, which is no page's.
        let mut page = page;
        page.send(asked(&format!("GET /v1/poll?channel=a&cursor={}", cursor(&site)), "", ""));
        site.wait_for_subscribers("a", 1);
        site.push("a", "two");
        told(page, None, "no page");
        told(program, None, "a program");

        // A list that is changed counts for those that wait, too.
        let page = wait(HOME);
        site.wait_for_subscribers("a", 1);
        site.comet.reload(of(&["https://other.example"]));
        let other = asked("GET /ping", "https://other.example", "");
        support::eventually("the list is changed", || head(&site, &other).field(ALLOW).is_some());
        for _ in 0..10 * site.shards {
            // All shards have it.
            assert_eq!(head(&site, &other).status, 200);
        }
        site.push("a", "three");
        told(page, None, "a page that was taken off the list");
        site.comet.reload(Settings::default());
        support::eventually("there is none", || head(&site, &other).field("Vary").is_none());
    });
}

#[test]
fn a_foreign_page_opens_no_websocket() {
    everywhere(&of(&[HOME]), |site| {
        for (origin, status) in [
            (HOME, 101),
            ("", 101),
            ("https://evil.example", 403),
            ("http://example.org", 403),
            ("https://example.org:8443", 403),
            ("null", 403),
        ] {
            let request = asked("GET /v1/socket", origin, HANDSHAKE);
            let mut client = site.front();
            client.send(&request);
            if status == 101 {
                assert_eq!(client.head().status, 101, "{request}");
                continue;
            }
            let answer = client.answer();
            assert_eq!(answer.head.status, status, "{request}: {}", answer.body);
            check(&answer.head, None, &request);
            let error: Value = serde_json::from_str(&answer.body).unwrap();
            assert_eq!(error["error"]["code"], "foreign_origin", "{error}");
            assert!(error["error"]["message"].as_str().is_some_and(|why| why.contains("origin")));
        }
        // One that says two things, or something that is no text, is not let in by one of them.
        let twice = format!("Origin: https://evil.example\r\n{HANDSHAKE}");
        assert_eq!(head(&site, &asked("GET /v1/socket", HOME, &twice)).status, 403);
        let mut client = site.front();
        let request = asked("GET /v1/socket", "?", HANDSHAKE).into_bytes();
        let request: Vec<u8> =
            request.into_iter().map(|byte| if byte == b'?' { 0xff } else { byte }).collect();
        client.send(&request);
        assert_eq!(client.head().status, 403);
    });
    // Who it is comes before what its token is worth.
    let site = Site::start(1, &Settings { auth: Auth::Token, ..of(&[HOME]) });
    for (origin, status, allowed) in [("https://evil.example", 403, None), (HOME, 401, Some(HOME))]
    {
        let request = asked("GET /v1/socket?channel=a", origin, HANDSHAKE);
        let head = head(&site, &request);
        assert_eq!(head.status, status, "{request}");
        check(&head, allowed, &request);
    }
}

#[test]
fn no_page_at_all_may_be_let_in() {
    let site = Site::start(1, &of(&[]));
    for (origin, status) in [(HOME, 403), ("", 101)] {
        let request = asked("GET /v1/socket", origin, HANDSHAKE);
        assert_eq!(head(&site, &request).status, status);
    }
    check(&head(&site, &asked("GET /ping", HOME, "")), None, "no page");
}
