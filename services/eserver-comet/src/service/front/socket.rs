//! `/v1/socket`: WebSocket, with several channels on one connection.

use std::borrow::Cow;

use eserver::http::{Answered, Call, Head};
use eserver::{Conn, Conns, Received};
use eserver_wire::ws::{
    ANSWER_DEFLATE, BadHandshake, CloseCode, Event, Handshake, Opcode, PROTOCOL, Role, Rules,
    Scratch, Step, VERSION, encode_close, encode_frame,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::channel_name::ChannelName;
use crate::letter::Start;
use crate::message::{Data, write_quoted};
use crate::room::Subscription;
use crate::service::answer::Answer;
use crate::service::asker::Asker;
use crate::service::front::Front;
use crate::service::front::modern::{Wanted, read_cursor};
use crate::service::line::{Line, Slot};
use crate::service::question::{Outcome, Question};
use crate::service::right::{NoRight, Right};
use crate::service::station::Station;
use crate::transport::Transport;

/// How long an order may be without its data, in bytes; a longer one ends the connection (1009).
const ORDER_BYTES_MAX: usize = 16 * 1024;

/// What a client asks for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    /// Comes back with the answer.
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    channel: Option<Cow<'a, str>>,
    #[serde(borrow)]
    cursor: Option<Cow<'a, str>>,
    #[serde(borrow)]
    start: Option<Cow<'a, str>>,
    #[serde(borrow)]
    token: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    event: Option<Box<str>>,
    idempotency_key: Option<Box<str>>,
}

/// What an order is answered with, but for its id.
enum Reply {
    Ok(String),
    Error(Cow<'static, str>, String),
    /// The answer comes later.
    Later,
}

impl Front {
    /// Makes a WebSocket of the request, with the channels that it names.
    pub(super) fn socket(
        &mut self,
        head: &Head<'_>,
        asker: Asker<'_>,
        call: Call<'_, '_>,
    ) -> Answered {
        let handshake = match Handshake::read(head) {
            Ok(handshake) => handshake,
            Err(bad) => return refuse(bad, asker, call),
        };
        // CORS does not hold for WebSockets: browsers open them for any page, and leave it to us.
        if !asker.is_let_in() {
            let message = "pages of this origin may not connect here";
            return Answer::error(403, "foreign_origin", message).give_to(asker, call);
        }
        let prepared = Wanted::read(head).and_then(|wanted| {
            let station = self.station.borrow();
            let right = wanted.right(&station)?;
            wanted.access(&station, &right)?;
            Ok((wanted, right))
        });
        let (wanted, right) = match prepared {
            Ok(prepared) => prepared,
            Err(answer) => return answer.give_to(asker, call),
        };
        let deflate = handshake.deflate && self.station.borrow().policies().settings().deflate;
        let mut station = self.station.borrow_mut();
        let number = station.sockets_mut().insert(call.conn_id(), &right, deflate);
        drop(station);
        // The first things it is told come behind the answer.
        self.opening.push((number, wanted.into_owned(), right));
        call.upgrade(Slot::Socket(number).get(), PROTOCOL, |response| {
            // An accept key and constants can stand in a head.
            let _ = response.field("Sec-WebSocket-Accept", handshake.accept.as_bytes());
            if deflate {
                let _ = response.field("Sec-WebSocket-Extensions", ANSWER_DEFLATE.as_bytes());
            }
        })
    }

    /// Subscribes the WebSockets that were opened in this turn to the channels that they named.
    pub(super) fn open_sockets(&mut self, conns: &mut Conns<'_>) {
        for (number, wanted, right) in std::mem::take(&mut self.opening) {
            let mut station = self.station.borrow_mut();
            let starts = wanted.starts();
            let access = wanted.access(&station, &right);
            let (Ok(channels), Ok(access)) = (starts, access) else { continue };
            let Some(access) = access else { continue };
            let Some(conn) = station.socket_conn(number) else { continue };
            let subscription = Subscription {
                handle: Line::Socket(conn, number),
                transport: Transport::Socket,
                channels: &channels,
                access,
                noop: 0,
                subject: right.subject(),
                ends_at: right.ends_at(station.now()),
            };
            if let Err(error) = station.subscribe_socket(number, subscription, conns) {
                tracing::error!(%error, "a subscription was refused");
            }
        }
    }

    /// Takes what has come from a WebSocket.
    pub(super) fn socket_received(
        &mut self,
        slot: u32,
        input: &[u8],
        conn: &mut Conn<'_>,
    ) -> Received {
        let Slot::Socket(number) = Slot::new(slot) else {
            conn.close_lingering();
            return Received { used: input.len(), need: 0, seen: 0 };
        };
        let mut scratch = std::mem::take(&mut self.scratch);
        let received = self.take_frames(number, input, &mut scratch, conn);
        self.scratch = scratch;
        received
    }

    fn take_frames(
        &mut self,
        number: u32,
        input: &[u8],
        scratch: &mut Scratch,
        conn: &mut Conn<'_>,
    ) -> Received {
        let mut used = 0;
        let over = Received { used: input.len(), need: 0, seen: 0 };
        loop {
            let rest = &input[used..];
            if rest.is_empty() {
                return Received { used, need: 0, seen: 0 };
            }
            // Who asks and does not read its answers is not read from either.
            if !conn.may_request() {
                return Received { used, need: 0, seen: 0 };
            }
            let mut station = self.station.borrow_mut();
            let message_bytes_max =
                station.policies().settings().message_bytes_max.saturating_add(ORDER_BYTES_MAX);
            let deflate = station.sockets().deflate(number);
            let rules = Rules { role: Role::Server, deflate, message_bytes_max };
            // On loan, since what is read may have things sent through the station.
            let Some(mut inbound) = station.sockets_mut().take_inbound(number) else {
                conn.close_lingering();
                return over;
            };
            drop(station);
            let taken = inbound.take(rest, rules, scratch);
            let goes_on = match taken {
                Ok(Step::Need(bytes)) => {
                    self.give_back(number, inbound);
                    return Received { used, need: bytes, seen: 0 };
                }
                Ok(Step::Frame(bytes, event)) => {
                    used += bytes;
                    self.act(number, event.as_ref(), conn)
                }
                Err(violation) => {
                    let mut bytes = Vec::new();
                    encode_close(violation.code(), &violation.to_string(), &mut bytes);
                    answer(conn, &bytes);
                    false
                }
            };
            self.give_back(number, inbound);
            if !goes_on {
                conn.close_lingering();
                return over;
            }
        }
    }

    fn give_back(&mut self, number: u32, inbound: eserver_wire::ws::Inbound) {
        self.station.borrow_mut().sockets_mut().put_inbound(number, inbound);
    }

    /// Does what came; whether the connection goes on.
    fn act(&mut self, number: u32, event: Option<&Event<'_>>, conn: &mut Conn<'_>) -> bool {
        let mut bytes = Vec::new();
        match event {
            None | Some(Event::Pong(_)) => return true,
            Some(Event::Ping(payload)) => encode_frame(Opcode::Pong, payload, false, &mut bytes),
            Some(Event::Close(close)) => {
                let code = close.as_ref().map_or(CloseCode::NORMAL, |(code, _)| *code);
                encode_close(code, "", &mut bytes);
                answer(conn, &bytes);
                return false;
            }
            Some(Event::Binary(_)) => {
                let reason = "send texts, each a JSON object";
                encode_close(CloseCode::POLICY_VIOLATION, reason, &mut bytes);
                answer(conn, &bytes);
                return false;
            }
            Some(Event::Text(text)) => {
                let (id, reply) = match serde_json::from_str::<Order<'_>>(text) {
                    Ok(order) => (order.id, self.obey(number, &order, conn)),
                    Err(error) => {
                        let message = format!("the message cannot be used: {error}");
                        (None, Reply::Error("bad_json".into(), message))
                    }
                };
                let id = id.map(RawValue::get);
                let Some(text) = reply.text(id) else { return true };
                encode_frame(Opcode::Text, text.as_bytes(), false, &mut bytes);
            }
        }
        answer(conn, &bytes);
        true
    }

    fn obey(&mut self, number: u32, order: &Order<'_>, conn: &mut Conn<'_>) -> Reply {
        let needs_channel = matches!(&*order.kind, "subscribe" | "unsubscribe" | "publish");
        let channel = match (&order.channel, needs_channel) {
            (_, false) => Ok(ChannelName::new("").expect("it is short")),
            (Some(channel), true) => ChannelName::new(channel).map_err(|error| error.to_string()),
            (None, true) => Err("channel is missing".to_owned()),
        };
        let channel = match channel {
            Ok(channel) => channel,
            Err(message) => return Reply::Error("bad_channel".into(), message),
        };
        match &*order.kind {
            "ping" => Reply::Ok("\"type\":\"pong\"".to_owned()),
            "subscribe" => self.subscribe_one(number, channel, order, &mut conn.conns()),
            "unsubscribe" => {
                let mut station = self.station.borrow_mut();
                if station.unsubscribe_socket(number, channel, &mut conn.conns()) {
                    Reply::Ok("\"type\":\"ok\"".to_owned())
                } else {
                    let message = "it is not subscribed to that channel".to_owned();
                    Reply::Error("not_subscribed".into(), message)
                }
            }
            "publish" => self.publish_from(number, channel, order, conn),
            other => {
                let message = format!(
                    "{other:?} is not understood; there are subscribe, unsubscribe, publish and ping"
                );
                Reply::Error("bad_type".into(), message)
            }
        }
    }

    fn subscribe_one(
        &mut self,
        number: u32,
        channel: ChannelName<'_>,
        order: &Order<'_>,
        conns: &mut Conns<'_>,
    ) -> Reply {
        let cursor = read_cursor(order.cursor.as_deref().unwrap_or_default());
        let start = match (cursor, order.start.as_deref()) {
            (Err(_), _) => {
                let message = "the cursor is not one that this server gives".to_owned();
                return Reply::Error("bad_cursor".into(), message);
            }
            (Ok(cursor), start @ (None | Some("now" | "all"))) => {
                let otherwise = if start == Some("all") { Start::All } else { Start::Now };
                let position = cursor.and_then(|cursor| cursor.position(channel));
                position.map_or(otherwise, Start::At)
            }
            (Ok(_), Some(_)) => {
                let message = "start is `now` or `all`".to_owned();
                return Reply::Error("bad_request".into(), message);
            }
        };
        let mut station = self.station.borrow_mut();
        let access = right_of(&station, number, order)
            .and_then(|right| right.to_subscribe(channel).map(|access| (access, right)));
        let (access, right) = match access {
            Ok(access) => access,
            Err(no) => return Reply::Error(no.code.into(), no.message),
        };
        match station.add_channel(number, channel, start, access, &right, conns) {
            Ok(()) => Reply::Ok("\"type\":\"ok\"".to_owned()),
            Err(error) => Reply::Error("too_many_channels".into(), error.to_string()),
        }
    }

    fn publish_from(
        &mut self,
        number: u32,
        channel: ChannelName<'_>,
        order: &Order<'_>,
        conn: &mut Conn<'_>,
    ) -> Reply {
        let mut station = self.station.borrow_mut();
        let right = right_of(&station, number, order);
        if let Err(no) = right.and_then(|right| right.to_publish(channel)) {
            return Reply::Error(no.code.into(), no.message);
        }
        let data = order.data.map(|data| Data::json(data.get()));
        let Some(Ok(data)) = data else {
            return Reply::Error("bad_data".into(), "data is missing".to_owned());
        };
        let (event, key) = (order.event.clone(), order.idempotency_key.clone());
        let question = Question::Publish { channel: channel.into(), data, event, key };
        let id = order.id.map(|id| id.get().to_owned());
        // A request to the engine, which bounds how many wait for their answers.
        let to = conn.begin_request();
        station.ask(channel, question, &mut conn.conns(), move |outcome, conns| {
            let reply = match outcome {
                Outcome::Published(Ok(published)) => Reply::Ok(format!(
                    "\"type\":\"ok\",\"offset\":{},\"subscribers\":{}",
                    published.seq, published.subscribers
                )),
                Outcome::Published(Err(error)) => {
                    Reply::Error("not_published".into(), error.to_string())
                }
                _ => Reply::Error("internal".into(), "another question was answered".to_owned()),
            };
            let text = reply.text(id.as_deref()).unwrap_or_default();
            let mut bytes = Vec::new();
            encode_frame(Opcode::Text, text.as_bytes(), false, &mut bytes);
            conns.reply(to, |out| out.extend_from_slice(&bytes));
        });
        Reply::Later
    }
}

impl Reply {
    /// The JSON object that is sent, if anything is.
    fn text(&self, id: Option<&str>) -> Option<String> {
        let mut text = match self {
            Reply::Ok(fields) => format!("{{{fields}"),
            Reply::Error(code, message) => {
                let mut text = format!("{{\"type\":\"error\",\"code\":\"{code}\",\"message\":");
                write_quoted(message, &mut text);
                text
            }
            Reply::Later => return None,
        };
        if let Some(id) = id {
            text.push_str(",\"id\":");
            text.push_str(id);
        }
        text.push('}');
        Some(text)
    }
}

/// By what right an order is given: by that of its own token, or else of the connection's.
fn right_of(station: &Station, number: u32, order: &Order<'_>) -> Result<Right, NoRight> {
    match (order.token.as_deref(), station.sockets().right(number)) {
        (None, Some(right)) => right.clone().still(),
        (token, _) => {
            let auth = station.policies().settings().auth;
            Right::of(token.unwrap_or_default(), auth, &station.secrets)
        }
    }
}

/// Sends what answers something that came; that it may be read was seen before.
fn answer(conn: &mut Conn<'_>, bytes: &[u8]) {
    let id = conn.id();
    conn.conns().send_whatever_waits(id, bytes);
}

fn refuse(bad: BadHandshake, asker: Asker<'_>, call: Call<'_, '_>) -> Answered {
    call.reply_with(bad.status(), |mut response| {
        if bad.status() == 426 {
            response.offer_upgrade(PROTOCOL);
        }
        let field = match bad {
            BadHandshake::NoUpgrade | BadHandshake::Version => ("Sec-WebSocket-Version", VERSION),
            BadHandshake::Method => ("Allow", "GET, OPTIONS"),
            BadHandshake::Key | BadHandshake::Body => ("Cache-Control", "no-store"),
        };
        // Constants can stand in a head.
        let _ = response.field(field.0, field.1.as_bytes());
        asker.tell(&mut response);
        response.line(&super::super::PLAIN_TEXT);
        response.body(format!("{bad}\n").as_bytes());
    })
}
