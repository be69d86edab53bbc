use super::{super::ignored_headers, *};
use proptest::{collection::vec, option, prelude::*};

fn fields(name: HeaderName, values: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(&name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

#[test]
fn a_grpc_content_type_may_have_a_suffix_or_parameters() {
    for (value, expected) in [
        ("application/grpc", true),
        ("application/grpc+proto", true),
        ("application/grpc-web", false),
        ("application/grpc;charset=utf-8", true),
        ("application/grpc ; charset=utf-8", true),
        ("APPLICATION/gRPC+json", true),
        (" application/grpc", true),
        ("application/grpcx", false),
        ("application/grp", false),
        ("application/json", false),
        ("text/application/grpc", false),
        ("", false),
    ] {
        assert_eq!(is_grpc(&fields(CONTENT_TYPE, &[value])), expected, "{value:?}");
    }
    assert!(!is_grpc(&HeaderMap::new()));
}

#[test]
fn a_status_that_is_no_number_from_0_to_16_is_unknown() {
    for (number, (code, name)) in GrpcCode::NAMES.into_iter().enumerate() {
        let headers = fields(STATUS, &[&number.to_string()]);
        assert_eq!(GrpcCode::read(&headers), Some(code));
        assert_eq!((usize::from(code.number()), format!("{code:?}").as_str()), (number, name));
    }
    assert_eq!(GrpcCode::read(&HeaderMap::new()), None);
    assert_eq!(GrpcCode::read(&fields(STATUS, &[" 14 "])), Some(GrpcCode::UNAVAILABLE));
    assert_eq!(GrpcCode::read(&fields(STATUS, &["14", "0"])), Some(GrpcCode::UNAVAILABLE));
    let before = ignored_headers().grpc_status;
    let unreadable = ["", "17", "-1", "+0", "0x0", "OK", "1.0", "18446744073709551616", "\u{660}"];
    for value in unreadable {
        assert_eq!(GrpcCode::read(&fields(STATUS, &[value, "0"])), Some(GrpcCode::UNKNOWN), "{value:?}");
        assert_eq!(GrpcCode::peek(&fields(STATUS, &[value, "0"])), Some(GrpcCode::UNKNOWN), "{value:?}");
    }
    assert!(ignored_headers().grpc_status >= before + unreadable.len() as u64);
}

#[test]
fn each_http_status_maps_to_a_code() {
    for status in (100..1000).map(|status| StatusCode::from_u16(status).unwrap()) {
        let expected = match status.as_u16() {
            400 => 13,
            401 => 16,
            403 => 7,
            404 => 12,
            429 | 502 | 503 | 504 => 14,
            _ => 2,
        };
        assert_eq!(GrpcCode::of_http(status), GrpcCode(expected), "{status}");
    }
}

#[test]
fn a_pushback_is_a_wait_or_forbids_a_retry() {
    let after = |millis| Pushback::After(Duration::from_millis(millis));
    for (value, expected) in [
        ("0", after(0)),
        ("250", after(250)),
        (" 7 ", after(7)),
        ("2147483647", after(2_147_483_647)),
        ("-0", after(0)),
        ("-1", Pushback::Never),
        ("-2147483648", Pushback::Never),
    ] {
        assert_eq!(Pushback::read(&fields(PUSHBACK, &[value, "5"])), Some(expected), "{value:?}");
    }
    assert_eq!(Pushback::read(&HeaderMap::new()), None);
    let before = ignored_headers().grpc_retry_pushback;
    let unreadable = ["", "-", "+5", "1.5", "5ms", "2147483648", "-2147483649", "99999999999", "--1", "\u{665}"];
    for value in unreadable {
        assert_eq!(Pushback::read(&fields(PUSHBACK, &[value, "5"])), Some(Pushback::Never), "{value:?}");
        assert_eq!(Pushback::of(&HeaderValue::from_bytes(value.as_bytes()).unwrap()), None);
    }
    assert!(ignored_headers().grpc_retry_pushback >= before + unreadable.len() as u64);
}

#[test]
fn a_pushback_is_written_in_milliseconds_rounded_up() {
    for (wait, expected) in [
        (None, "-1"),
        (Some(Duration::ZERO), "0"),
        (Some(Duration::from_nanos(1)), "1"),
        (Some(Duration::from_micros(1500)), "2"),
        (Some(Duration::from_secs(3)), "3000"),
        (Some(Duration::MAX), "2147483647"),
    ] {
        assert_eq!(pushback(wait), expected);
    }
}

#[test]
fn a_timeout_is_1_to_8_digits_and_a_unit() {
    let read = |value: &str| timeout(&HeaderValue::from_bytes(value.as_bytes()).unwrap());
    for (value, nanos) in [
        ("1H", 3_600_000_000_000),
        ("2M", 120_000_000_000),
        ("3S", 3_000_000_000),
        ("4m", 4_000_000),
        ("5u", 5_000),
        ("6n", 6),
        (" 7n ", 7),
        ("0S", 0),
        ("00000001S", 1_000_000_000),
        ("99999999H", 99_999_999 * 3_600_000_000_000),
    ] {
        assert_eq!(read(value).map(|time| time.as_nanos()), Some(nanos), "{value:?}");
    }
    for value in ["", "S", "5", "5s", "5h", "5 S", "-5S", "+5S", "1.5S", "123456789n", "5SS", "5\u{b5}"] {
        assert_eq!(read(value), None, "{value:?}");
    }
}

#[test]
fn a_timeout_is_written_in_the_finest_unit_that_fits_and_never_as_zero() {
    for (left, expected) in [
        (Duration::ZERO, "1n"),
        (Duration::from_nanos(1), "1n"),
        (Duration::from_nanos(99_999_999), "99999999n"),
        (Duration::from_nanos(100_000_999), "100000u"),
        (Duration::from_nanos(99_999_999_999), "99999999u"),
        (Duration::from_secs(100), "100000m"),
        (Duration::from_secs(100_000), "100000S"),
        (Duration::from_secs(100_000_000), "1666666M"),
        (Duration::from_secs(6_000_000_000), "1666666H"),
        (Duration::MAX, "99999999H"),
    ] {
        assert_eq!(timeout_value(left), expected, "{left:?}");
    }
}

#[test]
fn a_message_encodes_percent_signs_unprintable_bytes_and_spaces_at_its_ends() {
    for (text, expected) in [
        ("", ""),
        ("no room", "no room"),
        ("100% full", "100%25 full"),
        ("a\tb\r\nc\0\x7f", "a%09b%0D%0Ac%00%7F"),
        ("\u{e9}t\u{e9}", "%C3%A9t%C3%A9"),
        ("\u{1f600}", "%F0%9F%98%80"),
        (" a b ", "%20a b%20"),
        ("  ", "%20%20"),
    ] {
        assert_eq!(message(text), expected, "{text:?}");
    }
}

#[test]
fn a_long_message_is_cut_after_the_last_character_that_fits() {
    assert_eq!(message(&"a".repeat(1024)), "a".repeat(1024));
    assert_eq!(message(&"a".repeat(5000)), "a".repeat(1024));
    // 12 bytes each: 85 of them are 1020.
    assert_eq!(message(&"\u{1f600}".repeat(100)), "%F0%9F%98%80".repeat(85));
    assert_eq!(message(&format!("{}%", "a".repeat(1022))), "a".repeat(1022));
    // The cut leaves no space at the end.
    assert_eq!(message(&format!("{}   bcd", "a".repeat(1021))), "a".repeat(1021));
}

fn decoded(value: &HeaderValue) -> Vec<u8> {
    let (mut bytes, mut decoded) = (value.as_bytes().iter(), Vec::new());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let digits = [*bytes.next().unwrap(), *bytes.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            byte => *byte,
        });
    }
    decoded
}

proptest! {
    #[test]
    fn any_bytes_in_any_number_of_fields_are_read_without_a_panic(
        values in vec((0..4_usize, vec(any::<u8>(), 0..16)), 0..8),
    ) {
        let mut headers = HeaderMap::new();
        for (name, value) in values {
            let name = [STATUS, PUSHBACK, TIMEOUT, CONTENT_TYPE][name].clone();
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                timeout(&value);
                headers.append(name, value);
            }
        }
        is_grpc(&headers);
        prop_assert_eq!(GrpcCode::read(&headers).is_some(), headers.contains_key(STATUS));
        prop_assert_eq!(GrpcCode::read(&headers), GrpcCode::peek(&headers));
        prop_assert_eq!(Pushback::read(&headers).is_some(), headers.contains_key(PUSHBACK));
        prop_assert_eq!(Pushback::read(&headers), Pushback::peek(&headers));
    }

    #[test]
    fn text_like_a_number_is_read_or_rejected_without_a_panic(value in "[-+ 0-9HMSmun.]{0,12}") {
        let value = HeaderValue::from_str(&value).unwrap();
        timeout(&value);
        let mut headers = HeaderMap::new();
        headers.insert(PUSHBACK, value);
        // Every signed number that Rust parses is read, except with a plus or more than ten digits.
        let text = headers[PUSHBACK].to_str().unwrap().trim_matches(' ');
        let digits = text.trim_start_matches('-').len();
        let number: Option<i32> = text.parse().ok().filter(|_| !text.starts_with('+') && digits <= 10);
        let expected = match number.map(u64::try_from) {
            Some(Ok(millis)) => Pushback::After(Duration::from_millis(millis)),
            _ => Pushback::Never,
        };
        prop_assert_eq!(Pushback::read(&headers), Some(expected));
    }

    #[test]
    fn a_pushback_is_read_as_it_was_written_rounded_up(nanos in option::of(0..u64::from(u32::MAX) * 500_000)) {
        let mut headers = HeaderMap::new();
        headers.insert(PUSHBACK, pushback(nanos.map(Duration::from_nanos)));
        let expected = match nanos {
            Some(nanos) => Pushback::After(Duration::from_millis(nanos.div_ceil(1_000_000))),
            None => Pushback::Never,
        };
        prop_assert_eq!(Pushback::read(&headers), Some(expected));
    }

    /// Rounding loses at most one part in 100,000. Nanoseconds lose nothing. In any other unit the number has at least
    /// six digits: in the next finer unit, which is at most 1,000 times finer, it would have at least nine.
    #[test]
    fn a_timeout_is_read_as_it_was_written_except_for_rounding(nanos: u64, shift in 0..64) {
        let left = Duration::from_nanos(nanos >> shift);
        let read = timeout(&timeout_value(left)).unwrap();
        prop_assert!(read <= left.max(Duration::from_nanos(1)));
        prop_assert!((left.saturating_sub(read)).as_nanos() <= left.as_nanos() / 100_000, "{left:?} as {read:?}");
    }

    #[test]
    fn a_message_decodes_to_its_text_or_a_prefix(text in "(\\PC| |%|[\u{0}-\u{20}]){0,600}") {
        let value = message(&text);
        prop_assert!(value.len() <= LONGEST_MESSAGE);
        prop_assert!(value.as_bytes().iter().all(|byte| (0x20..=0x7E).contains(byte)));
        prop_assert!(![value.as_bytes().first(), value.as_bytes().last()].contains(&Some(&b' ')));
        let decoded = String::from_utf8(decoded(&value)).unwrap();
        prop_assert!(text.starts_with(&decoded));
        if text.len() * 3 <= LONGEST_MESSAGE {
            prop_assert_eq!(decoded, text);
        }
    }
}
