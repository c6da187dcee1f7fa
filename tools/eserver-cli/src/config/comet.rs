//! [`CometConfig`] and [`AdminConfig`]: channels, and who may publish to them.

use std::net::SocketAddr;

use eserver_comet::{
    Auth, ChannelSettings, Override, Settings as Channels, SlowPolicy, WebhookSettings,
};
use ipnet::IpNet;

use super::Get;
use super::problem::Problem;
use super::secret::first_line;
use super::settings::{Settings, Table};
use super::value::Value;

/// Sections `[comet]` and `[[comet.channel]]`.
#[derive(Debug, Clone)]
pub(crate) struct CometConfig {
    /// None if channels are off; port 0 takes a free one.
    pub(crate) listen: Vec<SocketAddr>,
    /// Who may connect; empty means nobody.
    pub(crate) allow: Vec<IpNet>,
    pub(crate) channels: Channels,
    /// What tokens are signed with; empty if only this process is to know.
    pub(crate) secret: String,
    /// Who is told what becomes of channels.
    pub(crate) webhook: Option<WebhookSettings>,
}

/// Section `[admin]`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AdminConfig {
    /// None if nobody publishes; port 0 takes a free one.
    pub(crate) listen: Vec<SocketAddr>,
    /// Who may connect; empty means nobody.
    pub(crate) allow: Vec<IpNet>,
    /// Exceptions from it.
    pub(crate) deny: Vec<IpNet>,
}

impl CometConfig {
    /// Whether there are channels at all.
    pub(crate) fn is_on(&self) -> bool {
        !self.listen.is_empty()
    }

    /// The section `[comet]`, but for what needs a look at the whole.
    pub(super) fn from_settings(get: &Get<'_>) -> Self {
        let size = |name: &str| get.size(&format!("comet.{name}"));
        let short = |name: &str| small(get.integer(&format!("comet.{name}")));
        let channel = ChannelSettings {
            subscribers_max: short("channel_subscribers_max"),
            history_messages_max: size("history_messages_max"),
            history_bytes_max: size("history_bytes_max"),
            history_age_max_s: short("history_age_max_s"),
            idle_s: short("channel_idle_s"),
            poll_timeout_s: short("poll_timeout_s"),
            slow: slow_policy(get.text("comet.slow")),
            outbox_bytes_max: size("outbox_bytes_max"),
            announces_members: get.switch("comet.announce_members"),
        };
        let auth = if get.text("comet.auth") == "token" { Auth::Token } else { Auth::None };
        CometConfig {
            listen: get.listen("comet.listen"),
            allow: get.allow("comet.allow"),
            channels: Channels {
                auth,
                origins: get.origins("comet.allow_origins"),
                channels_max: size("channels_max"),
                message_bytes_max: size("message_bytes_max"),
                subscription_channels_max: size("subscription_channels_max"),
                idempotency_keys_max: size("idempotency_keys_max"),
                idempotency_age_s: short("idempotency_age_s"),
                absence_grace_s: short("absence_grace_s"),
                deflate: get.switch("comet.deflate"),
                channel,
                ..Channels::default()
            },
            secret: get.secret("comet.secret").to_owned(),
            webhook: None,
        }
    }
}

/// Reads what needs a look at the whole; what is wrong is added to `problems`.
pub(super) fn read(
    settings: &Settings,
    comet: &mut CometConfig,
    whole: bool,
    problems: &mut Vec<Problem>,
) {
    let file = settings.get("comet.secret_file");
    if !file.text().is_empty() {
        match first_line(file.text()) {
            Ok(secret) if comet.secret.is_empty() => comet.secret = secret,
            Ok(_) => problems.extend(file.problem(
                "there are two secrets",
                "`comet.secret` is given as well; leave one of them out",
            )),
            Err(error) => {
                let title = format!("the secret cannot be read from {}", file.text());
                problems.extend(file.problem(&title, &error.to_string()));
            }
        }
    }
    let url = settings.get("comet.webhook_url");
    if !url.text().is_empty() {
        let get = Get(settings);
        match url.text().parse() {
            Ok(url) => {
                comet.webhook = Some(WebhookSettings {
                    url,
                    secret: get.secret("comet.webhook_secret").to_owned(),
                    timeout: get.seconds("comet.webhook_timeout_s"),
                    batch_max: get.size("comet.webhook_batch_max"),
                });
            }
            Err(error) => {
                let error = anyhow::Error::new(error).to_string();
                problems.extend(url.problem("`comet.webhook_url` cannot be used", &error));
            }
        }
    }
    for table in settings.tables("comet.channel") {
        let prefix = table.get("prefix").map(|setting| setting.text().to_owned());
        match prefix {
            Some(prefix) => {
                let channel = overridden(table, comet.channels.channel);
                comet.channels.overrides.push(Override { prefix, channel });
            }
            None if whole && table.whole => {
                let title = "these values are for no channels";
                let help = "write prefix = \"chat/\", the beginning of their names";
                let problem = Problem::at(&table.spot, title, "`prefix` is missing");
                problems.push(problem.help(help));
            }
            None => {}
        }
    }
}

/// What a channel has in a table, and otherwise in `[comet]`.
fn overridden(table: &Table, mut channel: ChannelSettings) -> ChannelSettings {
    let integer = |name: &str| match table.get(name).map(|setting| &setting.value) {
        Some(Value::Integer(number)) => Some(*number),
        _ => None,
    };
    let size = |number: u64| usize::try_from(number).expect("KEYS bounds it far below");
    for (name, field) in [
        ("channel_subscribers_max", &mut channel.subscribers_max),
        ("history_age_max_s", &mut channel.history_age_max_s),
        ("channel_idle_s", &mut channel.idle_s),
        ("poll_timeout_s", &mut channel.poll_timeout_s),
    ] {
        *field = integer(name).map_or(*field, small);
    }
    for (name, field) in [
        ("history_messages_max", &mut channel.history_messages_max),
        ("history_bytes_max", &mut channel.history_bytes_max),
        ("outbox_bytes_max", &mut channel.outbox_bytes_max),
    ] {
        *field = integer(name).map_or(*field, size);
    }
    if let Some(slow) = table.get("slow") {
        channel.slow = slow_policy(slow.text());
    }
    if let Some(Value::Switch(announces)) = table.get("announce_members").map(|one| &one.value) {
        channel.announces_members = *announces;
    }
    channel
}

fn slow_policy(word: &str) -> SlowPolicy {
    match word {
        "drop-oldest" => SlowPolicy::DropOldest,
        "conflate" => SlowPolicy::Conflate,
        _ => SlowPolicy::Disconnect,
    }
}

fn small(number: u64) -> u32 {
    u32::try_from(number).expect("KEYS bounds it")
}
