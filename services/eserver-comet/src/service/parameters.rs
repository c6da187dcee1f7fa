//! Parameters of requests, as icomet's clients send them: in a form, in JSON, or in the query.

use std::borrow::Cow;

use eserver::http::Head;
use eserver_wire::http::query_pairs;
use serde_json::Value;
use thiserror::Error;

/// The body has parameters in a form that is not read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum BadBody {
    #[error("send the parameters as a form or as a JSON object, not as multipart/form-data")]
    Multipart,
    #[error("the body is not a JSON object")]
    Json,
}

impl BadBody {
    pub(crate) fn status(self) -> u16 {
        match self {
            BadBody::Multipart => 415,
            BadBody::Json => 400,
        }
    }
}

/// The values of these parameters. The body comes before the query, and the first of several with
/// the same name counts; case makes no difference in names. What is odd about one parameter makes no
/// difference to the others.
///
/// The body is read as a form whatever its type says, since that is what icomet does, unless it says
/// that it is JSON, or something that no form is.
pub(crate) fn parameters<'a, const N: usize>(
    head: &Head<'a>,
    body: &'a [u8],
    names: [&str; N],
) -> Result<[Option<Cow<'a, str>>; N], BadBody> {
    let mut values = [const { None }; N];
    let mut take = |name: &str, value: Cow<'a, str>| {
        if let Some(at) = names.iter().position(|known| known.eq_ignore_ascii_case(name)) {
            values[at].get_or_insert(value);
        }
    };
    if !body.is_empty() {
        let media_type = head.fields.get_str("content-type").unwrap_or_default();
        let is = |known: &str| {
            let front = media_type.get(..known.len());
            front.is_some_and(|front| front.eq_ignore_ascii_case(known))
        };
        if is("multipart/") {
            return Err(BadBody::Multipart);
        }
        if is("application/json") {
            let Ok(Value::Object(object)) = serde_json::from_slice(body) else {
                return Err(BadBody::Json);
            };
            for (name, value) in object {
                let text = match value {
                    Value::String(text) => text,
                    other => other.to_string(),
                };
                take(&name, text.into());
            }
        } else {
            query_pairs(body).for_each(|(name, value)| take(&name, value));
        }
    }
    let query = head.query.unwrap_or_default().as_bytes();
    query_pairs(query).for_each(|(name, value)| take(&name, value));
    Ok(values)
}

/// A number as C's `atoi` reads it: what stands in front, 0 if that is none.
pub(crate) fn number(text: &str) -> i64 {
    let text = text.trim_start();
    let (is_negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let digits = digits.bytes().take_while(u8::is_ascii_digit);
    let number = digits.fold(0_i64, |number, digit| {
        number.saturating_mul(10).saturating_add(i64::from(digit - b'0'))
    });
    if is_negative { -number } else { number }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eserver::http::HeadLimits;

    fn read(request: &str, body: &[u8]) -> Result<[Option<String>; 2], BadBody> {
        let request = format!("{request}\r\n\r\n");
        let head = Head::parse(request.as_bytes(), 0, &HeadLimits::default());
        let head = head.expect("it is good").expect("it is whole");
        let values = parameters(&head, body, ["cname", "content"])?;
        Ok(values.map(|value| value.map(Cow::into_owned)))
    }

    fn get(query: &str) -> [Option<String>; 2] {
        read(&format!("GET /push?{query} HTTP/1.1\r\nHost: a"), b"").expect("there is no body")
    }

    fn pair(name: &str, content: &str) -> [Option<String>; 2] {
        [Some(name.into()), Some(content.into())]
    }

    #[test]
    fn one_odd_parameter_does_not_void_the_others() {
        for query in [
            "cname=a&content=b+c",
            "&&cname=a&foo&content=b%20c&&",
            "CNAME=a&Content=b+c&cname=z",
            "x=%zz&cname=a&content=b c&%".replace(' ', "%20").as_str(),
        ] {
            assert_eq!(get(query), pair("a", "b c"), "{query}");
        }
        assert_eq!(get("cname=%00&content={\"a\":\"b\"}"), pair("\0", "{\"a\":\"b\"}"));
        assert_eq!(get("cname=&content=%zz%e9"), pair("", "%zz\u{fffd}"));
        assert_eq!(get(""), [None, None]);
    }

    #[test]
    fn the_body_comes_first_and_says_what_it_is() {
        let post = "POST /push?cname=q&content=q HTTP/1.1\r\nHost: a\r\nContent-Length: 1";
        let json = format!("{post}\r\nContent-Type: application/json; charset=utf-8");
        assert_eq!(read(post, b"cname=b"), Ok(pair("b", "q")));
        assert_eq!(read(&json, br#"{"content":"a\nb","n":1}"#), Ok(pair("q", "a\nb")));
        assert_eq!(read(&json, br#"{"content":{"a":[1]}}"#), Ok(pair("q", "{\"a\":[1]}")));
        assert_eq!(read(&json, b"cname=b"), Err(BadBody::Json));
        let multipart = format!("{post}\r\nContent-Type: multipart/form-data; boundary=x");
        assert_eq!(read(&multipart, b"--x"), Err(BadBody::Multipart));
    }

    #[test]
    fn numbers_are_read_as_c_does() {
        for (text, expected) in [
            ("2x", 2),
            ("abc", 0),
            ("", 0),
            (" -7", -7),
            ("+3", 3),
            ("99999999999999999999", i64::MAX),
        ] {
            assert_eq!(number(text), expected, "{text}");
        }
    }
}
