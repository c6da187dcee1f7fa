//! Heads of requests: byte by byte they say what they say whole, and sent on they say it again.
#![no_main]

use eserver_wire::http::{
    Body, Head, HeadLimits, Request, RequestBody, decode_path, path_segments, query_pairs,
};
use libfuzzer_sys::fuzz_target;

/// Small, so that the fuzzer gets there.
const LIMITS: HeadLimits =
    HeadLimits { head_bytes_max: 1_000, headers_max: 10, target_bytes_max: 300 };

fuzz_target!(|input: &[u8]| {
    let whole = Head::parse(input, 0, &LIMITS);
    let mut at_last = Ok(None);
    for bytes in 1..=input.len() {
        at_last = Head::parse(&input[..bytes], bytes - 1, &LIMITS);
        if at_last != Ok(None) {
            break;
        }
    }
    match whole {
        // What is wrong with a line may only be looked at when the line is whole.
        Err(_) => assert!(matches!(at_last, Err(_) | Ok(None)), "{at_last:?}"),
        _ => assert_eq!(at_last, whole),
    }
    if let Ok(Some(head)) = whole {
        check(&head);
    }
});

fn check(head: &Head<'_>) {
    assert!(head.encoded_bytes <= LIMITS.head_bytes_max + 2);
    assert_ne!(head.body, Body::UntilClose);
    assert!(head.path == "*" || head.path.starts_with('/'));
    assert!(!head.path.contains(['#', '?', '\\', '\0']));
    if let Ok(path) = decode_path(head.path) {
        assert!(!path.chars().any(|c| c.is_ascii_control()));
        assert!(path_segments(head.path).all(|segment| segment.is_ok()));
    }
    query_pairs(head.query.unwrap_or_default().as_bytes()).for_each(drop);

    // As a proxy might send it on.
    let target = match head.query {
        Some(query) => format!("{}?{query}", head.path),
        None => head.path.to_owned(),
    };
    let fields: Vec<_> = head
        .fields
        .iter()
        .inspect(|(_, value)| assert!(!value.iter().any(|byte| b"\r\n\0".contains(byte))))
        .filter(|(name, _)| {
            !["host", "content-length", "transfer-encoding", "connection"]
                .contains(&name.to_ascii_lowercase().as_str())
        })
        .filter_map(|(name, value)| Some((name, std::str::from_utf8(value).ok()?)))
        .collect();
    let body = match head.body {
        Body::Length(bytes) => RequestBody::Length(bytes),
        Body::Chunked => RequestBody::Chunked,
        _ => RequestBody::None,
    };
    let request = Request {
        method: head.method,
        target: &target,
        host: head.host().unwrap_or("a"),
        fields: &fields,
        body,
    };
    let mut out = Vec::new();
    request.encode(&mut out).expect("all of it came out of a head");
    // It may have grown by a Host or by white space.
    let again = Head::parse(&out, 0, &HeadLimits::default());
    if fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("expect")) && again.is_err() {
        return; // HTTP/1.0 may expect anything, and means nothing by it
    }
    let again = again.expect("it is valid").expect("it is whole");
    assert_eq!(again.encoded_bytes, out.len());
    assert_eq!((again.method, again.path, again.query), (head.method, head.path, head.query));
    assert_eq!(again.body, head.body);
    assert!(again.host().is_some_and(|host| head.host().is_none_or(|before| before == host)));
    for (name, value) in fields {
        assert!(again.fields.all(name).any(|other| other == value.as_bytes()));
    }
}
