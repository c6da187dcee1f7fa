//! [`Settings`]: every bound, with its unit and default. [`Policies`]: which of them a channel has.

use crate::history::HistoryBounds;
use crate::origins::Origins;
use crate::slow::SlowPolicy;

/// Who may make and listen to channels without a signed token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Auth {
    /// Everybody; the first subscriber of a channel makes it.
    #[default]
    None,
    /// Who has the token that signing the channel gave, or a signed one.
    Token,
}

/// What holds for all channels of a server.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Who may listen.
    pub auth: Auth,
    /// Which web pages may use the public port.
    pub origins: Origins,
    /// How many channels there may be; further ones are refused.
    pub channels_max: usize,
    /// How long the data of a message may be as JSON, in bytes; longer ones are refused.
    pub message_bytes_max: usize,
    /// How long the event of a message may be, in bytes; longer ones are refused.
    pub event_bytes_max: usize,
    /// How many channels one subscription may have; further ones are refused.
    pub subscription_channels_max: usize,
    /// Whether the messages of WebSockets may be compressed, if their clients want that.
    pub deflate: bool,
    /// How many keys of recent publishes a channel remembers; the oldest are forgotten first.
    pub idempotency_keys_max: usize,
    /// How long such a key may be, in bytes; longer ones are refused.
    pub idempotency_key_bytes_max: usize,
    /// How long such a key is remembered, in seconds, unless the channel ends before.
    pub idempotency_age_s: u32,
    /// How long after its last subscriber a channel is told to be vacated, and after its last
    /// connection a member to have left, in seconds: who polls is away for moments.
    pub absence_grace_s: u32,
    /// What channels have that no override is for.
    pub channel: ChannelSettings,
    /// Others, by the beginning of the channel's name; the longest that fits wins.
    pub overrides: Vec<Override>,
}

/// What holds for a channel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChannelSettings {
    /// How many may listen at once; further ones are refused.
    pub subscribers_max: u32,
    /// How many of the newest messages are kept; 0 keeps none.
    pub history_messages_max: usize,
    /// How many bytes the messages that are kept may take; the oldest go first.
    pub history_bytes_max: usize,
    /// How long a message is kept, in seconds; 0 keeps it as long as the channel lives.
    pub history_age_max_s: u32,
    /// How long a channel lives without subscribers and messages, in seconds.
    pub idle_s: u32,
    /// How long a poll waits, and a stream is silent, before it gets a sign of life, in seconds. At
    /// most [`POLL_TIMEOUT_S_MAX`].
    pub poll_timeout_s: u32,
    /// What becomes of a subscriber that reads too slowly.
    pub slow: SlowPolicy,
    /// When it does: with so many bytes waiting for it.
    pub outbox_bytes_max: usize,
    /// Whether subscribers are told when members come and go.
    pub announces_members: bool,
}

/// Other settings for channels whose name begins with a prefix.
#[derive(Debug, Clone, PartialEq)]
pub struct Override {
    /// The beginning of their names.
    pub prefix: String,
    /// What they have.
    pub channel: ChannelSettings,
}

/// The longest time that a poll may wait, in seconds.
pub const POLL_TIMEOUT_S_MAX: u32 = 4 * 3600;

impl Default for Settings {
    fn default() -> Self {
        Settings {
            auth: Auth::None,
            origins: Origins::Any,
            channels_max: 1_000_000,
            message_bytes_max: 1024 * 1024,
            event_bytes_max: 255,
            subscription_channels_max: 100,
            deflate: false,
            idempotency_keys_max: 64,
            idempotency_key_bytes_max: 128,
            idempotency_age_s: 300,
            absence_grace_s: 5,
            channel: ChannelSettings::default(),
            overrides: Vec::new(),
        }
    }
}

impl Default for ChannelSettings {
    fn default() -> Self {
        ChannelSettings {
            subscribers_max: 100_000,
            history_messages_max: 10,
            history_bytes_max: 1024 * 1024,
            history_age_max_s: 0,
            idle_s: 30,
            poll_timeout_s: 30,
            slow: SlowPolicy::Disconnect,
            outbox_bytes_max: 256 * 1024,
            announces_members: false,
        }
    }
}

impl ChannelSettings {
    pub(crate) fn history(&self) -> HistoryBounds {
        // A conflated subscriber gets the newest message when it reads again: one must be there.
        let at_least = usize::from(self.slow == SlowPolicy::Conflate);
        let age_s = Some(u64::from(self.history_age_max_s)).filter(|age_s| *age_s > 0);
        HistoryBounds {
            messages_max: self.history_messages_max.max(at_least),
            bytes_max: if at_least == 1 { usize::MAX } else { self.history_bytes_max },
            age_max_ms: age_s.map(|age_s| age_s * 1000),
        }
    }
}

/// The settings, ready to look up what a channel has.
#[derive(Debug)]
pub struct Policies {
    settings: Settings,
}

impl Policies {
    /// Of these settings. Times that are too long are cut.
    #[must_use]
    pub fn new(mut settings: Settings) -> Self {
        settings.overrides.sort_by_key(|each| std::cmp::Reverse(each.prefix.len()));
        let overrides = settings.overrides.iter_mut().map(|each| &mut each.channel);
        for channel in overrides.chain([&mut settings.channel]) {
            channel.poll_timeout_s = channel.poll_timeout_s.clamp(1, POLL_TIMEOUT_S_MAX);
        }
        Policies { settings }
    }

    /// All of the settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What a channel of this name has: looks at the overrides, the longest first.
    #[must_use]
    pub fn of(&self, channel: &str) -> &ChannelSettings {
        let mut overrides = self.settings.overrides.iter();
        let found = overrides.find(|each| channel.starts_with(&each.prefix));
        found.map_or(&self.settings.channel, |each| &each.channel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_wins() {
        let with = |prefix: &str, idle_s| Override {
            prefix: prefix.into(),
            channel: ChannelSettings { idle_s, ..ChannelSettings::default() },
        };
        let overrides = vec![with("a", 1), with("a/b/", 3), with("a/", 2)];
        let policies = Policies::new(Settings { overrides, ..Settings::default() });
        for (name, idle_s) in
            [("a", 1), ("ab", 1), ("a/", 2), ("a/b", 2), ("a/b/c", 3), ("", 30), ("b", 30)]
        {
            assert_eq!(policies.of(name).idle_s, idle_s, "{name}");
        }
    }
}
