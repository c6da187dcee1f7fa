//! The hostile and odd HTTP of the codec's tests, as a server with a few fixed answers sees it.

#![allow(dead_code, reason = "the corpus serves other tests too")]

#[path = "../../../../engine/eserver-wire/tests/corpus/http.rs"]
mod http;

use http::End;

use super::server::Setup;

/// What answers `/smuggled`.
pub(crate) const SMUGGLED_BODY: &str = "this must not be answered\n";

/// What answers `/after`.
pub(crate) const AFTER_BODY: &str = "and so it goes on\n";

/// What answers `/probe`, which no case asks for.
pub(crate) const PROBE_BODY: &str = "for who comes next\n";

/// The methods that fixed answers are for.
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

/// Something a client sends, and what it gets.
pub(crate) struct Case {
    pub(crate) name: String,
    /// All that the client sends; behind what is refused or ends the connection a request for
    /// `/smuggled`, behind what leaves it open one for `/after`.
    pub(crate) input: Vec<u8>,
    /// The methods of the requests that are answered, with the statuses.
    pub(crate) answers: Vec<(String, u16)>,
    /// The status of the refusal at the end, if there is one.
    pub(crate) refusal: Option<u16>,
    /// Whether the server ends the connection although the client has not.
    pub(crate) is_ended: bool,
}

/// The server that the cases are for: one shard, so that its access log has an order.
pub(crate) fn setup() -> Setup {
    let mut text =
        "shards = 1\n[http]\nlisten = \"127.0.0.1:0\"\naccess_log_one_in = 1\n".to_owned();
    for path in ["/", "/a", "/b", "/c", "/after", "/probe", "/smuggled"] {
        let body = match path {
            "/after" => AFTER_BODY,
            "/probe" => PROBE_BODY,
            "/smuggled" => SMUGGLED_BODY,
            path => path,
        };
        text.push_str(&format!("[[http.respond]]\npath = {path:?}\nbody = {body:?}\n"));
    }
    Setup::new().text(text)
}

/// All cases of the corpus.
pub(crate) fn cases() -> Vec<Case> {
    http::cases().into_iter().map(Case::of).collect()
}

impl Case {
    fn of(case: http::Case) -> Self {
        let mut answers: Vec<(String, u16)> =
            case.requests.iter().map(|request| answer_to(request)).collect();
        let mut input = case.input;
        match case.end {
            End::Open => {
                input.extend_from_slice(http::AFTER);
                answers.push(("GET".to_owned(), 200));
            }
            End::Closes | End::Refused(_) => input.extend_from_slice(http::SMUGGLED),
            End::Waits => {}
        }
        let refusal = match case.end {
            End::Refused(status) => Some(status),
            End::Waits if is_too_long(&case.name) => Some(413),
            _ => None,
        };
        let is_ended = refusal.is_some() || matches!(case.end, End::Closes);
        Case { name: case.name, input, answers, refusal, is_ended }
    }
}

/// Whether a body is announced that is longer than what a fixed answer takes.
fn is_too_long(name: &str) -> bool {
    ["999999999", "18446744073709551615", "ffffffffffffffff"]
        .iter()
        .any(|length| name.contains(length))
}

/// The method, and the status that a request has here; it is written as `METHOD target body`.
fn answer_to(request: &str) -> (String, u16) {
    let mut words = request.split(' ');
    let method = words.next().expect("a request begins with its method");
    let target = words.next().expect("a target follows");
    let path = target.split('?').next().expect("a path begins the target");
    let status = match (method, path) {
        ("OPTIONS", _) => 204,
        (_, "/" | "/a" | "/b" | "/c" | "/after") if METHODS.contains(&method) => 200,
        (_, "/" | "/a" | "/b" | "/c" | "/after") => 405,
        _ => 404,
    };
    (method.to_owned(), status)
}
