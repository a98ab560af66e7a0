//! Regular expressions of operators.

use regex::{Regex, RegexBuilder};

/// Bytes that a compiled one may have.
const BYTES_MAX: usize = 1 << 20;

/// One that fits whole texts only.
///
/// # Errors
/// The text is none, in a line.
pub(crate) fn whole(text: &str) -> Result<Regex, String> {
    let build = |text: &str| RegexBuilder::new(text).size_limit(BYTES_MAX).build();
    // By itself first: `a)|(b` would be one only between the brackets, and fit parts.
    build(text)
        .and_then(|_| build(&format!("^(?:{text})$")))
        .map_err(|error| format!("`{text}` is no regular expression: {error}").replace('\n', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_texts_fit_and_parts_do_not() {
        let regex = whole("a|b").unwrap();
        assert!(regex.is_match("a") && regex.is_match("b"));
        for part in ["ab", "xa", "a\n", ""] {
            assert!(!regex.is_match(part), "{part:?}");
        }
        for text in ["(", "a)|(b", "a{9999999}"] {
            assert!(whole(text).is_err(), "{text}");
        }
    }
}
