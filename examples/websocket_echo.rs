//! cargo run --release --example websocket_echo -- 127.0.0.1:8084
//!
//! Sends back every message, text or not, compressed where the client wants it. Without an address it
//! is 127.0.0.1:8084.

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use eserver::http::{Answered, Application, BodyPlan, Call, Head, Http};
use eserver::{AllowList, Conn, Conns, Received, Server};
use eserver_wire::ws::{
    ANSWER_DEFLATE, CloseCode, Deflater, Event, Handshake, Inbound, Opcode, PROTOCOL, Role, Rules,
    Scratch, Step, encode_close, encode_frame,
};

/// The longest message, in bytes.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8084".to_owned());
    let mut server = Server::new();
    server = server.limits(eserver::Limits {
        outbox_bytes_max: 4 * MESSAGE_BYTES_MAX,
        ..eserver::Limits::default()
    });
    let make = |context: &eserver::ShardContext| Http::new(context, Echo::default());
    let running = server.listen(address.as_str(), AllowList::everyone(), make)?.start()?;
    running.runtime().block_on(eserver::asked_to_end())?;
    running.shutdown(Duration::from_secs(10));
    Ok(())
}

/// All WebSockets of a shard.
#[derive(Default)]
struct Echo {
    sockets: Vec<Option<Socket>>,
    free: Vec<u32>,
    scratch: Scratch,
    deflater: Deflater,
    bytes: Vec<u8>,
}

struct Socket {
    conn: eserver::ConnId,
    inbound: Inbound,
    deflate: bool,
}

impl Application for Echo {
    fn body(&mut self, _: &Head<'_>) -> BodyPlan {
        BodyPlan::Unread
    }

    fn call(&mut self, head: &Head<'_>, _: &[u8], call: Call<'_, '_>) -> Answered {
        let handshake = match Handshake::read(head) {
            Ok(handshake) => handshake,
            Err(bad) => {
                return call.reply_with(bad.status(), |mut response| {
                    if bad.status() == 426 {
                        response.offer_upgrade(PROTOCOL);
                    }
                    response.body(format!("{bad}\n").as_bytes());
                });
            }
        };
        let Handshake { accept, deflate } = handshake;
        let socket = Socket { conn: call.conn_id(), inbound: Inbound::default(), deflate };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.sockets.push(None);
            self.sockets.len() as u32 - 1
        });
        self.sockets[slot as usize] = Some(socket);
        call.upgrade(slot, PROTOCOL, |response| {
            // An accept key and a constant can stand in a head.
            let _ = response.field("Sec-WebSocket-Accept", accept.as_bytes());
            if deflate {
                let _ = response.field("Sec-WebSocket-Extensions", ANSWER_DEFLATE.as_bytes());
            }
        })
    }

    fn receive(&mut self, slot: u32, input: &[u8], conn: &mut Conn<'_>) -> Received {
        let over = Received { used: input.len(), need: 0, seen: 0 };
        let Echo { sockets, scratch, deflater, bytes, .. } = self;
        let Some(Socket { inbound, deflate, .. }) = &mut sockets[slot as usize] else {
            conn.close_lingering();
            return over;
        };
        let deflate = *deflate;
        let message_bytes_max = MESSAGE_BYTES_MAX;
        let rules = Rules { role: Role::Server, deflate, message_bytes_max };
        let mut used = 0;
        while used < input.len() {
            bytes.clear();
            let mut send = |opcode, message: &[u8]| {
                if deflate {
                    let mut payload = Vec::new();
                    deflater.deflate(message, &mut payload);
                    encode_frame(opcode, &payload, true, bytes);
                } else {
                    encode_frame(opcode, message, false, bytes);
                }
            };
            let mut ends = false;
            match inbound.take(&input[used..], rules, scratch) {
                Ok(Step::Need(need)) => return Received { used, need, seen: 0 },
                Ok(Step::Frame(taken, event)) => {
                    used += taken;
                    match event {
                        None | Some(Event::Pong(_)) => {}
                        Some(Event::Text(text)) => send(Opcode::Text, text.as_bytes()),
                        Some(Event::Binary(message)) => send(Opcode::Binary, message),
                        Some(Event::Ping(payload)) => {
                            encode_frame(Opcode::Pong, payload, false, bytes);
                        }
                        Some(Event::Close(close)) => {
                            let code = close.map_or(CloseCode::NORMAL, |(code, _)| code);
                            encode_close(code, "", bytes);
                            ends = true;
                        }
                    }
                }
                Err(violation) => {
                    encode_close(violation.code(), &violation.to_string(), bytes);
                    ends = true;
                }
            }
            conn.send(bytes);
            if ends {
                conn.close_lingering();
                return over;
            }
        }
        Received { used, need: 0, seen: 0 }
    }

    fn released(&mut self, slot: u32) {
        self.sockets[slot as usize] = None;
        self.free.push(slot);
    }

    fn draining(&mut self, conns: &mut Conns<'_>) {
        for Socket { conn, .. } in self.sockets.iter().flatten() {
            let mut bytes = Vec::new();
            encode_close(CloseCode::GOING_AWAY, "the server ends", &mut bytes);
            conns.send(*conn, &bytes);
            conns.close(*conn);
        }
    }
}
