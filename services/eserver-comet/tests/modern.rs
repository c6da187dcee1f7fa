//! The modern API of the admin port: what is wrong is said in JSON.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

mod support;

use eserver_comet::Settings;
use serde_json::Value;
use support::{Site, everywhere, request};

#[test]
fn a_name_that_is_too_long_is_refused_alike_everywhere() {
    everywhere(&Settings::default(), |site: Site| {
        let name = "x".repeat(256);
        for (method, path) in [
            ("GET", format!("/v1/channels/{name}")),
            ("GET", format!("/v1/channels/{name}/history")),
            ("GET", format!("/v1/channels/{name}/members")),
            ("DELETE", format!("/v1/channels/{name}")),
            ("POST", format!("/v1/channels/{name}/messages")),
        ] {
            let answer = site.admin().ask(&request(method, &path));
            assert_eq!(answer.head.status, 400, "{method} {path}");
            let body: Value = serde_json::from_str(&answer.body).unwrap();
            assert_eq!(body["error"]["code"], "bad_channel", "{method} {path}");
        }
        // icomet's clients read no JSON there.
        let answer = site.admin().get(&format!("/close?cname={name}"));
        assert_eq!((answer.head.status, answer.body.starts_with('{')), (400, false));
    });
}
