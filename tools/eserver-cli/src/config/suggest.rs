//! [`nearest`]: the word that was probably meant.

/// The candidate that `word` begins, or else the one closest to it, if that is close enough to be a
/// slip of the finger.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let word = word.to_lowercase().replace('-', "_");
    candidates
        .into_iter()
        .map(|candidate| {
            let plain = candidate.replace('-', "_");
            let begins = word.len() >= 3 && plain.starts_with(&word);
            let distance = if begins { 0 } else { strsim::damerau_levenshtein(&word, &plain) };
            (distance, candidate)
        })
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_understood_and_other_words_are_not() {
        let words = ["listen", "length_max", "sync", "overwrite-oldest"];
        let meant = |word| nearest(word, words);
        assert_eq!(meant("lisen"), Some("listen"));
        assert_eq!(meant("lenght_max"), Some("length_max"));
        assert_eq!(meant("length-max"), Some("length_max"));
        assert_eq!(meant("SYNC"), Some("sync"));
        assert_eq!(meant("overwrite_oldest"), Some("overwrite-oldest"));
        assert_eq!(meant("overwrite"), Some("overwrite-oldest"));
        assert_eq!(meant("color"), None);
        assert_eq!(meant("idle"), None);
        assert_eq!(meant(""), None);
    }
}
