//! The client for browsers and the description of the API, as they are served; and what the client
//! needs of cursors.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

mod support;

use eserver_comet::{ChannelSettings, Settings};
use serde_json::{Value, json};
use support::{Client, Site, encoded, everywhere, get, request};

fn json(client: &mut Client, target: &str) -> Value {
    let answer = client.get(target);
    assert_eq!(answer.head.status, 200, "{target}: {}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

#[test]
fn the_client_is_served_to_any_page() {
    let site = Site::start(1, &Settings::default());
    let answer = site.front().get("/eserver.js");
    assert_eq!(answer.head.status, 200);
    assert_eq!(answer.head.field("content-type"), Some("text/javascript; charset=utf-8"));
    assert_eq!(answer.head.field("access-control-allow-origin"), Some("*"));
    assert_eq!(answer.head.field("cache-control"), Some("max-age=3600"));
    assert!(answer.body.contains("export function connect"));
    assert!(answer.body.len() < 12_000, "{} bytes", answer.body.len());
    assert_eq!(site.front().ask(&request("HEAD", "/eserver.js")).body, "");
    assert_eq!(site.front().ask(&request("POST", "/eserver.js")).head.status, 405);
}

#[test]
fn what_is_described_is_there_and_the_other_way_round() {
    let site = Site::start(1, &Settings::default());
    let described = json(&mut site.front(), "/openapi.json");
    assert_eq!(described, json(&mut site.admin(), "/openapi.json"));
    assert_eq!(described["openapi"], "3.1.0");
    site.push("news", "one");
    for (path, item) in described["paths"].as_object().unwrap() {
        let is_public = !path.starts_with("/v1/")
            || ["events", "poll", "stream", "socket"].iter().any(|end| path.ends_with(end));
        for method in ["get", "post", "delete"] {
            let target = path.replace("{name}", "news");
            let mut client = if is_public { site.front() } else { site.admin() };
            // Malformed, so that nothing goes on without end; a path or method that is not there is
            // seen before that.
            let request = match method {
                "get" if path == "/v1/presence" => request("HEAD", &target),
                "post" => {
                    format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n\u{1}")
                }
                _ => request(&method.to_uppercase(), &target),
            };
            let method_is_there = item.get(method).is_some();
            if method == "delete" && method_is_there {
                continue; // It is there, and would take the channel away.
            }
            client.send(&request);
            let verb = request.split(' ').next().unwrap().to_owned();
            let status = client.answer_to(&verb).head.status;
            if method_is_there {
                assert!(![404, 405].contains(&status), "{method} {path}: {status}");
            } else {
                assert!([404, 405].contains(&status), "{method} {path}: {status}");
            }
        }
    }
}

#[test]
fn who_listened_to_one_channel_goes_on_with_more() {
    everywhere(&Settings::default(), |site| {
        site.push("a", "1");
        site.push("b", "1");
        let mut client = site.front();
        let cursor = json(&mut client, "/v1/poll?channel=a")["cursor"].as_str().unwrap().to_owned();
        site.push("a", "2");
        site.push("b", "2");
        let cursor = encoded(&cursor);
        let heard = |client: &mut Client, query: &str| {
            let answer = json(client, &format!("/v1/poll?{query}"));
            let of = |message: &Value| (message["channel"].clone(), message["data"].clone());
            let mut heard: Vec<_> = answer["messages"]
                .as_array()
                .unwrap()
                .iter()
                .map(of)
                .map(|(c, d)| json!([c, d]))
                .collect();
            heard.sort_by_key(ToString::to_string);
            (heard, answer["cursor"].as_str().unwrap().to_owned())
        };
        let (told, cursor) = heard(&mut client, &format!("channel=a&channel=b&cursor={cursor}"));
        assert_eq!(told, [json!(["a", "2"])], "of the other, what comes");
        site.push("b", "3");
        let (told, _) = heard(&mut client, &format!("channel=b&channel=c&cursor={cursor}"));
        assert_eq!(told, [json!(["b", "3"])], "and with fewer, and others");
        client.send(get("/v1/poll?channel=a&cursor=nonsense%20"));
        assert_eq!(client.answer().head.status, 400);
    });
}

#[test]
fn who_watches_gets_signs_of_life() {
    let channel = ChannelSettings { poll_timeout_s: 1, ..ChannelSettings::default() };
    everywhere(&Settings { channel, ..Settings::default() }, |site| {
        let mut client = site.admin();
        client.send(get("/v1/presence"));
        assert_eq!(client.head().status, 200);
        assert!(client.chunk().unwrap().starts_with(": "));
        for _ in 0..2 {
            assert_eq!(client.chunk().unwrap(), ":\n\n");
        }
        site.push("a", "1");
        let happened = client.chunk().unwrap();
        assert_eq!(happened, "event: created\ndata: {\"type\":\"created\",\"channel\":\"a\"}\n\n");
    });
    let site = Site::start(1, &Settings::default());
    let answer = site.front().get("/v1/none");
    assert_eq!(answer.head.status, 404);
    let error: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(error["error"]["code"], "unknown_path");
}
