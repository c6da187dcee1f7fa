//! Subscribing as icomet's clients do: one channel, one transport a path.

use std::borrow::Cow;

use eserver::http::{Answered, Call, Head, StreamTo};

use crate::channel_name::ChannelName;
use crate::letter::{Access, Start};
use crate::render::{self, Callback};
use crate::room::Subscription;
use crate::service::answer::Answer;
use crate::service::asker::Asker;
use crate::service::front::Front;
use crate::service::line::{Line, Slot};
use crate::service::parameters::{number, parameters};
use crate::transport::Transport;

/// What `/ping` calls when it is not said what to call.
const DEFAULT_CALLBACK: &str = "icomet_cb";

impl Front {
    /// Answers `/sub`, `/poll`, `/stream`, `/sse` and `/iframe`.
    pub(super) fn icomet(
        &mut self,
        transport: Transport,
        head: &Head<'_>,
        asker: Asker<'_>,
        mut call: Call<'_, '_>,
    ) -> Answered {
        if head.method != "GET" {
            return Answer::method("GET, OPTIONS").give_to(asker, call);
        }
        let names = ["cname", "seq", "noop", "token", "cb"];
        // Without a body nothing can be wrong with it.
        let values = parameters(head, &[], names).unwrap_or_default();
        let [channel, seq, noop, token, callback] = values.map(Option::unwrap_or_default);
        let channel = match ChannelName::new(&channel) {
            Ok(channel) => channel,
            Err(error) => return Answer::text(400, format!("{error}\n")).give_to(asker, call),
        };
        let callback = match callback_of(&callback) {
            Ok(callback) => callback.filter(|_| transport.is_poll()),
            Err(answer) => return answer.give_to(asker, call),
        };
        let mut station = self.station.borrow_mut();
        let media_type = render::media_type(transport, callback.is_some());
        let ticket = call.ticket();
        let stream = ticket.stream(&mut call.conns(), 200, |response| {
            response.line(&super::super::EXPIRES);
            response.line(&super::super::NO_CACHE);
            asker.tell(response);
            response.line(&super::super::NO_SNIFFING);
            if !transport.is_poll() {
                response.line(&super::super::NO_BUFFERING);
            }
            // A constant of ours can stand in a head.
            let _ = response.field("Content-Type", media_type.as_bytes());
        });
        if transport == Transport::IcometIframe {
            stream.chunk(&mut call.conns(), render::IFRAME_PREAMBLE.as_bytes());
        }
        let channels = [(channel, Start::Icomet(number(&seq) as i32))];
        let subscription = Subscription {
            handle: Line::Stream(stream),
            transport,
            channels: &channels,
            access: Access::Token(Box::from(&*token)),
            noop: number(&noop) as i32,
            subject: None,
            ends_at: None,
        };
        match station.subscribe(subscription, callback, None, &mut call.conns()) {
            Ok(Some(id)) => call.hold(Slot::Subscriber(id).get()).1,
            Ok(None) => call.given(),
            Err(error) => {
                // icomet's transports have one channel, so this is not to be seen.
                tracing::error!(%error, "a subscription was refused");
                StreamTo::finish(stream, &mut call.conns());
                call.given()
            }
        }
    }

    /// Answers `/ping`: always a call.
    pub(super) fn ping(
        &mut self,
        head: &Head<'_>,
        asker: Asker<'_>,
        call: Call<'_, '_>,
    ) -> Answered {
        let [callback] = parameters(head, &[], ["cb"]).unwrap_or_default();
        let callback = callback.filter(|callback| !callback.is_empty());
        let callback = callback.unwrap_or(Cow::Borrowed(DEFAULT_CALLBACK));
        let timeout_s = self.station.borrow().policies().settings().channel.poll_timeout_s;
        let json = format!("{{\"type\":\"ping\",\"sub_timeout\":{timeout_s}}}");
        match callback_of(&callback) {
            Ok(callback) => Answer::called_with(callback, &json).give_to(asker, call),
            Err(answer) => answer.give_to(asker, call),
        }
    }
}

/// What a client wants called, if anything. What is no name of a function is refused: it could be a
/// script.
pub(crate) fn callback_of(text: &str) -> Result<Option<Callback<'_>>, Answer> {
    if text.is_empty() {
        return Ok(None);
    }
    match Callback::new(text) {
        Some(callback) => Ok(Some(callback)),
        None => Err(Answer::text(400, "cb is not the name of a function\n")),
    }
}
