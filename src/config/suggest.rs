//! "Did you mean": the nearest of the words that would have been right.

/// Longer words than this are not typing errors of ours, and comparing them costs time.
const LONGEST: usize = 64;

/// The candidate that `word` most likely stands for, if any is near: a third of its letters may be wrong, at least one.
/// Case and `-` for `_` count as nothing.
pub(crate) fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    if word.is_empty() || word.len() > LONGEST {
        return None;
    }
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    let wanted = plain(word);
    let allowed = (wanted.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= LONGEST)
        .map(|candidate| (strsim::osa_distance(&wanted, &plain(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= allowed && *distance < candidate.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// What to do about an unknown `word`: the nearest candidate, else all of them if they are at most `most`.
pub(super) fn hint(word: &str, candidates: &[&str], what: &str, most: usize) -> Option<String> {
    if let Some(candidate) = nearest(word, candidates.iter().copied()) {
        return Some(format!("did you mean {candidate:?}?"));
    }
    if candidates.is_empty() || candidates.len() > most {
        return None;
    }
    let mut sorted = candidates.to_vec();
    sorted.sort_unstable();
    Some(format!("{what}: {}", sorted.join(", ")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let words = ["max_size", "max_age", "path", "qos"];
        assert_eq!(nearest("max_sise", words), Some("max_size"));
        assert_eq!(nearest("MAX-AGE", words), Some("max_age"));
        assert_eq!(nearest("pth", words), Some("path"));
        assert_eq!(nearest("frobnicate", words), None);
        assert_eq!(nearest("", words), None);
        assert_eq!(nearest(&"max_size".repeat(1000), words), None);
    }
}
