//! What clients of icomet see, line by line of the description of its API; and, beside it, what it
//! does wrong and we do not. One shard, whose letters arrive at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{
    Access, Auth, Broadcast, ChannelCount, ChannelName, ChannelSettings, Data, Effects, Event,
    EventKind, Hub, Letters, Millis, Outgoing, Policies, Position, Publication, Published, Room,
    Secrets, Sent, Settings, Shards, Start, SubscriberId, Subscription, Transport, render,
};

/// A hub and a room of one shard, and what was told to whom, in icomet's dialect as a rule.
struct Desk {
    now: Millis,
    hub: Hub,
    room: Room<u32>,
    events: Vec<Event>,
    told: BTreeMap<u32, Vec<String>>,
    ended: Vec<u32>,
    next_handle: u32,
    /// Who subscribes next, and until when.
    subject: Option<Arc<str>>,
    ends_at: Option<Millis>,
}

fn name(text: &str) -> ChannelName<'_> {
    ChannelName::new(text).unwrap()
}

fn object(kind: &str, channel: &str, seq: i32, content: &str) -> String {
    format!(r#"{{"type":"{kind}","cname":"{channel}","seq":{seq},"content":"{content}"}}"#)
}

impl Desk {
    fn new(settings: Settings) -> Self {
        let now = Millis::new(1000);
        let secrets = Secrets::from_seed(9);
        let shards = Shards::new(1, secrets.names());
        let policies = Arc::new(Policies::new(settings));
        let count = ChannelCount::default();
        let mut hub = Hub::new(now, 0, shards, Arc::clone(&policies), secrets, count);
        hub.watch_events(true);
        Desk {
            now,
            hub,
            room: Room::new(now, shards, policies),
            events: Vec::new(),
            told: BTreeMap::new(),
            ended: Vec::new(),
            next_handle: 0,
            subject: None,
            ends_at: None,
        }
    }

    /// What icomet's own configuration is like, but for what is given.
    fn with(auth: Auth, channel: ChannelSettings) -> Self {
        Desk::new(Settings { auth, channel, ..Settings::default() })
    }

    fn open() -> Self {
        Desk::with(Auth::None, ChannelSettings::default())
    }

    fn settle(&mut self, mut letters: Letters, mut effects: Effects) {
        while !(letters.is_empty() && effects.letters.is_empty()) {
            for (_, letter) in std::mem::take(&mut letters) {
                self.hub.receive(self.now, 0, letter, &mut effects);
            }
            for (_, letter) in std::mem::take(&mut effects.letters) {
                let (told, ended) = (&mut self.told, &mut self.ended);
                let mut tell = |outgoing: Outgoing<'_, u32>| note(told, ended, &outgoing);
                self.room.receive(self.now, letter, &mut letters, &mut tell);
            }
        }
        self.events.append(&mut effects.events);
    }

    fn subscribe(
        &mut self,
        transport: Transport,
        channels: &[(&str, Start)],
        token: &str,
        noop: i32,
    ) -> (u32, SubscriberId) {
        let handle = self.next_handle;
        self.next_handle += 1;
        let channels: Vec<_> =
            channels.iter().map(|(channel, start)| (name(channel), *start)).collect();
        let access = Access::Token(token.into());
        let (subject, ends_at) = (self.subject.clone(), self.ends_at);
        let channels = channels.as_slice();
        let subscription =
            Subscription { handle, transport, channels, access, noop, subject, ends_at };
        let mut letters = Letters::new();
        let id = self.room.subscribe(self.now, subscription, &mut letters).unwrap();
        self.settle(letters, Effects::default());
        (handle, id)
    }

    fn poll(&mut self, channel: &str, seq: i32) -> u32 {
        self.subscribe(Transport::IcometPoll, &[(channel, Start::Icomet(seq))], "", 0).0
    }

    fn stream(&mut self, channel: &str, seq: i32) -> u32 {
        self.subscribe(Transport::IcometStream, &[(channel, Start::Icomet(seq))], "", 0).0
    }

    fn push(&mut self, channel: &str, content: &str) -> Published {
        self.try_push(channel, content).unwrap()
    }

    fn try_push(&mut self, channel: &str, content: &str) -> Result<Published, crate::PublishError> {
        let mut effects = Effects::default();
        let data = Data::text(content);
        let publication = Publication { data, event: None, idempotency_key: None };
        let published = self.hub.publish(self.now, name(channel), publication, &mut effects);
        self.settle(Letters::new(), effects);
        published
    }

    fn broadcast(&mut self, content: &str) -> Broadcast {
        let mut broadcast = Hub::broadcast(self.now, Data::text(content));
        let mut effects = Effects::default();
        while !self.hub.go_on(self.now, &mut broadcast, 3, &mut effects) {}
        self.settle(Letters::new(), effects);
        broadcast
    }

    fn sign(&mut self, channel: &str, expires_s: i64) -> crate::Signed {
        let mut effects = Effects::default();
        let signed = self.hub.sign(self.now, name(channel), expires_s, &mut effects).unwrap();
        self.settle(Letters::new(), effects);
        signed
    }

    fn close(&mut self, channel: &str) -> Option<u64> {
        let mut effects = Effects::default();
        let next = self.hub.close(name(channel), &mut effects).ok();
        self.settle(Letters::new(), effects);
        next.map(crate::Seq::get)
    }

    fn leave(&mut self, id: SubscriberId) {
        let mut letters = Letters::new();
        self.room.unsubscribe(id, &mut letters);
        self.settle(letters, Effects::default());
    }

    /// Lets time pass, and everything happen in its time.
    fn pass_ms(&mut self, milliseconds: u64) {
        let end = self.now.plus(milliseconds);
        loop {
            let next = self.hub.next_deadline().into_iter().chain(self.room.next_deadline()).min();
            let next = next.unwrap_or(end).max(self.now).min(end);
            self.now = next;
            let (mut letters, mut effects) = (Letters::new(), Effects::default());
            self.hub.wake(self.now, &mut effects);
            let (told, ended) = (&mut self.told, &mut self.ended);
            let mut tell = |outgoing: Outgoing<'_, u32>| note(told, ended, &outgoing);
            self.room.wake(self.now, &mut letters, &mut tell);
            self.settle(letters, effects);
            if next == end {
                return;
            }
        }
    }

    /// What somebody was told since this was asked.
    fn told(&mut self, handle: u32) -> Vec<String> {
        self.told.remove(&handle).unwrap_or_default()
    }

    fn is_over(&self, handle: u32) -> bool {
        self.ended.contains(&handle)
    }

    fn subscribers(&self, channel: &str) -> u32 {
        self.hub.info(name(channel)).map_or(0, |info| info.subscribers)
    }

    fn exists(&self, channel: &str) -> bool {
        self.hub.info(name(channel)).is_some()
    }
}

fn note(
    told: &mut BTreeMap<u32, Vec<String>>,
    ended: &mut Vec<u32>,
    outgoing: &Outgoing<'_, u32>,
) -> Sent {
    let mut text = String::new();
    render::write(outgoing, &mut text);
    if !text.is_empty() {
        told.entry(outgoing.handle).or_default().push(text);
    }
    if outgoing.ends {
        ended.push(outgoing.handle);
    }
    Sent::Yes
}

#[test]
fn seq_0_and_a_seq_ahead_are_told_the_next_one_and_a_poll_ends_there() {
    for seq in [0, 4, 5, i32::MAX] {
        let mut desk = Desk::open();
        for content in ["a", "b"] {
            desk.push("c", content);
        }
        let next_seq = object("next_seq", "c", 3, "");
        let poll = desk.poll("c", seq);
        assert_eq!(desk.told(poll), [next_seq.as_str()], "seq {seq}");
        assert!(desk.is_over(poll) && desk.subscribers("c") == 0);
        let stream = desk.stream("c", seq);
        assert_eq!(desk.told(stream), [format!("{next_seq}\n")]);
        assert!(!desk.is_over(stream) && desk.subscribers("c") == 1);
        desk.push("c", "x");
        assert_eq!(desk.told(stream), [object("data", "c", 3, "x") + "\n"], "it goes on");
    }
}

#[test]
fn an_unknown_channel_is_made_by_its_first_subscriber() {
    let mut desk = Desk::open();
    assert!(!desk.exists("c"));
    let poll = desk.poll("c", 1);
    assert!(desk.told(poll).is_empty() && desk.exists("c"), "it waits");
    desk.push("c", "x");
    assert_eq!(desk.told(poll), [object("data", "c", 1, "x")]);
    assert!(desk.is_over(poll));
}

#[test]
fn what_is_buffered_from_the_seq_on_comes_as_an_array_or_one_by_one() {
    for (seq, from) in [(1, 1), (2, 2), (3, 3), (-1, 1), (-77, 1), (i32::MIN, 1)] {
        let mut desk = Desk::open();
        for content in ["1", "2", "3"] {
            desk.push("c", content);
        }
        let objects: Vec<_> =
            (from..=3).map(|seq| object("data", "c", seq, &seq.to_string())).collect();
        let poll = desk.poll("c", seq);
        assert_eq!(desk.told(poll), [format!("[{}]", objects.join(","))], "seq {seq}");
        assert!(desk.is_over(poll), "an array even of one");
        let stream = desk.stream("c", seq);
        assert_eq!(desk.told(stream), [objects.join("\n") + "\n"]);
    }
}

#[test]
fn the_next_seq_waits_and_so_does_any_that_is_behind_when_nothing_is_buffered() {
    let mut desk = Desk::open();
    desk.push("c", "1");
    let poll = desk.poll("c", 2);
    assert!(desk.told(poll).is_empty() && !desk.is_over(poll));
    desk.hub.clear(name("c")).unwrap();
    for seq in [1, -1] {
        let poll = desk.poll("c", seq);
        assert!(desk.told(poll).is_empty() && !desk.is_over(poll), "seq {seq} after a clear");
    }
    // Trimmed: it gets what is left, and is not told of what is not.
    for content in 2..30 {
        desk.push("c", &content.to_string());
    }
    let poll = desk.poll("c", 3);
    let told = desk.told(poll).concat();
    assert!(told.starts_with(&format!("[{}", object("data", "c", 20, "20"))), "{told}");
    assert_eq!(told.matches("data").count(), 10, "exactly the buffer, where icomet has 10 to 14");
}

#[test]
fn a_live_message_is_one_object_to_a_poll() {
    let mut desk = Desk::open();
    let (poll, stream) = (desk.poll("c", 1), desk.stream("c", 1));
    let sse = desk.subscribe(Transport::IcometSse, &[("c", Start::Icomet(1))], "", 0).0;
    let frame = desk.subscribe(Transport::IcometIframe, &[("c", Start::Icomet(1))], "", 0).0;
    desk.push("c", "a\"</script>\n\u{1}é");
    let content = "a\\\"</script>\\n\\u0001é";
    assert_eq!(desk.told(poll), [object("data", "c", 1, content)]);
    assert_eq!(desk.told(stream), [object("data", "c", 1, content) + "\n"]);
    assert_eq!(desk.told(sse), [format!("data: {}\n\n", object("data", "c", 1, content))]);
    let in_script = object("data", "c", 1, "a\\\"\\u003c/script>\\n\\u0001é");
    assert_eq!(
        desk.told(frame),
        [format!("<script>parent.icomet_cb({in_script});</script>\n")],
        "no message ends its script element"
    );
    assert!(desk.is_over(poll) && !desk.is_over(stream) && !desk.is_over(sse));
}

#[test]
fn a_broadcast_takes_a_seq_of_every_channel_and_tells_the_one_after_it() {
    let mut desk = Desk::open();
    desk.push("idle", "1");
    let (poll, stream) = (desk.poll("c", 1), desk.stream("d", 1));
    assert_eq!(desk.broadcast("b").reached(), 3, "subscribed or not");
    let (broadcast, next_seq) = (object("broadcast", "c", 1, "b"), object("next_seq", "c", 2, ""));
    assert_eq!(desk.told(poll), [format!("[{broadcast},{next_seq}]")]);
    assert_eq!(desk.told(stream), [format!("{broadcast}\n{next_seq}\n").replace("\"c\"", "\"d\"")]);
    // It is buffered, too, and followed by its next_seq there.
    let poll = desk.poll("idle", 1);
    let objects = [
        object("data", "idle", 1, "1"),
        object("broadcast", "idle", 2, "b"),
        object("next_seq", "idle", 3, ""),
    ];
    assert_eq!(desk.told(poll), [format!("[{}]", objects.join(","))]);
    assert!(!desk.exists("new"), "it makes no channel");
}

#[test]
fn noop_counts_on_from_the_clients_own_number() {
    let seconds = 10;
    let channel = ChannelSettings { poll_timeout_s: seconds, ..ChannelSettings::default() };
    let mut desk = Desk::with(Auth::None, channel);
    let start = Start::Icomet(1);
    let poll = desk.subscribe(Transport::IcometPoll, &[("c", start)], "", 41).0;
    let stream = desk.subscribe(Transport::IcometStream, &[("c", start)], "", 7).0;
    desk.pass_ms(9_900);
    assert!(desk.told(poll).is_empty() && desk.told(stream).is_empty());
    desk.pass_ms(1_100);
    assert_eq!(desk.told(poll), [object("noop", "c", 41, "")]);
    assert!(desk.is_over(poll) && desk.subscribers("c") == 1);
    assert_eq!(desk.told(stream), [object("noop", "c", 7, "") + "\n"]);
    desk.pass_ms(11_000);
    assert_eq!(desk.told(stream), [object("noop", "c", 8, "") + "\n"]);
    // Any message is a sign of life; the count goes on.
    for _ in 0..9 {
        desk.pass_ms(3_000);
        desk.push("c", "x");
    }
    assert!(!desk.told(stream).concat().contains("noop"));
    desk.pass_ms(10_600);
    assert_eq!(desk.told(stream), [object("noop", "c", 9, "") + "\n"]);
}

#[test]
fn closing_tells_the_next_seq_and_ends_the_answers() {
    let mut desk = Desk::open();
    assert_eq!(desk.close("c"), None, "404");
    desk.push("c", "1");
    let (poll, stream) = (desk.poll("c", 2), desk.stream("c", 2));
    assert_eq!(desk.close("c"), Some(2));
    assert_eq!(desk.told(poll), [object("close", "c", 2, "")]);
    assert_eq!(desk.told(stream), [object("close", "c", 2, "") + "\n"]);
    assert!(desk.is_over(poll) && desk.is_over(stream) && !desk.exists("c"));
    assert_eq!((desk.room.subscriptions(), desk.room.channels()), (0, 0));
    assert_eq!(desk.hub.subscribers(), 0);
}

#[test]
fn clearing_keeps_the_seq() {
    let mut desk = Desk::open();
    assert!(desk.hub.clear(name("c")).is_err(), "404");
    desk.push("c", "1");
    assert_eq!(desk.hub.clear(name("c")).unwrap().get(), 2);
    assert_eq!(desk.push("c", "2").seq.get(), 2);
}

#[test]
fn with_tokens_a_subscription_needs_the_channels_and_makes_none() {
    let mut desk = Desk::with(Auth::Token, ChannelSettings::default());
    let error = object("401", "c", 0, "Token error");
    let poll = desk.poll("c", 1);
    assert_eq!(desk.told(poll), [error.as_str()]);
    assert!(desk.is_over(poll) && !desk.exists("c"), "it never creates a channel");
    // A push makes one with a token that nobody knows before it is signed.
    desk.push("c", "1");
    let stream = desk.stream("c", 1);
    assert_eq!(desk.told(stream), [format!("{error}\n")]);
    assert!(desk.is_over(stream));
    let token = desk.sign("c", 60).token;
    assert_eq!(desk.sign("c", 60).token, token, "signing again gives the same");
    let subscribe = |desk: &mut Desk, token: &str| {
        let start = Start::Icomet(1);
        let handle = desk.subscribe(Transport::IcometPoll, &[("c", start)], token, 0).0;
        desk.told(handle).concat()
    };
    assert!(subscribe(&mut desk, token.as_str()).starts_with("[{\"type\":\"data\""));
    for bad in ["", "x", &token.as_str()[1..], &token.as_str().to_uppercase()] {
        assert_eq!(subscribe(&mut desk, bad), error, "{bad}");
    }
    desk.close("c");
    let renewed = desk.sign("c", 60);
    assert_ne!(renewed.token, token, "another life has another token");
    assert_eq!(subscribe(&mut desk, token.as_str()), error);
    assert_eq!(desk.push("c", "again").seq.get(), 1, "and starts at 1");
}

#[test]
fn limits_are_429() {
    let channel = ChannelSettings { subscribers_max: 2, ..ChannelSettings::default() };
    let mut desk = Desk::new(Settings { channels_max: 2, channel, ..Settings::default() });
    let streams = [desk.stream("c", 1), desk.stream("c", 1)];
    let third = desk.poll("c", 1);
    assert_eq!(desk.told(third), [object("429", "c", 0, "Too many subscribers")]);
    assert!(desk.is_over(third) && streams.iter().all(|stream| !desk.is_over(*stream)));
    desk.push("d", "1");
    let fourth = desk.poll("e", 1);
    assert_eq!(desk.told(fourth), [object("429", "e", 0, "Too many channels")]);
    assert_eq!(desk.try_push("e", "1"), Err(crate::PublishError::ChannelsFull));
    let sign = desk.hub.sign(desk.now, name("e"), 0, &mut Effects::default());
    assert!(sign.is_err() && desk.try_push("d", "2").is_ok());
    desk.close("d");
    assert!(desk.try_push("e", "1").is_ok(), "there is room again");
}

#[test]
fn a_subscriber_who_leaves_makes_room() {
    let channel = ChannelSettings { subscribers_max: 1, ..ChannelSettings::default() };
    let mut desk = Desk::with(Auth::None, channel);
    let start = [("c", Start::Icomet(1))];
    for _ in 0..3 {
        let (poll, id) = desk.subscribe(Transport::IcometPoll, &start, "", 0);
        assert!(desk.told(poll).is_empty());
        desk.leave(id);
        assert_eq!(desk.subscribers("c"), 0);
    }
}

#[test]
fn signing_tells_the_oldest_seq_that_is_kept() {
    for (history_messages_max, pushes, seq) in
        [(10, 0, 1), (10, 3, 1), (10, 15, 6), (20, 15, 1), (0, 5, 6)]
    {
        // icomet takes 10 for the size of the buffer, whatever it is.
        let channel = ChannelSettings { history_messages_max, ..ChannelSettings::default() };
        let mut desk = Desk::with(Auth::None, channel);
        for _ in 0..pushes {
            desk.push("c", "x");
        }
        assert_eq!(desk.sign("c", 60).seq.get(), seq, "{history_messages_max} {pushes}");
    }
}

#[test]
fn a_channel_without_subscribers_ends_in_its_time() {
    for (expires_s, lives_ms) in [(0, 3_000), (-1, 3_000), (1, 1_000), (2, 2_000), (60, 60_000)] {
        let channel = ChannelSettings { idle_s: 3, ..ChannelSettings::default() };
        let mut desk = Desk::with(Auth::None, channel);
        let signed = desk.sign("c", expires_s);
        assert_eq!(u64::from(signed.expires_s) * 1000, lives_ms);
        desk.pass_ms(lives_ms - 1);
        assert!(desk.exists("c"), "{expires_s}: too early");
        desk.pass_ms(601);
        assert!(!desk.exists("c"), "{expires_s}: too late");
    }
}

#[test]
fn what_happens_to_a_channel_prolongs_its_life_to_the_idle_time_and_a_signature_sets_it() {
    type Act = fn(&mut Desk);
    let acts: [(&str, Act); 3] = [
        ("push", |desk| _ = desk.push("c", "x")),
        ("broadcast", |desk| _ = desk.broadcast("x")),
        ("subscribe", |desk| _ = desk.poll("c", 0)),
    ];
    for (what, act) in acts {
        let channel = ChannelSettings { idle_s: 3, ..ChannelSettings::default() };
        let mut desk = Desk::with(Auth::None, channel);
        desk.sign("c", 1);
        act(&mut desk);
        desk.pass_ms(2_900);
        act(&mut desk);
        desk.pass_ms(2_900);
        assert!(desk.exists("c"), "{what}");
        desk.pass_ms(700);
        assert!(!desk.exists("c"), "{what}");
        desk.sign("c", 60);
        act(&mut desk);
        desk.pass_ms(50_000);
        assert!(desk.exists("c"), "{what} shortens nothing");
        desk.sign("c", 1);
        desk.pass_ms(1_600);
        assert!(!desk.exists("c"), "signing again does");
    }
}

#[test]
fn a_subscribed_channel_never_ends_and_then_has_the_idle_time() {
    let channel = ChannelSettings { idle_s: 3, ..ChannelSettings::default() };
    let mut desk = Desk::with(Auth::None, channel);
    let (_, id) = desk.subscribe(Transport::IcometStream, &[("c", Start::Icomet(1))], "", 0);
    desk.pass_ms(100_000);
    assert!(desk.exists("c"));
    desk.leave(id);
    desk.pass_ms(2_900);
    assert!(desk.exists("c"));
    desk.pass_ms(700);
    assert!(!desk.exists("c"));
    assert_eq!(desk.push("c", "x").seq.get(), 1, "seq and history went with it");
}

#[test]
fn seqs_are_32_bits_and_come_round() {
    use crate::hub::behind;
    let wrap = 1_u64 << 32;
    for (seq, next, expected) in [
        (0, 10, None),
        (1, 1, Some(0)),
        (1, 10, Some(9)),
        (10, 10, Some(0)),
        (11, 10, None),
        (-1, 10, Some(u64::MAX)),
        (i32::MIN, 10, Some(u64::MAX)),
        (i32::MAX, (1 << 31) + 5, Some(6)),
        (i32::MIN, (1 << 31) + 5, Some(5)),
        (i32::MIN + 6, (1 << 31) + 5, None),
        (-3, wrap + 4, Some(7)),
        (2, wrap + 4, Some(2)),
        (-1, wrap - 1, Some(0)),
    ] {
        assert_eq!(behind(seq, crate::Seq::new(next)), expected, "{seq} {next}");
    }
    assert_eq!(crate::Seq::new(wrap - 1).wrapped(), -1);
}

#[test]
fn what_becomes_of_channels_is_told() {
    use EventKind::{Created, Occupied, Removed, Vacated};
    let channel = ChannelSettings { idle_s: 30, ..ChannelSettings::default() };
    let mut desk = Desk::with(Auth::None, channel);
    let kinds = |desk: &mut Desk| {
        std::mem::take(&mut desk.events).into_iter().map(|event| event.what).collect::<Vec<_>>()
    };
    desk.push("c", "1");
    assert_eq!(kinds(&mut desk), [Created]);
    let start = [("c", Start::Icomet(2))];
    let (_, first) = desk.subscribe(Transport::IcometPoll, &start, "", 0);
    assert_eq!(kinds(&mut desk), [Occupied]);
    // A poll that comes again soon was not away.
    desk.leave(first);
    desk.pass_ms(3_000);
    let (_, second) = desk.subscribe(Transport::IcometPoll, &start, "", 0);
    desk.pass_ms(20_000);
    assert_eq!(kinds(&mut desk), []);
    desk.leave(second);
    // Nor was one that got its answer at once.
    desk.pass_ms(3_000);
    desk.poll("c", 0);
    desk.pass_ms(3_000);
    assert_eq!(kinds(&mut desk), []);
    desk.pass_ms(2_600);
    assert_eq!(kinds(&mut desk), [Vacated]);
    desk.pass_ms(23_000);
    assert_eq!(kinds(&mut desk), []);
    // icomet's 0 comes when the channel ends, not when it is left.
    desk.pass_ms(3_000);
    assert_eq!(kinds(&mut desk), [Removed]);
    desk.stream("d", 1);
    desk.close("d");
    assert_eq!(kinds(&mut desk), [Created, Occupied, Vacated, Removed]);
}

#[test]
fn a_name_needs_no_care_and_cannot_break_out() {
    let mut desk = Desk::open();
    let channel = "a\"b\n</script>";
    let sse = desk.subscribe(Transport::IcometSse, &[(channel, Start::Icomet(1))], "", 0).0;
    desk.push(channel, "x\r\n\r\ndata: forged");
    let told = desk.told(sse).concat();
    assert_eq!(told.lines().count(), 2, "{told:?}: one line and an empty one");
    let json: serde_json::Value = serde_json::from_str(&told[6..]).unwrap();
    assert_eq!(json["cname"], channel);
    assert_eq!(json["content"], "x\r\n\r\ndata: forged");
}

#[test]
fn other_json_is_a_string_to_icomets_clients() {
    let mut desk = Desk::open();
    let poll = desk.poll("c", 1);
    let data = Data::json("{\"a\": [1,\n\"x\"]}").unwrap();
    let publication = Publication { data, event: Some("e"), idempotency_key: None };
    let mut effects = Effects::default();
    desk.hub.publish(desk.now, name("c"), publication, &mut effects).unwrap();
    desk.settle(Letters::new(), effects);
    assert_eq!(desk.told(poll), [object("data", "c", 1, r#"{\"a\": [1, \"x\"]}"#)]);
}

#[test]
fn the_end_of_the_server_is_an_answer() {
    let mut desk = Desk::open();
    let start = [("c", Start::Icomet(1))];
    let (poll, first) = desk.subscribe(Transport::IcometPoll, &start, "", 5);
    let (events, second) = desk.subscribe(Transport::Sse, &[("c", Start::Now)], "", 0);
    let (modern, third) = desk.subscribe(Transport::Poll, &[("c", Start::All)], "", 0);
    desk.told.clear();
    let mut all = Vec::new();
    assert_eq!(desk.room.subscribers(0, u32::MAX, &mut all), None);
    all.sort_unstable();
    assert_eq!(all, [first, second, third]);
    let mut letters = Letters::new();
    for id in all {
        let (told, ended) = (&mut desk.told, &mut desk.ended);
        desk.room.dismiss(id, 700, &mut letters, &mut |outgoing| note(told, ended, &outgoing));
    }
    desk.settle(letters, Effects::default());
    assert_eq!(desk.told(poll), [object("noop", "c", 5, "")]);
    assert_eq!(desk.told(events), ["retry: 700\n\n"]);
    let position = desk.hub.info(name("c")).unwrap().position;
    assert_eq!(desk.told(modern), [format!(r#"{{"cursor":"{position}","messages":[]}}"#)]);
    assert_eq!((desk.hub.subscribers(), desk.room.subscriptions()), (0, 0));
}

#[test]
fn a_position_of_another_life_resets_and_one_of_this_resumes() {
    let channel =
        ChannelSettings { history_messages_max: 3, idle_s: 3, ..ChannelSettings::default() };
    let mut desk = Desk::with(Auth::None, channel);
    for content in ["1", "2", "3", "4", "5"] {
        desk.push("c", content);
    }
    let epoch = desk.hub.info(name("c")).unwrap().position.epoch;
    let at = |next| Start::At(Position { epoch, next: crate::Seq::new(next) });
    let poll = |desk: &mut Desk, start| {
        let handle = desk.subscribe(Transport::Poll, &[("c", start)], "", 0).0;
        desk.told(handle).concat()
    };
    let message = |offset| {
        format!(r#"{{"type":"message","channel":"c","offset":{offset},"data":"{offset}"}}"#)
    };
    let reset = |offset: u64, reason: &str| {
        format!(r#"{{"type":"reset","channel":"c","offset":{offset},"reason":"{reason}"}}"#)
    };
    let answer = |epoch: crate::Epoch, offset: u64, messages: &[String]| {
        format!(r#"{{"cursor":"{epoch}:{offset}","messages":[{}]}}"#, messages.join(","))
    };
    assert_eq!(poll(&mut desk, at(5)), answer(epoch, 5, &[message(5)]));
    assert_eq!(poll(&mut desk, at(3)), answer(epoch, 5, &[message(3), message(4), message(5)]));
    assert_eq!(poll(&mut desk, at(2)), answer(epoch, 5, &[reset(5, "history trimmed")]));
    assert_eq!(poll(&mut desk, at(7)), answer(epoch, 5, &[reset(5, "position unknown")]));
    assert_eq!(poll(&mut desk, Start::Now), answer(epoch, 5, &[]));
    assert_eq!(
        poll(&mut desk, Start::All),
        answer(epoch, 5, &[message(3), message(4), message(5)])
    );
    assert_eq!(poll(&mut desk, at(6)), "", "it waits");
    desk.close("c");
    desk.push("c", "1");
    let renewed = desk.hub.info(name("c")).unwrap().position.epoch;
    assert_eq!(poll(&mut desk, at(6)), answer(renewed, 1, &[reset(1, "epoch changed")]));
    desk.pass_ms(4_000);
    let told = poll(&mut desk, at(6));
    assert!(told.contains(&reset(0, "expired")), "{told}");
}

#[test]
fn the_same_key_is_published_once() {
    let settings =
        Settings { idempotency_keys_max: 2, idempotency_age_s: 10, ..Settings::default() };
    let mut desk = Desk::new(settings);
    let publish = |desk: &mut Desk, channel: &str, key: &str| {
        let publication =
            Publication { data: Data::text("x"), event: None, idempotency_key: Some(key) };
        let mut effects = Effects::default();
        let published =
            desk.hub.publish(desk.now, name(channel), publication, &mut effects).unwrap();
        (published.seq.get(), published.is_repeated)
    };
    assert_eq!(publish(&mut desk, "c", "a"), (1, false));
    assert_eq!(publish(&mut desk, "c", "a"), (1, true));
    assert_eq!(publish(&mut desk, "d", "a"), (1, false), "keys are a channel's own");
    assert_eq!(publish(&mut desk, "c", "b"), (2, false));
    assert_eq!(publish(&mut desk, "c", "a"), (1, true));
    assert_eq!(publish(&mut desk, "c", "c"), (3, false), "the oldest of three is forgotten");
    assert_eq!(publish(&mut desk, "c", "b"), (2, true));
    assert_eq!(publish(&mut desk, "c", "a"), (4, false));
    desk.pass_ms(11_000);
    assert_eq!(publish(&mut desk, "c", "a"), (5, false), "and all in their time");
}

#[test]
fn members_come_and_go_but_not_between_two_polls() {
    use EventKind::{MemberJoined, MemberLeft};
    let channel = ChannelSettings { announces_members: true, ..ChannelSettings::default() };
    let mut desk = Desk::with(Auth::None, channel);
    let members = |desk: &mut Desk| {
        let mut news = Vec::new();
        for event in std::mem::take(&mut desk.events) {
            match event.what {
                MemberJoined(subject) => news.push(format!("+{subject}")),
                MemberLeft(subject) => news.push(format!("-{subject}")),
                _ => {}
            }
        }
        news
    };
    let stream = desk.subscribe(Transport::Stream, &[("c", Start::Now)], "", 0).0;
    desk.told(stream);
    desk.subject = Some("ann".into());
    let (_, first) = desk.subscribe(Transport::Sse, &[("c", Start::Now)], "", 0);
    let (_, second) = desk.subscribe(Transport::Sse, &[("c", Start::Now)], "", 0);
    assert_eq!(members(&mut desk), ["+ann"]);
    assert_eq!(desk.told(stream), ["{\"type\":\"join\",\"channel\":\"c\",\"subject\":\"ann\"}\n"]);
    assert_eq!(desk.hub.members(name("c")).unwrap(), [("ann".into(), 2)]);
    desk.leave(first);
    desk.pass_ms(20_000);
    assert_eq!(desk.hub.members(name("c")).unwrap(), [("ann".into(), 1)]);
    desk.leave(second);
    // Away for four seconds of every five, and for less than the grace each time; once it is
    // answered at once and never waits.
    for start in [Start::All, Start::Now, Start::All, Start::All] {
        desk.pass_ms(4_000);
        let (_, poll) = desk.subscribe(Transport::Poll, &[("c", start)], "", 0);
        desk.pass_ms(1_000);
        desk.leave(poll);
    }
    assert_eq!(members(&mut desk), [""; 0]);
    desk.pass_ms(4_900);
    assert_eq!(members(&mut desk), [""; 0], "too early");
    desk.pass_ms(5_700);
    assert_eq!(members(&mut desk), ["-ann"]);
    let told = desk.told(stream).concat();
    assert!(told.contains("\"leave\""), "{told}");
    assert_eq!(desk.hub.members(name("c")).unwrap(), []);
}

#[test]
fn a_subscription_ends_with_its_token() {
    let mut desk = Desk::open();
    desk.ends_at = Some(desk.now.plus(2_000));
    let channels = [("c", Start::Now), ("d", Start::All)];
    let stream = desk.subscribe(Transport::Stream, &channels[..1], "", 0).0;
    let poll = desk.subscribe(Transport::Poll, &channels[1..], "", 0).0;
    desk.told.clear();
    desk.pass_ms(1_900);
    assert!(!desk.is_over(stream) && !desk.is_over(poll));
    desk.pass_ms(700);
    assert!(desk.is_over(stream) && desk.is_over(poll));
    assert_eq!(desk.told(stream), ["{\"type\":\"error\",\"code\":\"token_expired\"}\n"]);
    let told = desk.told(poll).concat();
    assert!(told.ends_with(",\"messages\":[]}"), "{told}");
    assert_eq!((desk.hub.subscribers(), desk.room.subscriptions()), (0, 0));
}

#[test]
fn a_poll_on_several_channels_hears_from_all_of_them() {
    let mut desk = Desk::open();
    desk.push("a", "1");
    desk.push("b", "1");
    let channels = [("a", Start::All), ("b", Start::All), ("a", Start::All), ("c", Start::All)];
    let poll = desk.subscribe(Transport::Poll, &channels, "", 0).0;
    let answer: serde_json::Value = serde_json::from_str(&desk.told(poll).concat()).unwrap();
    let messages = answer["messages"].as_array().unwrap();
    let names: Vec<_> = messages.iter().map(|message| &message["channel"]).collect();
    assert_eq!(names, ["a", "b"], "one that is named twice counts once");
    let cursor: crate::Cursor = answer["cursor"].as_str().unwrap().parse().unwrap();
    let again = ["a", "b", "c"].map(|c| (c, Start::At(cursor.position(name(c)).unwrap())));
    let poll = desk.subscribe(Transport::Poll, &again, "", 0).0;
    assert!(desk.told(poll).is_empty() && !desk.is_over(poll), "it waits, now");
    desk.push("c", "1");
    assert!(desk.told(poll).concat().contains("\"channel\":\"c\"") && desk.is_over(poll));
}

#[test]
fn subscriptions_have_bounds() {
    use crate::SubscribeError::{NoChannel, TooManyChannels, UnknownSubscriber};
    let mut desk = Desk::new(Settings { subscription_channels_max: 2, ..Settings::default() });
    let names = ["a", "b", "c"].map(|channel| (name(channel), Start::Now));
    for (transport, count, expected) in [
        (Transport::IcometPoll, 0, Some(NoChannel)),
        (Transport::IcometPoll, 2, Some(TooManyChannels { channels_max: 1 })),
        (Transport::Sse, 0, Some(NoChannel)),
        (Transport::Sse, 3, Some(TooManyChannels { channels_max: 2 })),
        (Transport::Sse, 2, None),
        (Transport::Socket, 0, None),
    ] {
        let subscription = Subscription {
            handle: 0,
            transport,
            channels: &names[..count],
            access: Access::Granted,
            noop: 0,
            subject: None,
            ends_at: None,
        };
        let subscribed = desk.room.subscribe(desk.now, subscription, &mut Letters::new());
        assert_eq!(subscribed.err(), expected, "{transport:?} {count}");
    }
    let (_, socket) = desk.subscribe(Transport::Socket, &[], "", 0);
    let mut add = |id, channel| {
        desk.room.add(id, name(channel), Start::Now, &Access::Granted, None, &mut Letters::new())
    };
    assert_eq!((add(socket, "a"), add(socket, "b")), (Ok(()), Ok(())));
    assert_eq!(add(socket, "c"), Err(TooManyChannels { channels_max: 2 }));
    assert_eq!(add(SubscriberId::new(9_999), "c"), Err(UnknownSubscriber));
}

#[test]
fn what_is_too_long_is_refused_and_changes_nothing() {
    let bounds = (10, 5, 4);
    let mut desk = Desk::new(Settings {
        message_bytes_max: bounds.0,
        event_bytes_max: bounds.1,
        idempotency_key_bytes_max: bounds.2,
        ..Settings::default()
    });
    for (text, event, key, is_ok) in [
        ("12345678", Some("12345"), Some("1234"), true),
        ("123456789", None, None, false),
        ("\u{1}\u{1}", None, None, false),
        ("", Some("123456"), None, false),
        ("", None, Some("12345"), false),
    ] {
        let publication = Publication { data: Data::text(text), event, idempotency_key: key };
        let now = desk.now;
        let result = desk.hub.publish(now, name(text), publication, &mut Effects::default());
        assert_eq!(result.is_ok(), is_ok, "{text} {event:?} {key:?}");
        assert_eq!(desk.exists(text), is_ok);
    }
}

#[test]
fn old_messages_leave_by_themselves() {
    let channel = ChannelSettings { history_age_max_s: 2, ..ChannelSettings::default() };
    let mut desk = Desk::with(Auth::None, channel);
    desk.stream("c", 1);
    for content in ["1", "2", "3"] {
        desk.push("c", content);
        desk.pass_ms(900);
    }
    let first = |desk: &Desk| desk.hub.info(name("c")).unwrap().first.get();
    assert_eq!(first(&desk), 2);
    desk.pass_ms(2_500);
    assert_eq!(first(&desk), 4);
    let page = desk.hub.history(desk.now, name("c"), None, 10).unwrap();
    assert_eq!((page.messages.len(), page.position.next.get()), (0, 4));
}

#[test]
fn history_comes_in_pages() {
    let mut desk = Desk::open();
    assert!(desk.hub.history(desk.now, name("c"), None, 10).is_err());
    for content in 1..=20 {
        desk.push("c", &content.to_string());
    }
    let mut page = |since, messages_max| {
        let page = desk.hub.history(desk.now, name("c"), since, messages_max).unwrap();
        let seqs: Vec<_> = page.messages.iter().map(|(seq, _)| seq.get()).collect();
        let matches = |(seq, message): &(crate::Seq, Arc<crate::Message>)| {
            message.data.as_json() == format!("\"{seq}\"")
        };
        assert!(page.messages.iter().all(matches));
        (page.position, page.reset, seqs)
    };
    let (position, reset, seqs) = page(None, 4);
    assert_eq!((reset, seqs), (None, vec![11, 12, 13, 14]));
    let since = |next| Some(Position { next: crate::Seq::new(next), ..position });
    assert_eq!(page(since(15), 100).2, [15, 16, 17, 18, 19, 20]);
    assert_eq!(page(since(21), 100).2, [0; 0]);
    let (_, reset, seqs) = page(since(3), 2);
    assert_eq!((reset, seqs), (Some(crate::ResetReason::HistoryTrimmed), vec![11, 12]));
}

#[test]
fn channels_are_listed_by_prefix_and_in_parts() {
    let mut desk = Desk::open();
    for at in 0..2000 {
        desk.push(&format!("{}/{at}", at % 2), "x");
    }
    let (mut found, mut place, mut rounds) = (Vec::new(), Some(0), 0);
    while let Some(from) = place {
        place = desk.hub.list("1/", from, 300, &mut found);
        rounds += 1;
    }
    assert!(rounds >= 2000 / 300);
    assert_eq!(found.len(), 1000);
    assert!(found.iter().all(|info| info.name.starts_with("1/") && info.first.get() == 1));
}

#[test]
fn jsonp_calls_what_is_a_name_and_nothing_else() {
    for (text, is_name) in [
        ("icomet_cb_12", true),
        ("jQuery1910_1.x[0]$", true),
        ("", false),
        ("1a", false),
        ("a b", false),
        ("alert(1)//", false),
        ("a<script>", false),
        ("é", false),
        (&"a".repeat(129), false),
    ] {
        assert_eq!(render::Callback::new(text).is_some(), is_name, "{text}");
    }
    let mut out = String::new();
    render::enclose(render::Callback::new("F"), "{}", &mut out);
    render::enclose(None, "{}", &mut out);
    assert_eq!(out, "F({});\n{}\n");
}
