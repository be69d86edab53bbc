//! Reads and writes `Retry-After` [RFC 9110 10.2.3]: seconds, or a date.

use super::wire::{IgnoredHeader, number, trimmed};
use http::{
    HeaderMap, HeaderValue,
    header::{DATE, RETRY_AFTER},
};
use httpdate::HttpDate;
use std::time::Duration;

/// The most digits of a number of seconds. The longest wait that is read as a number is therefore 9,999,999,999
/// seconds: 316 years.
const DIGITS: usize = 10;
/// The longest wait that is written: the largest number of [`DIGITS`] digits.
const MOST_SECONDS: u64 = 9_999_999_999;

/// Returns how long the response asks callers to wait.
///
/// The first `Retry-After` field counts. A date counts from the response's own `Date`, so that the clocks of both sides
/// need not agree. Without a readable `Date` it counts from the clock of this machine. A date in the past is zero. A
/// malformed value is no hint, and is [counted](super::ignored_headers).
///
/// Costs one look-up if the header is absent, and never allocates.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = trimmed(headers.get(RETRY_AFTER)?);
    let wait = match number(value, DIGITS) {
        Some(seconds) => Some(Duration::from_secs(seconds)),
        None => date(value).map(|due| until(due, headers)),
    };
    if wait.is_none() {
        IgnoredHeader::RetryAfter.count();
    }
    wait
}

/// Formats a wait for `Retry-After`: in seconds, rounded up, at least one.
pub(super) fn whole_seconds(wait: Duration) -> HeaderValue {
    let seconds = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0));
    HeaderValue::from(seconds.clamp(1, MOST_SECONDS))
}

fn date(value: &[u8]) -> Option<HttpDate> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// The time from the response to this date.
#[expect(clippy::disallowed_types, reason = "an HTTP date is wall-clock time, and only the distance to it is used")]
fn until(due: HttpDate, headers: &HeaderMap) -> Duration {
    use std::time::SystemTime;
    let now = match headers.get(DATE).and_then(|value| date(trimmed(value))) {
        Some(date) => date.into(),
        None => SystemTime::now(),
    };
    SystemTime::from(due).duration_since(now).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{super::ignored_headers, *};
    use proptest::{collection::vec, prelude::*};

    const DAY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn fields(values: &[&str], dates: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, values) in [(RETRY_AFTER, values), (DATE, dates)] {
            for value in values {
                headers.append(&name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
        }
        headers
    }

    #[track_caller]
    fn assert_read(values: &[&str], dates: &[&str], seconds: Option<u64>) {
        assert_eq!(retry_after(&fields(values, dates)), seconds.map(Duration::from_secs), "{values:?} at {dates:?}");
    }

    #[test]
    fn one_to_ten_digits_are_seconds_and_the_first_field_counts() {
        assert_read(&[], &[], None);
        assert_read(&["0"], &[], Some(0));
        assert_read(&[" \t120\t "], &[], Some(120));
        assert_read(&["9999999999"], &[DAY], Some(9_999_999_999));
        assert_read(&["7", "3"], &[], Some(7));
        assert_read(&["3", "soon"], &[], Some(3));
        assert_read(&["soon", "3"], &[], None);
    }

    #[test]
    fn a_date_in_each_http_format_counts_from_the_date_of_the_response() {
        for value in [
            "Sun, 06 Nov 1994 08:51:07 GMT",
            "Sunday, 06-Nov-94 08:51:07 GMT",
            "Sun Nov  6 08:51:07 1994",
            " Sun, 06 Nov 1994 08:51:07 GMT ",
        ] {
            assert_read(&[value], &[DAY], Some(90));
            assert_read(&[value], &["Sunday, 06-Nov-94 08:49:37 GMT"], Some(90));
            // Past by the clock of the response.
            assert_read(&[value], &["Mon, 07 Nov 1994 08:49:37 GMT"], Some(0));
        }
    }

    #[test]
    fn a_date_counts_from_this_machines_clock_if_the_response_has_no_readable_date() {
        assert_read(&[DAY], &[], Some(0));
        assert_read(&[DAY], &["yesterday"], Some(0));
        let years = Duration::from_secs(1000 * 365 * 24 * 60 * 60);
        for dates in [&[][..], &["yesterday"]] {
            let wait = retry_after(&fields(&["Fri, 31 Dec 9999 23:59:59 GMT"], dates)).unwrap();
            assert!(wait > years && wait < 8 * years, "{wait:?}");
        }
    }

    #[test]
    fn a_malformed_value_is_no_hint_and_is_counted() {
        let malformed = [
            "",
            " ",
            "+5",
            "-5",
            "1.5",
            "5s",
            "5 5",
            "5, 7",
            "12345678901",
            "\u{664}\u{662}",
            "Sun, 31 Feb 2027 08:49:37 GMT",
            "Mon, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "1994-11-06T08:49:37Z",
        ];
        let before = ignored_headers().retry_after;
        for value in malformed {
            assert_read(&[value], &[DAY], None);
        }
        assert!(ignored_headers().retry_after >= before + malformed.len() as u64);
    }

    #[test]
    fn a_wait_is_written_in_seconds_rounded_up_and_at_least_one() {
        for (wait, expected) in [
            (Duration::ZERO, "1"),
            (Duration::from_nanos(1), "1"),
            (Duration::from_secs(1), "1"),
            (Duration::new(1, 1), "2"),
            (Duration::from_millis(2500), "3"),
            (Duration::MAX, "9999999999"),
        ] {
            assert_eq!(whole_seconds(wait), expected);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_number_of_fields_are_read_without_a_panic(
            values in vec(vec(any::<u8>(), 0..40), 0..4),
            dates in vec(vec(any::<u8>(), 0..40), 0..4),
        ) {
            let mut headers = HeaderMap::new();
            for (name, values) in [(RETRY_AFTER, values), (DATE, dates)] {
                for value in values.iter().filter_map(|value| HeaderValue::from_bytes(value).ok()) {
                    headers.append(&name, value);
                }
            }
            if headers.get(RETRY_AFTER).is_none() {
                prop_assert_eq!(retry_after(&headers), None);
            }
            retry_after(&headers);
        }

        /// A date with up to three characters replaced.
        #[test]
        fn a_damaged_date_is_read_or_ignored_without_a_panic(
            form in 0..3_usize,
            damage in vec((any::<prop::sample::Index>(), 0x20..0x7f_u8), 0..4),
        ) {
            let text = [DAY, "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"][form];
            let mut bytes = text.as_bytes().to_vec();
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let mut headers = fields(&[], &[DAY]);
            headers.insert(RETRY_AFTER, HeaderValue::from_bytes(&bytes).unwrap());
            retry_after(&headers);
            let date = headers.insert(RETRY_AFTER, HeaderValue::from_static(DAY)).unwrap();
            headers.insert(DATE, date);
            prop_assert!(retry_after(&headers).is_some());
        }

        #[test]
        fn a_wait_in_seconds_is_read_as_it_was_written(seconds in 1..=MOST_SECONDS, nanos in 0..1_000_000_000_u32) {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, whole_seconds(Duration::new(seconds - 1, nanos)));
            let read = retry_after(&headers).unwrap();
            prop_assert_eq!(read, Duration::from_secs((seconds - 1 + u64::from(nanos > 0)).max(1)));
        }
    }
}
