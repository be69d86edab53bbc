//! The grammar that several header values share.

use http::HeaderValue;

/// The value without the spaces and tabs around it [RFC 9110 5.5].
pub(in crate::http) fn trimmed(value: &HeaderValue) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let bytes = value.as_bytes();
    let start = bytes.iter().position(|byte| !blank(byte)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
    &bytes[start..end]
}

/// Parses 1 to `longest` digits without a sign. `longest` is at most 19, so that no number overflows.
pub(in crate::http) fn number(digits: &[u8], longest: usize) -> Option<u64> {
    let fits = (1..=longest).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    fits.then(|| digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

/// Makes a header value of a text that has only visible ASCII and spaces. Such a text is always valid. Any other text
/// may become an empty value.
pub(in crate::http) fn ascii(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spaces_and_tabs_around_a_value_do_not_count() {
        for (value, expected) in [(" \t1 2\t ", "1 2"), ("7", "7"), (" \t ", ""), ("", "")] {
            assert_eq!(trimmed(&HeaderValue::from_static(value)), expected.as_bytes());
        }
    }

    #[test]
    fn a_number_has_only_digits_and_at_most_the_given_length() {
        for (digits, expected) in [
            ("0", Some(0)),
            ("0000000007", Some(7)),
            ("9999999999", Some(9_999_999_999)),
            ("10000000000", None),
            ("", None),
            ("+1", None),
            ("-1", None),
            ("1.5", None),
            ("1 ", None),
            ("1e3", None),
            ("\u{661}", None),
        ] {
            assert_eq!(number(digits.as_bytes(), 10), expected, "{digits:?}");
        }
        assert_eq!(number(&[b'9'; 19], 19), Some(9_999_999_999_999_999_999));
    }

    proptest! {
        #[test]
        fn each_number_is_read_as_it_was_written(written: u64, longest in 0..20_usize) {
            let text = written.to_string();
            let expected = (text.len() <= longest).then_some(written);
            prop_assert_eq!(number(text.as_bytes(), longest), expected);
        }
    }
}
