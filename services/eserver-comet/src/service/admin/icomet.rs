//! Publishing and asking as icomet's clients do.

use std::borrow::Cow;

use eserver::http::{Answered, Call, Head};

use crate::channel_name::ChannelName;
use crate::hub::PublishError;
use crate::message::{Data, write_quoted};
use crate::service::admin::Admin;
use crate::service::answer::{Answer, OK};
use crate::service::front::callback_of;
use crate::service::parameters::{number, parameters};
use crate::service::question::{Outcome, Question};
use crate::service::watchers::{Dialect, Watcher};

impl Admin {
    /// Answers `/push`, and `/pub`, whose content is the inside of a JSON string already.
    pub(super) fn push(
        &mut self,
        is_inside: bool,
        head: &Head<'_>,
        body: &[u8],
        mut call: Call<'_, '_>,
    ) -> Answered {
        if !matches!(head.method, "GET" | "POST") {
            return Answer::method("GET, POST").give(call);
        }
        let values = match parameters(head, body, ["cname", "content", "cb"]) {
            Ok(values) => values,
            Err(bad) => return Answer::text(bad.status(), format!("{bad}\n")).give(call),
        };
        let [Some(channel), content, callback] = values else {
            // icomet takes it for the channel without a name, and says that all is well.
            return Answer::text(400, "cname is missing\n").give(call);
        };
        let (content, callback) = (content.unwrap_or_default(), callback.unwrap_or_default());
        let (channel, callback) = match (ChannelName::new(&channel), callback_of(&callback)) {
            (Ok(channel), Ok(callback)) => (channel, callback),
            (Err(error), _) => return Answer::text(400, format!("{error}\n")).give(call),
            (_, Err(answer)) => return answer.give(call),
        };
        let data = if is_inside { Data::inside_string(&content) } else { Data::text(&content) };
        let question = Question::Publish { channel: channel.into(), data, event: None, key: None };
        let mut station = self.station.borrow_mut();
        if station.owns(channel) {
            return pushed(&station.ask_here(question), callback).give(call);
        }
        let callback = callback.map(|callback| callback.as_str().to_owned());
        let ticket = call.ticket();
        station.ask(channel, question, &mut call.conns(), move |outcome, conns| {
            let callback = callback.as_deref().map(callback_of).and_then(Result::ok).flatten();
            pushed(&outcome, callback).give_by(ticket, conns);
        });
        call.given()
    }

    /// Answers `/broadcast`.
    pub(super) fn broadcast(&mut self, head: &Head<'_>, mut call: Call<'_, '_>) -> Answered {
        if head.method != "GET" {
            return Answer::method("GET").give(call);
        }
        let [content] = parameters(head, &[], ["content"]).unwrap_or_default();
        let data = Data::text(&content.unwrap_or_default());
        let mut station = self.station.borrow_mut();
        let bytes_max = station.policies().settings().message_bytes_max;
        if data.as_json().len() > bytes_max {
            let sentence = format!("the data may have {bytes_max} bytes\n");
            return Answer::text(413, sentence).give(call);
        }
        let ticket = call.ticket();
        let question = Question::Broadcast(data);
        station.ask_all(&question, &mut call.conns(), move |_, conns| {
            Answer::text(200, "ok\n").give_by(ticket, conns);
        });
        call.given()
    }

    /// Answers `/sign`.
    pub(super) fn sign(&mut self, head: &Head<'_>, body: &[u8], call: Call<'_, '_>) -> Answered {
        let values = parameters(head, body, ["cname", "expires", "cb"]);
        let [channel, expires, callback] = match values {
            Ok(values) => values.map(Option::unwrap_or_default),
            Err(bad) => return Answer::text(bad.status(), format!("{bad}\n")).give(call),
        };
        let callback = match callback_of(&callback) {
            Ok(callback) => callback.map(|callback| callback.as_str().to_owned()),
            Err(answer) => return answer.give(call),
        };
        // Clients read it as a number of 32 bits.
        let expires_s = number(&expires).min(i64::from(i32::MAX));
        let make = |channel: ChannelName<'_>| Question::Sign { channel: channel.into(), expires_s };
        self.ask_about(named(&channel), make, call, move |channel, outcome| {
            let Outcome::Signed(Ok(signed)) = outcome else { return Answer::empty(429) };
            let mut json = String::from("{\"type\":\"sign\",\"cname\":");
            write_quoted(channel, &mut json);
            json.push_str(&format!(
                ",\"seq\":{},\"token\":\"{}\",\"expires\":{},\"sub_timeout\":{}}}",
                signed.seq.wrapped(),
                signed.token.as_str(),
                signed.expires_s,
                signed.poll_timeout_s
            ));
            let callback = callback.as_deref().map(callback_of).and_then(Result::ok).flatten();
            Answer::called_with(callback, &json)
        })
    }

    /// Answers `/close`.
    pub(super) fn close(&mut self, head: &Head<'_>, body: &[u8], call: Call<'_, '_>) -> Answered {
        let channel = channel_of(head, body);
        self.ask_about(named(&channel), |channel| Question::Close(channel.into()), call, next_of)
    }

    /// Answers `/clear`.
    pub(super) fn clear(&mut self, head: &Head<'_>, body: &[u8], call: Call<'_, '_>) -> Answered {
        let channel = channel_of(head, body);
        self.ask_about(named(&channel), |channel| Question::Clear(channel.into()), call, next_of)
    }

    /// Answers `/info`.
    pub(super) fn info(
        &mut self,
        head: &Head<'_>,
        body: &[u8],
        mut call: Call<'_, '_>,
    ) -> Answered {
        let channel = channel_of(head, body);
        if !channel.is_empty() {
            let question = |channel: ChannelName<'_>| Question::Info(channel.into());
            return self.ask_about(named(&channel), question, call, |channel, outcome| {
                let Outcome::Info(info) = outcome else { return Answer::empty(500) };
                let subscribers = info.as_ref().map_or(0, |info| info.subscribers);
                let mut json = String::from("{\"cname\": ");
                write_quoted(channel, &mut json);
                Answer::json(200, format!("{json}, \"subscribers\": {subscribers}}}\n"))
            });
        }
        let mut station = self.station.borrow_mut();
        let ticket = call.ticket();
        station.ask_all(&Question::Count, &mut call.conns(), move |outcomes, conns| {
            let (mut all_channels, mut all_subscriptions) = (0, 0);
            for outcome in outcomes {
                if let Outcome::Count { channels, subscriptions } = outcome {
                    all_channels += channels;
                    all_subscriptions += subscriptions;
                }
            }
            let version = env!("CARGO_PKG_VERSION");
            let json = format!(
                "{{\"version\": \"{version}\", \"channels\": {all_channels}, \
                 \"subscribers\": {all_subscriptions}}}\n"
            );
            Answer::json(200, json).give_by(ticket, conns);
        });
        call.given()
    }

    /// Answers `/check`.
    pub(super) fn check(&mut self, head: &Head<'_>, body: &[u8], call: Call<'_, '_>) -> Answered {
        let question = |channel: ChannelName<'_>| Question::Info(channel.into());
        self.ask_about(named(&channel_of(head, body)), question, call, |channel, outcome| {
            let Outcome::Info(Some(_)) = outcome else { return Answer::json(200, "{}\n") };
            let mut json = String::from("{");
            write_quoted(channel, &mut json);
            Answer::json(200, format!("{json}: 1}}\n"))
        })
    }

    /// Answers `/psub`: lines without end.
    pub(super) fn psub(&mut self, mut call: Call<'_, '_>) -> Answered {
        let stream = call.ticket().stream(&mut call.conns(), 200, |response| {
            response.line(&super::super::NO_CACHE);
            response.line(&super::super::NO_BUFFERING);
            response.line(&super::super::PLAIN_TEXT);
        });
        self.begin_watch(Watcher { stream, dialect: Dialect::Icomet, prefix: "".into() }, call)
    }
}

/// The channel that is asked about; the one without a name if none is said.
fn channel_of<'a>(head: &Head<'a>, body: &'a [u8]) -> Cow<'a, str> {
    let [channel] = parameters(head, body, ["cname"]).unwrap_or_default();
    channel.unwrap_or_default()
}

fn named(channel: &str) -> Result<ChannelName<'_>, Answer> {
    ChannelName::new(channel).map_err(|error| Answer::text(400, format!("{error}\n")))
}

fn next_of(channel: &str, outcome: &Outcome) -> Answer {
    match outcome {
        Outcome::Next(Ok(next)) => Answer::text(200, format!("ok {}\n", next.wrapped())),
        _ => Answer::text(404, format!("channel[{channel}] not connected\n")),
    }
}

fn pushed(outcome: &Outcome, callback: Option<crate::render::Callback<'_>>) -> Answer {
    match outcome {
        Outcome::Published(Ok(_)) => Answer::called(callback, OK),
        Outcome::Published(Err(PublishError::ChannelsFull)) => Answer::empty(429),
        Outcome::Published(Err(error)) => Answer::text(413, format!("{error}\n")),
        _ => Answer::empty(500),
    }
}
