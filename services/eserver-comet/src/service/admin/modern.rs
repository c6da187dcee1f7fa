//! Publishing and asking by the modern API: JSON in, JSON out.

use std::borrow::Cow;
use std::fmt::Write;

use eserver::http::{Answered, Call, Head};
use eserver_wire::http::{path_segments, query_pairs};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::channel_name::ChannelName;
use crate::hub::{ChannelInfo, HistoryPage, PublishError};
use crate::message::{Data, Kind, write_quoted};
use crate::position::Position;
use crate::service::admin::Admin;
use crate::service::answer::Answer;
use crate::service::asked::Then;
use crate::service::question::{Outcome, Question};
use crate::service::right::now_unix_s;
use crate::service::watchers::{Dialect, Watcher};
use crate::shards::ShardId;
use crate::token::Grant;

/// How many messages one batch may have.
const BATCH_MESSAGES_MAX: usize = 1000;

/// How many messages of a history are answered at once if it is not said, and at most.
const HISTORY_MESSAGES: usize = 100;
const HISTORY_MESSAGES_MAX: usize = 1000;

/// How many places for channels one page of the list of channels looks at.
const LIST_PLACES: u32 = 1000;

/// How long a token is good if it is not said, in seconds.
const TOKEN_S: u64 = 3600;

/// A message to be published.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Publish<'a> {
    #[serde(borrow)]
    channel: Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
    event: Option<Box<str>>,
    idempotency_key: Option<Box<str>>,
}

/// Several of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch<'a> {
    #[serde(borrow)]
    messages: Vec<Publish<'a>>,
}

/// A message for all channels.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BroadcastBody<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
}

/// What a token is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenBody {
    #[serde(default)]
    channels: Vec<String>,
    #[serde(default)]
    prefixes: Vec<String>,
    #[serde(default = "yes")]
    subscribe: bool,
    #[serde(default)]
    publish: bool,
    #[serde(default = "usual")]
    expires_s: u64,
    subject: Option<String>,
}

fn yes() -> bool {
    true
}

fn usual() -> u64 {
    TOKEN_S
}

impl Admin {
    /// Answers what begins with `/v1/`.
    pub(super) fn modern(&mut self, head: &Head<'_>, body: &[u8], call: Call<'_, '_>) -> Answered {
        let segments: Result<Vec<_>, _> = path_segments(head.path).collect();
        let segments = match segments {
            Ok(segments) => segments,
            Err(bad) => return Answer::error(400, "bad_path", &bad.to_string()).give(call),
        };
        let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
        let method = if head.method == "HEAD" { "GET" } else { head.method };
        match (method, &segments[1..]) {
            ("POST", ["publish"]) => self.publish(body, call),
            ("POST", ["publish", "batch"]) => self.publish_batch(body, call),
            ("POST", ["broadcast"]) => self.broadcast_json(body, call),
            ("POST", ["tokens"]) => self.make_token(body, call),
            ("GET", ["channels"]) => self.list(head, call),
            ("GET", ["channels", channel]) => self.describe(channel, call),
            ("DELETE", ["channels", channel]) => self.delete(channel, call),
            ("POST", ["channels", channel, "messages"]) => {
                self.publish_raw(channel, head, body, call)
            }
            ("GET", ["channels", channel, "history"]) => self.history(channel, head, call),
            ("GET", ["channels", channel, "members"]) => self.members(channel, call),
            ("GET", ["presence"]) => self.presence(head, call),
            (_, rest) => match allowed(rest) {
                "" => Answer::error(404, "unknown_path", "there is nothing here").give(call),
                allow => {
                    let answer = Answer::error(405, "bad_method", "use another method here");
                    answer.allowing(allow).give(call)
                }
            },
        }
    }

    fn publish(&mut self, body: &[u8], call: Call<'_, '_>) -> Answered {
        let published = read_json::<Publish<'_>>(body).and_then(Publish::question);
        match published {
            Ok((channel, question)) => self.ask_one(&channel, question, call),
            Err(answer) => answer.give(call),
        }
    }

    /// Publishes a body as it is: as JSON if it says so, and as text otherwise.
    fn publish_raw(
        &mut self,
        channel: &str,
        head: &Head<'_>,
        body: &[u8],
        call: Call<'_, '_>,
    ) -> Answered {
        let media_type = head.fields.get_str("content-type").unwrap_or_default();
        let is_json = media_type.split(';').next().unwrap_or_default().trim();
        let is_json = is_json.eq_ignore_ascii_case("application/json");
        let Ok(text) = str::from_utf8(body) else {
            return Answer::error(400, "bad_data", "the body is not UTF-8").give(call);
        };
        let data = match if is_json { Data::json(text) } else { Ok(Data::text(text)) } {
            Ok(data) => data,
            Err(bad) => return Answer::error(400, "bad_data", &bad.to_string()).give(call),
        };
        let (mut event, mut key) = (None, head.fields.get_str("idempotency-key").map(Box::from));
        for (name, value) in query_pairs(head.query.unwrap_or_default().as_bytes()) {
            match &*name {
                "event" => event = Some(Box::from(&*value)),
                "idempotency_key" => key = Some(Box::from(&*value)),
                _ => {}
            }
        }
        match named(channel) {
            Ok(name) => {
                let question = Question::Publish { channel: name.into(), data, event, key };
                self.ask_one(channel, question, call)
            }
            Err(answer) => answer.give(call),
        }
    }

    /// Has a hub publish, and says what became of it.
    fn ask_one(&mut self, channel: &str, question: Question, mut call: Call<'_, '_>) -> Answered {
        let mut station = self.station.borrow_mut();
        let name = match named(channel) {
            Ok(name) => name,
            Err(answer) => return answer.give(call),
        };
        if station.owns(name) {
            return published(channel, &station.ask_here(question)).give(call);
        }
        let (ticket, kept) = (call.ticket(), channel.to_owned());
        station.ask(name, question, &mut call.conns(), move |outcome, conns| {
            published(&kept, &outcome).give_by(ticket, conns);
        });
        call.given()
    }

    fn publish_batch(&mut self, body: &[u8], mut call: Call<'_, '_>) -> Answered {
        let batch = match read_json::<Batch<'_>>(body) {
            Ok(batch) => batch,
            Err(answer) => return answer.give(call),
        };
        let count = batch.messages.len();
        if !(1..=BATCH_MESSAGES_MAX).contains(&count) {
            let message = format!("a batch has 1 to {BATCH_MESSAGES_MAX} messages, not {count}");
            return Answer::error(400, "bad_batch", &message).give(call);
        }
        let mut station = self.station.borrow_mut();
        let (mut channels, mut questions) = (Vec::new(), Vec::new());
        for message in batch.messages {
            // All or none: what is wrong with one is said before anything is published.
            match message.question() {
                Ok((channel, question)) => {
                    let name = ChannelName::new(&channel).expect("its question was made of it");
                    questions.push((station.owner(name), question));
                    channels.push(channel);
                }
                Err(answer) => return answer.give(call),
            }
        }
        let ticket = call.ticket();
        let then: Then = Box::new(move |outcomes, conns| {
            let mut json = String::from("{\"results\":[");
            for (nth, (channel, outcome)) in channels.iter().zip(&outcomes).enumerate() {
                json.push_str(if nth > 0 { "," } else { "" });
                match write_published(channel, outcome, &mut json) {
                    Ok(()) => {}
                    Err((_, code, message)) => {
                        write!(json, "{{\"error\":{{\"code\":\"{code}\",\"message\":")
                            .expect("a string takes all");
                        write_quoted(&message, &mut json);
                        json.push_str("}}");
                    }
                }
            }
            json.push_str("]}\n");
            Answer::json(200, json).give_by(ticket, conns);
        });
        station.ask_several(questions, &mut call.conns(), then);
        call.given()
    }

    fn broadcast_json(&mut self, body: &[u8], mut call: Call<'_, '_>) -> Answered {
        let data = read_json::<BroadcastBody<'_>>(body).and_then(|body| data_of(body.data));
        let data = match data {
            Ok(data) => data,
            Err(answer) => return answer.give(call),
        };
        let (mut station, ticket) = (self.station.borrow_mut(), call.ticket());
        let bytes_max = station.policies().settings().message_bytes_max;
        if data.as_json().len() > bytes_max {
            let message = format!("the data may have {bytes_max} bytes");
            return Answer::error(413, "too_long", &message).give(call);
        }
        let question = Question::Broadcast(data);
        station.ask_all(&question, &mut call.conns(), move |_, conns| {
            Answer::json(202, "{\"ok\":true}\n").give_by(ticket, conns);
        });
        call.given()
    }

    fn make_token(&mut self, body: &[u8], call: Call<'_, '_>) -> Answered {
        let wanted = match read_json::<TokenBody>(body) {
            Ok(wanted) => wanted,
            Err(answer) => return answer.give(call),
        };
        if wanted.channels.is_empty() && wanted.prefixes.is_empty() {
            let message = "say for which channels or prefixes; the empty prefix is for all";
            return Answer::error(400, "bad_request", message).give(call);
        }
        let expires_unix_s = now_unix_s().saturating_add(wanted.expires_s);
        let grant = Grant {
            channels: wanted.channels,
            prefixes: wanted.prefixes,
            subscribe: wanted.subscribe,
            publish: wanted.publish,
            expires_unix_s: Some(expires_unix_s),
            subject: wanted.subject,
        };
        let token = grant.sign(&self.station.borrow().secrets);
        if token.len() > crate::token::TOKEN_BYTES_MAX {
            let message = "so many channels make the token too long; use prefixes";
            return Answer::error(400, "too_long", message).give(call);
        }
        let json = format!("{{\"token\":\"{token}\",\"expires_unix_s\":{expires_unix_s}}}\n");
        Answer::json(200, json).give(call)
    }

    /// A page of the list of channels. Its cursor is the shard and the place to go on with.
    fn list(&mut self, head: &Head<'_>, mut call: Call<'_, '_>) -> Answered {
        let (mut prefix, mut cursor) = (Box::from(""), (0, 0));
        for (name, value) in query_pairs(head.query.unwrap_or_default().as_bytes()) {
            match &*name {
                "prefix" => prefix = Box::from(&*value),
                "cursor" if !value.is_empty() => {
                    let parts = value.split_once('.').and_then(|(shard, place)| {
                        Some((shard.parse().ok()?, place.parse().ok()?))
                    });
                    let Some(parts) = parts else {
                        let message = "the cursor is not one that this server gives";
                        return Answer::error(400, "bad_cursor", message).give(call);
                    };
                    cursor = parts;
                }
                _ => {}
            }
        }
        let (mut station, ticket) = (self.station.borrow_mut(), call.ticket());
        let (shard, place): (ShardId, u32) = cursor;
        let owners = station.owners();
        if shard >= owners {
            let message = "the cursor is not one that this server gives";
            return Answer::error(400, "bad_cursor", message).give(call);
        }
        let questions = vec![(shard, Question::List { prefix, place, places_max: LIST_PLACES })];
        let then: Then = Box::new(move |outcomes, conns| {
            let mut json = String::from("{\"channels\":[");
            let mut next = None;
            for outcome in outcomes {
                let Outcome::Listed(found, go_on) = outcome else { continue };
                next = match go_on {
                    Some(place) => Some((shard, place)),
                    None => (shard + 1 < owners).then_some((shard + 1, 0)),
                };
                for (nth, info) in found.iter().enumerate() {
                    json.push_str(if nth > 0 { "," } else { "" });
                    write_info(info, &mut json);
                }
            }
            json.push(']');
            if let Some((shard, place)) = next {
                write!(json, ",\"cursor\":\"{shard}.{place}\"").expect("a string takes all");
            }
            json.push_str("}\n");
            Answer::json(200, json).give_by(ticket, conns);
        });
        station.ask_several(questions, &mut call.conns(), then);
        call.given()
    }

    fn describe(&mut self, channel: &str, call: Call<'_, '_>) -> Answered {
        let question = |channel: ChannelName<'_>| Question::Info(channel.into());
        self.ask_about(named(channel), question, call, |_, outcome| match outcome {
            Outcome::Info(Some(info)) => {
                let mut json = String::new();
                write_info(info, &mut json);
                json.push('\n');
                Answer::json(200, json)
            }
            _ => unknown_channel(),
        })
    }

    fn delete(&mut self, channel: &str, call: Call<'_, '_>) -> Answered {
        let question = |channel: ChannelName<'_>| Question::Close(channel.into());
        self.ask_about(named(channel), question, call, |channel, outcome| match outcome {
            Outcome::Next(Ok(next)) => {
                let mut json = String::from("{\"channel\":");
                write_quoted(channel, &mut json);
                Answer::json(200, format!("{json},\"offset\":{}}}\n", next.get() - 1))
            }
            _ => unknown_channel(),
        })
    }

    fn history(&mut self, channel: &str, head: &Head<'_>, call: Call<'_, '_>) -> Answered {
        let (mut since, mut messages_max) = (None, HISTORY_MESSAGES);
        for (name, value) in query_pairs(head.query.unwrap_or_default().as_bytes()) {
            match &*name {
                "since" if !value.is_empty() => match value.parse::<Position>() {
                    Ok(position) => since = Some(position),
                    Err(_) => {
                        let message = "since is EPOCH:OFFSET, a cursor of one channel";
                        return Answer::error(400, "bad_cursor", message).give(call);
                    }
                },
                "limit" => match value.parse() {
                    Ok(limit) if (1..=HISTORY_MESSAGES_MAX).contains(&limit) => {
                        messages_max = limit;
                    }
                    _ => {
                        let message = format!("limit is a number from 1 to {HISTORY_MESSAGES_MAX}");
                        return Answer::error(400, "bad_request", &message).give(call);
                    }
                },
                _ => {}
            }
        }
        let question = move |channel: ChannelName<'_>| Question::History {
            channel: channel.into(),
            since,
            messages_max,
        };
        self.ask_about(named(channel), question, call, |channel, outcome| match outcome {
            Outcome::History(Ok(page)) => Answer::json(200, write_history(channel, page)),
            _ => unknown_channel(),
        })
    }

    fn members(&mut self, channel: &str, call: Call<'_, '_>) -> Answered {
        let question = |channel: ChannelName<'_>| Question::Members(channel.into());
        self.ask_about(named(channel), question, call, |channel, outcome| {
            let Outcome::Members(Ok(members)) = outcome else { return unknown_channel() };
            let mut json = String::from("{\"channel\":");
            write_quoted(channel, &mut json);
            json.push_str(",\"members\":[");
            for (nth, (subject, subscriptions)) in members.iter().enumerate() {
                json.push_str(if nth > 0 { ",{\"subject\":" } else { "{\"subject\":" });
                write_quoted(subject, &mut json);
                write!(json, ",\"subscriptions\":{subscriptions}}}").expect("a string takes all");
            }
            json.push_str("]}\n");
            Answer::json(200, json)
        })
    }

    /// Tells what becomes of channels, as server-sent events.
    fn presence(&mut self, head: &Head<'_>, mut call: Call<'_, '_>) -> Answered {
        let mut prefix = Box::from("");
        for (name, value) in query_pairs(head.query.unwrap_or_default().as_bytes()) {
            if name == "prefix" {
                prefix = Box::from(&*value);
            }
        }
        let stream = call.ticket().stream(&mut call.conns(), 200, |response| {
            response.line(&super::super::NO_STORE);
            response.line(&super::super::NO_BUFFERING);
            response.line(&super::super::EVENT_STREAM);
        });
        stream.chunk(&mut call.conns(), b": what becomes of channels from now on\n\n");
        self.begin_watch(Watcher { stream, dialect: Dialect::Events, prefix }, call)
    }
}

impl Publish<'_> {
    /// The channel, and what its hub is asked.
    fn question(self) -> Result<(Box<str>, Question), Answer> {
        let channel = named(&self.channel)?.into();
        let Publish { event, idempotency_key: key, .. } = self;
        let question = Question::Publish { channel, data: data_of(self.data)?, event, key };
        Ok((self.channel.into(), question))
    }
}

/// The methods of a path, or nothing if there is no such path.
fn allowed(segments: &[&str]) -> &'static str {
    match segments {
        ["publish"] | ["publish", "batch"] | ["broadcast"] | ["tokens"] => "POST",
        ["channels"] | ["presence"] => "GET, HEAD",
        ["channels", _] => "GET, HEAD, DELETE",
        ["channels", _, "messages"] => "POST",
        ["channels", _, "history" | "members"] => "GET, HEAD",
        _ => "",
    }
}

fn named(channel: &str) -> Result<ChannelName<'_>, Answer> {
    ChannelName::new(channel).map_err(|error| Answer::error(400, "bad_channel", &error.to_string()))
}

fn data_of(data: &RawValue) -> Result<Data, Answer> {
    Data::json(data.get()).map_err(|bad| Answer::error(400, "bad_data", &bad.to_string()))
}

/// Reads a body, whatever type it says it has.
fn read_json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Answer> {
    serde_json::from_slice(body).map_err(|error| {
        let message = format!("the body cannot be used: {error}");
        Answer::error(400, "bad_json", &message)
    })
}

fn unknown_channel() -> Answer {
    Answer::error(404, "unknown_channel", "there is no such channel")
}

fn published(channel: &str, outcome: &Outcome) -> Answer {
    let mut json = String::with_capacity(96);
    match write_published(channel, outcome, &mut json) {
        Ok(()) => {
            json.push('\n');
            Answer::json(200, json)
        }
        Err((status, code, message)) => Answer::error(status, code, &message),
    }
}

/// Appends what became of a publication, or gives status, code and sentence of what went wrong.
fn write_published(
    channel: &str,
    outcome: &Outcome,
    json: &mut String,
) -> Result<(), (u16, &'static str, String)> {
    match outcome {
        Outcome::Published(Ok(published)) => {
            json.push_str("{\"channel\":");
            write_quoted(channel, json);
            let (epoch, offset, count) = (published.epoch, published.seq, published.subscribers);
            write!(
                json,
                ",\"epoch\":\"{epoch}\",\"offset\":{offset},\"subscribers\":{count}{}}}",
                if published.is_repeated { ",\"repeated\":true" } else { "" }
            )
            .expect("a string takes all");
            Ok(())
        }
        Outcome::Published(Err(error @ PublishError::ChannelsFull)) => {
            Err((429, "channels_full", error.to_string()))
        }
        Outcome::Published(Err(error)) => Err((413, "too_long", error.to_string())),
        _ => Err((500, "internal", "another question was answered".to_owned())),
    }
}

fn write_info(info: &ChannelInfo, json: &mut String) {
    json.push_str("{\"channel\":");
    write_quoted(&info.name, json);
    write!(
        json,
        ",\"epoch\":\"{}\",\"offset\":{},\"first\":{},\"subscribers\":{},\"members\":{}}}",
        info.position.epoch,
        info.position.next.get() - 1,
        info.first,
        info.subscribers,
        info.members
    )
    .expect("a string takes all");
}

fn write_history(channel: &str, page: &HistoryPage) -> String {
    let mut json = String::from("{\"channel\":");
    write_quoted(channel, &mut json);
    let HistoryPage { position, first, reset, messages } = page;
    write!(
        json,
        ",\"epoch\":\"{}\",\"offset\":{},\"first\":{first}",
        position.epoch,
        position.next.get() - 1
    )
    .expect("a string takes all");
    if let Some(reason) = reset {
        write!(json, ",\"reset\":\"{}\"", reason.as_str()).expect("a string takes all");
    }
    json.push_str(",\"messages\":[");
    let mut cursor = Position { next: *first, ..*position };
    for (nth, (seq, message)) in messages.iter().enumerate() {
        json.push_str(if nth > 0 { "," } else { "" });
        let kind = if message.kind == Kind::Broadcast { "broadcast" } else { "message" };
        write!(json, "{{\"type\":\"{kind}\",\"offset\":{seq}").expect("a string takes all");
        if let Some(event) = &message.event {
            json.push_str(",\"event\":");
            write_quoted(event, &mut json);
        }
        json.push_str(",\"data\":");
        json.push_str(message.data.as_json());
        json.push('}');
        cursor.next = seq.next();
    }
    if messages.is_empty() {
        cursor = *position;
    }
    write!(json, "],\"cursor\":\"{cursor}\"}}").expect("a string takes all");
    json.push('\n');
    json
}
