//! Subscribing by the modern API: several channels, a cursor, a transport a path.

use std::borrow::Cow;

use eserver::http::{Answered, Call, Head};
use eserver_wire::http::query_pairs;

use crate::channel_name::ChannelName;
use crate::cursor::Cursor;
use crate::letter::{Access, Start};
use crate::render;
use crate::room::Subscription;
use crate::service::answer::Answer;
use crate::service::asker::Asker;
use crate::service::front::Front;
use crate::service::line::{Line, Slot};
use crate::service::right::Right;
use crate::service::station::Station;
use crate::transport::Transport;

/// When the client of a stream of events that is cut off is to come again, in milliseconds: spread
/// over a window, so that after a failure they do not come all at once.
const RETRY_MS: std::ops::Range<u64> = 1_000..4_000;

/// What a request wants to listen to.
pub(super) struct Wanted<'a> {
    channels: Vec<Cow<'a, str>>,
    cursor: Cow<'a, str>,
    token: Cow<'a, str>,
    /// Where to begin in channels that the cursor does not know.
    start: Start,
}

impl<'a> Wanted<'a> {
    /// Reads the query and the header fields.
    pub(super) fn read(head: &Head<'a>) -> Result<Self, Answer> {
        let mut wanted = Wanted {
            channels: Vec::new(),
            cursor: Cow::Borrowed(""),
            token: bearer(head).into(),
            start: Start::Now,
        };
        for (name, value) in query_pairs(head.query.unwrap_or_default().as_bytes()) {
            match &*name {
                "channel" => wanted.channels.push(value),
                "cursor" | "last_event_id" => wanted.cursor = value,
                "token" if wanted.token.is_empty() => wanted.token = value,
                "start" => {
                    wanted.start = match &*value {
                        "now" => Start::Now,
                        "all" => Start::All,
                        _ => return Err(bad_request("start is `now` or `all`")),
                    };
                }
                _ => {}
            }
        }
        // A client that comes back says where it was in the header; its address is from before.
        if let Some(id) = head.fields.get_str("last-event-id").filter(|id| !id.is_empty()) {
            wanted.cursor = id.into();
        }
        Ok(wanted)
    }

    /// The same, to be kept.
    pub(super) fn into_owned(self) -> Wanted<'static> {
        let own = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        Wanted {
            channels: self.channels.into_iter().map(own).collect(),
            cursor: own(self.cursor),
            token: own(self.token),
            start: self.start,
        }
    }

    /// What the token is worth.
    pub(super) fn right(&self, station: &Station) -> Result<Right, Answer> {
        let auth = station.policies().settings().auth;
        Ok(Right::of(&self.token, auth, &station.secrets)?)
    }

    /// The access to all of the channels; none if there are none.
    pub(super) fn access(
        &self,
        station: &Station,
        right: &Right,
    ) -> Result<Option<Access>, Answer> {
        let channels = self.starts()?;
        let channels_max = station.policies().settings().subscription_channels_max;
        if channels.len() > channels_max {
            let message = format!("a subscription may have {channels_max} channels");
            return Err(Answer::error(400, "too_many_channels", &message));
        }
        let mut access = None;
        for (channel, _) in &channels {
            access = Some(right.to_subscribe(*channel)?);
        }
        Ok(access)
    }

    /// The channels, each with where to begin.
    pub(super) fn starts(&self) -> Result<Vec<(ChannelName<'_>, Start)>, Answer> {
        let cursor = read_cursor(&self.cursor)?;
        let named = self.channels.iter().enumerate().map(|(nth, channel)| {
            let channel = ChannelName::new(channel)
                .map_err(|error| Answer::error(400, "bad_channel", &error.to_string()))?;
            // Who listened to one channel may go on with more: its cursor is that of the first.
            let cursor = cursor.as_ref().filter(|one| nth == 0 || !matches!(one, Cursor::One(_)));
            let position = cursor.and_then(|cursor| cursor.position(channel));
            Ok((channel, position.map_or(self.start, Start::At)))
        });
        named.collect()
    }
}

impl Front {
    /// Answers `/v1/poll`, `/v1/stream` and `/v1/events`.
    pub(super) fn modern(
        &mut self,
        transport: Transport,
        head: &Head<'_>,
        asker: Asker<'_>,
        mut call: Call<'_, '_>,
    ) -> Answered {
        if head.method != "GET" {
            let answer = Answer::error(405, "bad_method", "only GET can be used here");
            return answer.allowing("GET, OPTIONS").give_to(asker, call);
        }
        let wanted = match Wanted::read(head) {
            Ok(wanted) => wanted,
            Err(answer) => return answer.give_to(asker, call),
        };
        let mut station = self.station.borrow_mut();
        let prepared = wanted.right(&station).and_then(|right| {
            let access = wanted.access(&station, &right)?;
            let access = access.ok_or_else(|| bad_request("channel is missing"))?;
            Ok((wanted.starts()?, right, access))
        });
        let (channels, right, access) = match prepared {
            Ok(prepared) => prepared,
            Err(answer) => return answer.give_to(asker, call),
        };
        let ticket = call.ticket();
        let handle = if transport.is_poll() {
            Line::Answer(ticket)
        } else {
            let media_type = render::media_type(transport, false);
            let stream = ticket.stream(&mut call.conns(), 200, |response| {
                response.line(&super::super::NO_STORE);
                asker.tell(response);
                response.line(&super::super::NO_SNIFFING);
                response.line(&super::super::NO_BUFFERING);
                // A constant of ours can stand in a head.
                let _ = response.field("Content-Type", media_type.as_bytes());
            });
            if transport == Transport::Sse {
                let spread = u64::from(self.spread());
                let retry_ms = RETRY_MS.start + spread % (RETRY_MS.end - RETRY_MS.start);
                stream.chunk(&mut call.conns(), format!("retry: {retry_ms}\n\n").as_bytes());
            }
            Line::Stream(stream)
        };
        let subscription = Subscription {
            handle,
            transport,
            channels: &channels,
            access,
            noop: 0,
            subject: right.subject(),
            ends_at: right.ends_at(station.now()),
        };
        match station.subscribe(subscription, None, asker.origin(), &mut call.conns()) {
            Ok(Some(id)) => call.hold(Slot::Subscriber(id).get()).1,
            Ok(None) => call.given(),
            Err(error) => {
                // All that could be wrong was looked at before.
                tracing::error!(%error, "a subscription was refused");
                call.conns().abandon(ticket.to);
                call.given()
            }
        }
    }

    /// Numbers that are spread well over all there are.
    fn spread(&self) -> u32 {
        let nth = self.spread.get().wrapping_add(1);
        self.spread.set(nth);
        nth.wrapping_mul(0x9e37_79b9) >> 8
    }
}

/// The token in the field Authorization (RFC 6750), or nothing.
fn bearer<'a>(head: &Head<'a>) -> &'a str {
    let authorization = head.fields.get_str("authorization").unwrap_or_default();
    match authorization.split_at_checked(7) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer ") => token.trim(),
        _ => "",
    }
}

/// The cursor that a text is, if it is not empty.
pub(super) fn read_cursor(text: &str) -> Result<Option<Cursor>, Answer> {
    if text.is_empty() {
        return Ok(None);
    }
    let bad = |_| Answer::error(400, "bad_cursor", "the cursor is not one that this server gives");
    text.parse().map(Some).map_err(bad)
}

fn bad_request(message: &str) -> Answer {
    Answer::error(400, "bad_request", message)
}
