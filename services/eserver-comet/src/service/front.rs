//! [`Front`]: the public port, where subscribers are.

mod icomet;
mod modern;
mod socket;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use eserver::http::{Answered, Application, BodyPlan, Call, Head};
use eserver::{Conn, Conns, Received};
use eserver_wire::http::decode_path;
use eserver_wire::ws::Scratch;

use crate::service::answer::Answer;
use crate::service::asker::Asker;
use crate::service::front::modern::Wanted;
use crate::service::mail::Bundle;
use crate::service::right::Right;
use crate::service::station::Station;
use crate::transport::Transport;

pub(crate) use icomet::callback_of;

/// The public port on one shard.
pub struct Front {
    station: Rc<RefCell<Station>>,
    /// How many times something was to be spread.
    spread: Cell<u32>,
    /// WebSockets that were opened in this turn, with what they want to listen to and their right.
    opening: Vec<(u32, Wanted<'static>, Right)>,
    scratch: Scratch,
}

impl Front {
    pub(crate) fn new(station: Rc<RefCell<Station>>) -> Self {
        Front { station, spread: Cell::new(0), opening: Vec::new(), scratch: Scratch::default() }
    }

    fn route(
        &mut self,
        path: &str,
        head: &Head<'_>,
        asker: Asker<'_>,
        call: Call<'_, '_>,
    ) -> Answered {
        match path {
            "/sub" | "/poll" => self.icomet(Transport::IcometPoll, head, asker, call),
            "/stream" => self.icomet(Transport::IcometStream, head, asker, call),
            "/sse" => self.icomet(Transport::IcometSse, head, asker, call),
            "/iframe" => self.icomet(Transport::IcometIframe, head, asker, call),
            "/ping" => self.ping(head, asker, call),
            "/v1/poll" => self.modern(Transport::Poll, head, asker, call),
            "/v1/stream" => self.modern(Transport::Stream, head, asker, call),
            "/v1/socket" => self.socket(head, asker, call),
            "/v1/events" => self.modern(Transport::Sse, head, asker, call),
            "/eserver.js" | "/openapi.json" if !matches!(head.method, "GET" | "HEAD") => {
                Answer::method("GET, HEAD, OPTIONS").give_to(asker, call)
            }
            "/eserver.js" => Answer::client().give_to(asker, call),
            "/openapi.json" => Answer::description().give_to(asker, call),
            _ if path.starts_with("/v1/") => {
                let answer = Answer::error(404, "unknown_path", "there is nothing here");
                answer.give_to(asker, call)
            }
            _ => {
                let message = "there is nothing here; see docs/comet-api.md for what is\n";
                Answer::text(404, message).give_to(asker, call)
            }
        }
    }
}

impl Application for Front {
    fn body(&mut self, _: &Head<'_>) -> BodyPlan {
        BodyPlan::Unread
    }

    fn call(&mut self, head: &Head<'_>, _: &[u8], call: Call<'_, '_>) -> Answered {
        let asker = Asker::of(head, &self.station.borrow().policies().settings().origins);
        if head.method == "OPTIONS" {
            return preflight(asker, call);
        }
        match decode_path(head.path) {
            Ok(path) => self.route(&path, head, asker, call),
            Err(bad) => Answer::text(400, format!("{bad}\n")).give_to(asker, call),
        }
    }

    fn receive(&mut self, slot: u32, input: &[u8], conn: &mut Conn<'_>) -> Received {
        // Bytes that came with the request: the answer is on its way before this.
        self.open_sockets(&mut conn.conns());
        self.socket_received(slot, input, conn)
    }

    /// It opens nothing: who waits here may be anywhere.
    fn may_park(&self) -> bool {
        true
    }

    fn turn_ended(&mut self, conns: &mut Conns<'_>) {
        self.open_sockets(conns);
        self.station.borrow_mut().turn_ended(conns);
    }

    fn told(&mut self, message: Box<dyn Any + Send>, conns: &mut Conns<'_>) {
        if let Ok(bundle) = message.downcast::<Bundle>() {
            self.station.borrow_mut().receive(*bundle, conns);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.station.borrow().deadline()
    }

    fn wake(&mut self, conns: &mut Conns<'_>) {
        self.station.borrow_mut().wake(conns);
    }

    fn drained(&mut self, slot: u32, conns: &mut Conns<'_>) {
        self.station.borrow_mut().catch_up(slot, conns);
    }

    /// Who closes its side is gone, as with icomet: a browser's page that was left looks just so.
    fn peer_done(&mut self, slot: u32, conns: &mut Conns<'_>) {
        self.station.borrow_mut().hang_up(slot, conns);
    }

    fn released(&mut self, slot: u32) {
        self.station.borrow_mut().release(slot);
    }

    fn trim(&mut self) {
        self.opening.shrink_to_fit();
        self.scratch = Scratch::default();
        self.station.borrow_mut().trim();
    }

    fn draining(&mut self, conns: &mut Conns<'_>) {
        self.station.borrow_mut().drain(conns);
    }
}

/// A page that is let in may do here what can be done here; CORS wants that said before.
fn preflight(asker: Asker<'_>, call: Call<'_, '_>) -> Answered {
    call.reply_with(204, |mut response| {
        asker.tell(&mut response);
        if matches!(asker, Asker::Anybody | Asker::Page(_)) {
            response.line(&super::ANY_METHOD);
            response.line(&super::ANY_HEADER);
            response.line(&super::PREFLIGHT_AGE);
        }
        response.body(b"");
    })
}
