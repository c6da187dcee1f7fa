//! [`Message`]: what is published, made ready once for everybody who will get it.

use std::fmt::Write;

use serde::de::IgnoredAny;
use thiserror::Error;

use crate::millis::Millis;

/// What a message says: one JSON value in one line, valid by construction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Data {
    json: Box<str>,
}

/// The text is not one JSON value.
#[derive(Debug, Error)]
#[error("the data is not JSON")]
pub struct BadJson(#[source] serde_json::Error);

impl Data {
    /// Any text, as a JSON string.
    #[must_use]
    pub fn text(text: &str) -> Self {
        let mut json = String::with_capacity(text.len() + 2);
        write_quoted(text, &mut json);
        Data { json: json.into() }
    }

    /// The inside of a JSON string, as clients of icomet's `/pub` send it. What is not is taken as
    /// plain text: icomet would pass it on and break every listener.
    #[must_use]
    pub fn inside_string(inside: &str) -> Self {
        let json = format!("\"{inside}\"");
        if serde_json::from_str::<String>(&json).is_ok() {
            Data { json: json.into() }
        } else {
            Data::text(inside)
        }
    }

    /// A JSON value, kept as it is written but for line ends between its parts, which become spaces.
    ///
    /// # Errors
    /// [`BadJson`]
    pub fn json(json: &str) -> Result<Self, BadJson> {
        let _: IgnoredAny = serde_json::from_str(json).map_err(BadJson)?;
        // Inside of strings there are no line ends: JSON writes them as escapes.
        Ok(Data { json: json.trim().replace(['\n', '\r'], " ").into() })
    }

    /// The JSON value.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.json
    }

    pub(crate) fn bytes(&self) -> usize {
        self.json.len()
    }

    /// Appends it as a JSON string, for those who know no other values.
    pub(crate) fn write_string(&self, out: &mut String) {
        if self.json.starts_with('"') {
            out.push_str(&self.json);
        } else {
            write_quoted(&self.json, out);
        }
    }
}

/// Why a message was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// For its channel.
    Data,
    /// For all channels.
    Broadcast,
}

/// A message, shared by all who hold it. Its number is its channel's affair.
#[derive(Debug)]
pub struct Message {
    /// Why it was published.
    pub kind: Kind,
    /// What the publisher calls this sort of message.
    pub event: Option<Box<str>>,
    /// What it says.
    pub data: Data,
    /// When it was published.
    pub at: Millis,
}

impl Message {
    /// What it counts for in a bound on the bytes of a history.
    pub(crate) fn bytes(&self) -> usize {
        self.data.bytes() + self.event.as_ref().map_or(0, |event| event.len()) + size_of::<Self>()
    }
}

/// Appends a JSON string. Nothing in it ends a line, not even for JavaScript of before 2019.
pub(crate) fn write_quoted(text: &str, out: &mut String) {
    out.push('"');
    let mut plain = 0;
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        let (escape, width) = match byte {
            b'"' => ("\\\"", 1),
            b'\\' => ("\\\\", 1),
            b'\n' => ("\\n", 1),
            b'\r' => ("\\r", 1),
            b'\t' => ("\\t", 1),
            0..=0x1f | 0x7f => ("", 1),
            0xe2 if bytes[at..].starts_with("\u{2028}".as_bytes()) => ("\\u2028", 3),
            0xe2 if bytes[at..].starts_with("\u{2029}".as_bytes()) => ("\\u2029", 3),
            _ => continue,
        };
        out.push_str(&text[plain..at]);
        if escape.is_empty() {
            write!(out, "\\u{byte:04x}").expect("a string takes all");
        } else {
            out.push_str(escape);
        }
        plain = at + width;
    }
    out.push_str(&text[plain..]);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_icomet_passes_on_raw_is_escaped() {
        for (text, json) in [
            ("", r#""""#),
            ("a\"b\\c", r#""a\"b\\c""#),
            (
                "\u{1}\t\u{8}\u{c}\u{1b}\r\n\0\u{7f}",
                r#""\u0001\t\u0008\u000c\u001b\r\n\u0000\u007f""#,
            ),
            ("\u{2028}é€\u{2029}", r#""\u2028é€\u2029""#),
        ] {
            assert_eq!(Data::text(text).as_json(), json);
        }
    }

    #[test]
    fn the_inside_of_a_string_is_taken_as_it_is_if_it_is_one() {
        for (inside, json) in [
            (r"a\nb\u00e9", r#""a\nb\u00e9""#),
            ("plain", r#""plain""#),
            (r#"a"b"#, r#""a\"b""#),
            ("a\nb", r#""a\nb""#),
            (r"a\", r#""a\\""#),
            (r"\ud800", r#""\\ud800""#),
        ] {
            assert_eq!(Data::inside_string(inside).as_json(), json);
        }
    }

    #[test]
    fn json_keeps_its_text_in_one_line() {
        for (json, kept) in [
            ("{\"a\":\n 1.50}", Some("{\"a\":  1.50}")),
            (" [1,\r\n2]\n", Some("[1,  2]")),
            ("\"a\\nb\"", Some("\"a\\nb\"")),
            ("", None),
            ("{\"a\":1} 2", None),
            ("\"a\nb\"", None),
            ("nul", None),
        ] {
            assert_eq!(Data::json(json).ok().as_ref().map(Data::as_json), kept, "{json}");
        }
    }

    proptest! {
        #[test]
        fn any_text_comes_back_from_json(text: String, inside: String) {
            let data = Data::text(&text);
            prop_assert_eq!(serde_json::from_str::<String>(data.as_json())?, text.clone());
            let ends_line = data.as_json().contains(['\n', '\r', '\u{2028}', '\u{2029}']);
            prop_assert!(!ends_line);
            let data = Data::inside_string(&inside);
            prop_assert!(serde_json::from_str::<String>(data.as_json()).is_ok());
            let mut quoted = String::new();
            Data::json(&serde_json::json!({ "a": [text] }).to_string())?.write_string(&mut quoted);
            prop_assert!(serde_json::from_str::<String>(&quoted).is_ok());
        }
    }
}
