//! Heads of responses: cut anywhere they are not whole, whole they say what they say with more
//! after them.
#![no_main]

use eserver_wire::http::{Body, HeadLimits, ResponseHead};
use libfuzzer_sys::fuzz_target;

/// Small, so that the fuzzer gets there.
const LIMITS: HeadLimits =
    HeadLimits { head_bytes_max: 1_000, headers_max: 10, target_bytes_max: 0 };

fuzz_target!(|input: &[u8]| {
    for method in ["GET", "HEAD"] {
        let Ok(Some(head)) = ResponseHead::parse(input, method, &LIMITS) else {
            continue;
        };
        let (text, _) = input.split_at(head.encoded_bytes);
        assert_eq!(ResponseHead::parse(text, method, &LIMITS), Ok(Some(head)));
        for bytes in 0..text.len() {
            assert_eq!(ResponseHead::parse(&text[..bytes], method, &LIMITS), Ok(None));
        }
        assert!((100..1000).contains(&head.status));
        assert!(head.body != Body::UntilClose || !head.keep_alive);
        assert!(head.fields.iter().count() <= LIMITS.headers_max);
        let without_body = method == "HEAD" || matches!(head.status, 100..=199 | 204 | 304);
        assert_eq!(without_body, head.body == Body::None);
    }
});
