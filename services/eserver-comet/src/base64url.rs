//! Base64 for URLs (RFC 4648, section 5), without padding.

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

pub(crate) fn encode(bytes: &[u8], out: &mut String) {
    for group in bytes.chunks(3) {
        let mut bits = 0;
        for nth in 0..3 {
            bits = bits << 8 | u32::from(group.get(nth).copied().unwrap_or(0));
        }
        for nth in 0..=group.len() {
            out.push(char::from(LETTERS[(bits >> (18 - 6 * nth)) as usize % 64]));
        }
    }
}

/// The bytes, if `text` is what [`encode`] makes of them and nothing else.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    for group in text.as_bytes().chunks(4) {
        let mut bits = 0;
        for nth in 0..4 {
            let value = group.get(nth).map_or(Some(0), |letter| value_of(*letter))?;
            bits = bits << 6 | value;
        }
        let [_, decoded @ ..] = bits.to_be_bytes();
        let (kept, spare) = decoded.split_at((group.len() * 6) / 8);
        if group.len() == 1 || spare.iter().any(|byte| *byte != 0) {
            return None;
        }
        bytes.extend_from_slice(kept);
    }
    Some(bytes)
}

fn value_of(letter: u8) -> Option<u32> {
    let value = match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'-' => 62,
        b'_' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_the_rfc() {
        for (plain, text) in
            [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            let mut out = String::new();
            encode(plain.as_bytes(), &mut out);
            assert_eq!(out, text);
            assert_eq!(decode(text).as_deref(), Some(plain.as_bytes()));
        }
        for bad in ["Z", "Zh", "Zm9", "Zg==", "Z g", "Zg+/"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn bytes_have_one_text(bytes: Vec<u8>, text in "[A-Za-z0-9_-]{0,20}") {
            let mut out = String::new();
            encode(&bytes, &mut out);
            prop_assert_eq!(decode(&out), Some(bytes));
            if let Some(bytes) = decode(&text) {
                let mut out = String::new();
                encode(&bytes, &mut out);
                prop_assert_eq!(out, text);
            }
        }
    }
}
