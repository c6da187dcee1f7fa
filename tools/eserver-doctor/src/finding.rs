//! [`Finding`]: what a rule has found.

use serde::Serialize;

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is enough.
    Enough,
    /// It is not: so many connections cannot be held.
    NotEnough,
    /// They can be held, but may not come, or be sent to, as fast as they could.
    Slower,
    /// It does harm, or is of no use.
    Harmful,
    /// It cannot be told.
    Unknown,
}

/// What something is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// For so many connections to exist.
    Hold,
    /// For so many new ones to come in a second.
    Come,
    /// For what is sent to all of them, and for their end: nice to have.
    Comfort,
    /// For nothing: it is advice that does harm.
    Myth,
}

/// What a rule has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub name: &'static str,
    /// What it is needed for.
    pub purpose: Purpose,
    /// How it is.
    pub verdict: Verdict,
    /// What there is and what is needed, and why.
    pub sentence: String,
    /// What mends it, as it is typed.
    pub commands: Vec<String>,
    /// The settings of the kernel to change, each with its value.
    pub settings: Vec<(&'static str, String)>,
}

impl Finding {
    pub(crate) fn new(name: &'static str, verdict: Verdict, sentence: impl Into<String>) -> Self {
        let sentence = sentence.into();
        let (commands, settings) = (Vec::new(), Vec::new());
        Finding { name, purpose: Purpose::Hold, verdict, sentence, commands, settings }
    }

    pub(crate) fn enough(name: &'static str, sentence: impl Into<String>) -> Self {
        Self::new(name, Verdict::Enough, sentence)
    }

    pub(crate) fn unknown(name: &'static str, sentence: impl Into<String>) -> Self {
        Self::new(name, Verdict::Unknown, sentence)
    }

    /// Mended by a command.
    pub(crate) fn by(mut self, command: impl Into<String>) -> Self {
        self.commands.push(command.into());
        self
    }

    /// Mended by a setting of the kernel.
    pub(crate) fn set(mut self, name: &'static str, value: impl Into<String>) -> Self {
        let value = value.into();
        self.commands.push(format!("sysctl -w {name}=\"{value}\""));
        self.settings.push((name, value));
        self
    }
}
