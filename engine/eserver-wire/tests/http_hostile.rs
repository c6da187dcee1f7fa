//! Hostile and odd HTTP against the codec alone: whole, byte by byte, and cut at every index.

#[path = "corpus/http.rs"]
mod corpus;

use std::collections::HashSet;

use corpus::{AFTER, Case, End, SMUGGLED, cases, seen};
use eserver_wire::http::{BadRequest, Body, BodyDecoder, Date, Head, HeadLimits, ResponseHead};

/// A connection of a server that answers every request, up to the bytes in between.
#[derive(Default)]
struct Connection {
    /// What came and is not used yet: never a part of a body.
    kept: Vec<u8>,
    /// How much of it the parser has seen.
    seen_bytes: usize,
    /// The request whose body is being read: method, path, query, body so far, what follows.
    current: Option<Current>,
    requests: Vec<String>,
    /// How it ended, once it has.
    end: Option<End>,
}

struct Current {
    method: String,
    path: String,
    query: Option<String>,
    body: Vec<u8>,
    decoder: BodyDecoder,
    keep_alive: bool,
}

impl Connection {
    fn receive(&mut self, piece: &[u8]) {
        if self.end.is_some() {
            return;
        }
        self.kept.extend_from_slice(piece);
        if let Err(refusal) = self.take() {
            self.end = Some(End::Refused(refusal.status));
        }
    }

    fn take(&mut self) -> Result<(), BadRequest> {
        while self.end.is_none() {
            let Some(current) = &mut self.current else {
                let limits = HeadLimits::default();
                let Some(head) = Head::parse(&self.kept, self.seen_bytes, &limits)? else {
                    self.seen_bytes = self.kept.len();
                    return Ok(());
                };
                assert_ne!(head.body, Body::UntilClose);
                self.current = Some(Current {
                    method: head.method.to_owned(),
                    path: head.path.to_owned(),
                    query: head.query.map(str::to_owned),
                    body: Vec::new(),
                    decoder: BodyDecoder::new(head.body),
                    keep_alive: head.keep_alive,
                });
                let used = head.encoded_bytes;
                self.kept.drain(..used);
                self.seen_bytes = 0;
                continue;
            };
            let progress = current.decoder.decode(&self.kept)?;
            current.body.extend_from_slice(&self.kept[progress.data]);
            self.kept.drain(..progress.used);
            if current.decoder.is_done() {
                let Current { method, path, query, body, keep_alive, .. } =
                    self.current.take().expect("it was just there");
                self.requests.push(seen(&method, &path, query.as_deref(), &body));
                if !keep_alive {
                    self.end = Some(End::Closes);
                }
            } else if self.kept.is_empty() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn finish(self) -> (Vec<String>, End) {
        let is_between = self.kept.is_empty() && self.current.is_none();
        // Nothing at all is a connection that waits for its first request.
        let is_open = is_between && !self.requests.is_empty();
        let rest = if is_open { End::Open } else { End::Waits };
        (self.requests, self.end.unwrap_or(rest))
    }
}

fn serve<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<String>, End) {
    let mut connection = Connection::default();
    for piece in pieces {
        connection.receive(piece);
    }
    connection.finish()
}

/// Inputs beyond this length are cut at some indices only.
const CUT_BYTES_MAX: usize = 2_000;

fn check(case: &Case, input: &[u8], requests: &[String], end: End) {
    let Case { name, .. } = case;
    let expected = (requests.to_vec(), end);
    assert_eq!(serve([input]), expected, "{name}, whole");
    assert_eq!(serve(input.chunks(1)), expected, "{name}, byte by byte");
    for cut in (0..input.len()).step_by(1 + input.len() / CUT_BYTES_MAX * 97) {
        let (front, back) = input.split_at(cut);
        assert_eq!(serve([front, back]), expected, "{name}, cut at {cut}");
    }
}

#[test]
fn each_case_ends_as_it_must() {
    for case in cases() {
        check(&case, &case.input, &case.requests, case.end);
    }
}

#[test]
fn nothing_is_smuggled_and_nothing_is_lost() {
    for case in cases() {
        match case.end {
            End::Refused(_) | End::Closes => {
                let input = [&case.input, SMUGGLED].concat();
                check(&case, &input, &case.requests, case.end);
            }
            End::Open => {
                let input = [&case.input, AFTER].concat();
                let requests = [case.requests.as_slice(), &["GET /after ".to_owned()]].concat();
                check(&case, &input, &requests, End::Open);
            }
            End::Waits => {}
        }
    }
}

#[test]
fn there_are_many_cases_and_no_two_are_the_same() {
    let cases = cases();
    let names: HashSet<_> = cases.iter().map(|case| case.name.as_str()).collect();
    let inputs: HashSet<_> = cases.iter().map(|case| case.input.as_slice()).collect();
    assert_eq!(names.len(), cases.len());
    let twice = |case: &&Case| cases.iter().filter(|other| other.input == case.input).count() > 1;
    let twice: Vec<_> = cases.iter().filter(twice).map(|case| &case.name).collect();
    assert_eq!(inputs.len(), cases.len(), "{twice:#?}");
    assert!(cases.len() >= 190, "{}", cases.len());
}

#[test]
fn each_refusal_is_an_answer_that_a_client_understands() {
    let date = Date::at(std::time::SystemTime::UNIX_EPOCH);
    let mut statuses = HashSet::new();
    for case in cases() {
        let (Err(refusal), End::Refused(_)) =
            (Head::parse(&case.input, 0, &HeadLimits::default()), case.end)
        else {
            continue;
        };
        let mut out = Vec::new();
        refusal.encode(false, &date, &mut out);
        let head = ResponseHead::parse(&out, "GET", &HeadLimits::default()).unwrap().unwrap();
        assert_eq!(head.status, refusal.status);
        assert!(!head.keep_alive);
        let body = &out[head.encoded_bytes..];
        assert_eq!(head.body, Body::Length(body.len() as u64));
        assert_eq!(body, format!("{refusal}\n").as_bytes());
        statuses.insert(refusal.status);
    }
    assert_eq!(statuses, HashSet::from([400, 405, 414, 417, 431, 501, 505]));
}
