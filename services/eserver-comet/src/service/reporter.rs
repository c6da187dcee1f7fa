//! [`Reporter`]: puts what becomes of channels into a durable queue, for webhooks.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use eserver::Intake;

use crate::letter::{Event, EventKind};
use crate::service::watchers::write_event;

/// Puts events into a queue.
#[derive(Clone)]
pub(crate) struct Reporter(Arc<dyn Intake>);

impl Reporter {
    pub(crate) fn new(intake: Arc<dyn Intake>) -> Self {
        Reporter(intake)
    }

    /// Reports those of the events that webhooks are about.
    pub(crate) fn report(&self, events: &[Event]) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let payloads: Vec<_> =
            events.iter().filter_map(|event| payload(event, now.as_millis())).collect();
        if payloads.is_empty() {
            return;
        }
        self.0.put(
            payloads,
            Box::new(|result| {
                if let Err(error) = result {
                    tracing::error!(%error, "events are lost to webhooks");
                }
            }),
        );
    }
}

/// What is stored of an event: the JSON object that is sent later, without its id.
fn payload(event: &Event, now_unix_ms: u128) -> Option<Vec<u8>> {
    let (kind, subject) = match &event.what {
        EventKind::Occupied => ("occupied", None),
        EventKind::Vacated => ("vacated", None),
        EventKind::MemberJoined(subject) => ("join", Some(&**subject)),
        EventKind::MemberLeft(subject) => ("leave", Some(&**subject)),
        EventKind::Created | EventKind::StillThere | EventKind::Removed => return None,
    };
    let mut json = String::new();
    write_event(kind, &event.channel, subject, &mut json);
    json.pop();
    json.push_str(&format!(",\"time_unix_ms\":{now_unix_ms}}}"));
    Some(json.into_bytes())
}
