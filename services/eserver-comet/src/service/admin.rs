//! [`Admin`]: the port of the application, which publishes.

mod icomet;
mod modern;

use std::any::Any;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use eserver::Conns;
use eserver::http::{Answered, Application, BodyPlan, Call, Following, Head};
use eserver_wire::http::decode_path;

use crate::channel_name::ChannelName;
use crate::service::answer::Answer;
use crate::service::asker::Asker;
use crate::service::mail::Bundle;
use crate::service::question::{Outcome, Question};
use crate::service::station::Station;
use crate::service::watchers::Watcher;

/// The admin port on one shard. Its connections' slots are watchers.
pub struct Admin {
    station: Rc<RefCell<Station>>,
}

impl Admin {
    pub(crate) fn new(station: Rc<RefCell<Station>>) -> Self {
        Admin { station }
    }

    /// Answers with what becomes of channels, from now on.
    fn begin_watch(&mut self, watcher: Watcher, call: Call<'_, '_>) -> Answered {
        if watcher.stream.following == Following::Nothing {
            return call.given(); // Asked by HEAD.
        }
        let slot = self.station.borrow_mut().watch(watcher);
        call.hold(slot).1
    }

    /// Asks the hub of a channel, if that is the name of one, and answers with what `answer` makes of
    /// the outcome.
    fn ask_about(
        &mut self,
        channel: Result<ChannelName<'_>, Answer>,
        question: impl FnOnce(ChannelName<'_>) -> Question,
        mut call: Call<'_, '_>,
        answer: impl FnOnce(&str, &Outcome) -> Answer + 'static,
    ) -> Answered {
        let name = match channel {
            Ok(name) => name,
            Err(answer) => return answer.give(call),
        };
        let (mut station, ticket) = (self.station.borrow_mut(), call.ticket());
        let (question, kept) = (question(name), name.as_str().to_owned());
        station.ask(name, question, &mut call.conns(), move |outcome, conns| {
            answer(&kept, &outcome).give_by(ticket, conns);
        });
        call.given()
    }

    fn route(&mut self, path: &str, head: &Head<'_>, body: &[u8], call: Call<'_, '_>) -> Answered {
        match path {
            "/push" => self.push(false, head, body, call),
            "/pub" => self.push(true, head, body, call),
            "/broadcast" => self.broadcast(head, call),
            // A browser that only asks what it may do, by OPTIONS, must not close anything.
            "/sign" | "/close" | "/clear" | "/info" | "/check" | "/psub"
                if !matches!(head.method, "GET" | "HEAD" | "POST" | "PUT" | "DELETE") =>
            {
                Answer::method("GET, HEAD, POST, PUT, DELETE").give(call)
            }
            "/sign" => self.sign(head, body, call),
            "/close" => self.close(head, body, call),
            "/clear" => self.clear(head, body, call),
            "/info" => self.info(head, body, call),
            "/check" => self.check(head, body, call),
            "/psub" => self.psub(call),
            "/openapi.json" if matches!(head.method, "GET" | "HEAD") => {
                Answer::description().give_to(Asker::Anybody, call)
            }
            "/openapi.json" => Answer::method("GET, HEAD").give(call),
            _ if path.starts_with("/v1/") => self.modern(head, body, call),
            _ => {
                let message = "there is nothing here; see docs/comet-api.md for what is\n";
                Answer::text(404, message).give(call)
            }
        }
    }
}

impl Application for Admin {
    fn body(&mut self, _: &Head<'_>) -> BodyPlan {
        let settings = self.station.borrow();
        let message_bytes_max = settings.policies().settings().message_bytes_max;
        // In a form, a character may take three.
        BodyPlan::Collect { bytes_max: message_bytes_max.saturating_mul(3) + 64 * 1024 }
    }

    fn call(&mut self, head: &Head<'_>, body: &[u8], call: Call<'_, '_>) -> Answered {
        match decode_path(head.path) {
            Ok(path) => self.route(&path, head, body, call),
            Err(bad) => Answer::text(400, format!("{bad}\n")).give(call),
        }
    }

    fn turn_ended(&mut self, conns: &mut Conns<'_>) {
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

    fn peer_done(&mut self, slot: u32, conns: &mut Conns<'_>) {
        self.station.borrow_mut().end_watch(slot, conns);
    }

    fn released(&mut self, slot: u32) {
        self.station.borrow_mut().unwatch(slot);
    }

    fn draining(&mut self, conns: &mut Conns<'_>) {
        self.station.borrow_mut().drain(conns);
    }
}
