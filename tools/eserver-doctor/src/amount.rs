//! Numbers as people read them.

/// With a comma between thousands: `1,048,576`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// In megabytes below ten gigabytes, and in gigabytes above: of the decimal kind.
pub(crate) fn bytes(number: u64) -> String {
    if number < 10_000_000_000 {
        format!("{} MB", count(number / 1_000_000))
    } else {
        format!("{} GB", count(number / 1_000_000_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        for (number, text) in
            [(0, "0"), (999, "999"), (1000, "1,000"), (65_536, "65,536"), (1_048_576, "1,048,576")]
        {
            assert_eq!(count(number), text);
        }
    }

    #[test]
    fn bytes_are_large() {
        assert_eq!(bytes(3_300_000_000), "3,300 MB");
        assert_eq!(bytes(25_276_514_304), "25 GB");
    }
}
