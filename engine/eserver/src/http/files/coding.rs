//! Which precompressed form of a file a client takes (RFC 9110, section 12.5.3).

/// A form in which a file may lie there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    /// As `name.br`.
    Brotli,
    /// As `name.gz`.
    Gzip,
    /// As it is.
    Identity,
}

impl Coding {
    /// Those that make a file smaller, the best one first.
    pub(super) const COMPRESSED: [Coding; 2] = [Coding::Brotli, Coding::Gzip];

    /// What the name of such a file ends in.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Coding::Brotli => ".br",
            Coding::Gzip => ".gz",
            Coding::Identity => "",
        }
    }

    /// The field Content-Encoding, for a form that has one.
    pub(super) fn name(self) -> Option<&'static str> {
        match self {
            Coding::Brotli => Some("br"),
            Coding::Gzip => Some("gzip"),
            Coding::Identity => None,
        }
    }
}

/// The codings that a client takes, by its Accept-Encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Accepted {
    brotli: bool,
    gzip: bool,
}

impl Accepted {
    pub(super) fn parse(value: &str) -> Self {
        let (mut brotli, mut gzip, mut any) = (None, None, false);
        for element in value.split(',') {
            let (name, weight) = element.split_once(';').unwrap_or((element, ""));
            let is_taken = !is_zero(weight);
            match name.trim() {
                "*" => any = is_taken,
                name if name.eq_ignore_ascii_case("br") => brotli = Some(is_taken),
                name if name.eq_ignore_ascii_case("gzip") => gzip = Some(is_taken),
                _ => {}
            }
        }
        Accepted { brotli: brotli.unwrap_or(any), gzip: gzip.unwrap_or(any) }
    }

    pub(super) fn takes(self, coding: Coding) -> bool {
        match coding {
            Coding::Brotli => self.brotli,
            Coding::Gzip => self.gzip,
            Coding::Identity => true,
        }
    }
}

/// Whether a weight such as `q=0.000` says "never".
fn is_zero(weight: &str) -> bool {
    let value = weight.trim().split_once('=').map(|(name, value)| (name.trim(), value.trim()));
    matches!(value, Some(("q" | "Q", value)) if value.parse() == Ok(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_accept() {
        for (value, brotli, gzip) in [
            ("", false, false),
            ("gzip", false, true),
            ("gzip, deflate, br, zstd", true, true),
            ("GZIP;q=1.0, BR ; q=0.5", true, true),
            ("br;q=0, gzip;q=0.000", false, false),
            ("*", true, true),
            ("*;q=0", false, false),
            ("br;q=0, *", false, true),
            ("gzip;q=0,*;q=0.1", true, false),
            ("identity", false, false),
            ("xgzip, br-x", false, false),
            ("gzip;x=0", false, true),
        ] {
            assert_eq!(Accepted::parse(value), Accepted { brotli, gzip }, "{value}");
        }
    }
}
