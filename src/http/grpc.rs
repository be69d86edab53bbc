//! Reads and writes the headers and trailers of gRPC: status, timeout, pushback and message.
//!
//! Sources: the [protocol](https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md), the
//! [mapping of HTTP's status](https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md), and
//! [gRFC A6](https://github.com/grpc/proposal/blob/master/A6-client-retries.md) for the pushback.

use super::wire::{IgnoredHeader, ascii, number, trimmed};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::CONTENT_TYPE};
use std::{fmt, time::Duration};

pub(super) const STATUS: HeaderName = HeaderName::from_static("grpc-status");
pub(super) const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
pub(super) const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The longest encoded [`message`], in bytes.
const LONGEST_MESSAGE: usize = 1024;

/// The largest value of `grpc-timeout`, without its unit: 8 digits.
const MOST_UNITS: u128 = 99_999_999;

/// The units of `grpc-timeout` in nanoseconds, from the finest to the coarsest.
const UNITS: [(u128, char); 6] =
    [(1, 'n'), (1_000, 'u'), (1_000_000, 'm'), (1_000_000_000, 'S'), (60_000_000_000, 'M'), (3_600_000_000_000, 'H')];

/// Whether the content type is gRPC: `application/grpc`, with or without a format and parameters. gRPC-Web,
/// `application/grpc-web`, counts as HTTP, because its trailers are part of the body.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(is_grpc_type)
}

/// Whether this content type is gRPC.
pub(super) fn is_grpc_type(value: &HeaderValue) -> bool {
    match trimmed(value).split_at_checked(b"application/grpc".len()) {
        Some((begin, rest)) => {
            begin.eq_ignore_ascii_case(b"application/grpc")
                && matches!(rest.first(), None | Some(b'+' | b';' | b' ' | b'\t'))
        }
        None => false,
    }
}

/// A gRPC status code, from 0 to 16.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct GrpcCode(u8);

macro_rules! codes {
    ($($name:ident = $number:literal)*) => {
        impl GrpcCode {
            $(pub(super) const $name: Self = Self($number);)*

            const NAMES: [(Self, &str); 17] = [$((Self::$name, stringify!($name))),*];
        }
    };
}

codes! {
    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16
}

impl fmt::Debug for GrpcCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Self::NAMES.iter().filter(|(code, _)| code == self).try_for_each(|(_, name)| f.write_str(name))
    }
}

impl GrpcCode {
    /// Reads the first `grpc-status` of these trailers, or of the headers of a response without a body. A value that is
    /// no number from 0 to 16 counts as [`UNKNOWN`](Self::UNKNOWN), as in gRPC's own libraries, and is
    /// [counted](super::ignored_headers).
    pub(super) fn read(fields: &HeaderMap) -> Option<Self> {
        let code = Self::of(fields.get(STATUS)?);
        if code.is_none() {
            IgnoredHeader::GrpcStatus.count();
        }
        Some(code.unwrap_or(Self::UNKNOWN))
    }

    /// Does what [`read`](Self::read) does, without counting, so that a response that is read twice counts once.
    pub(super) fn peek(fields: &HeaderMap) -> Option<Self> {
        Some(Self::of(fields.get(STATUS)?).unwrap_or(Self::UNKNOWN))
    }

    fn of(value: &HeaderValue) -> Option<Self> {
        let number = number(trimmed(value), 10)?;
        Self::NAMES.get(usize::try_from(number).ok()?).map(|(code, _)| *code)
    }

    /// Maps an HTTP status other than 200 to a code, for a response without a `grpc-status`.
    pub(super) fn of_http(status: StatusCode) -> Self {
        match status.as_u16() {
            400 => Self::INTERNAL,
            401 => Self::UNAUTHENTICATED,
            403 => Self::PERMISSION_DENIED,
            404 => Self::UNIMPLEMENTED,
            429 | 502 | 503 | 504 => Self::UNAVAILABLE,
            _ => Self::UNKNOWN,
        }
    }

    /// The number of the code.
    pub(super) const fn number(self) -> u8 {
        self.0
    }
}

/// The value of `grpc-retry-pushback-ms` [gRFC A6].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushback {
    /// Retry after this time.
    After(Duration),
    /// Do not retry: the value was negative, or could not be read.
    Never,
}

impl Pushback {
    /// Reads the first pushback of these headers or trailers. A value that is no signed 32-bit number is
    /// [counted](super::ignored_headers).
    pub(super) fn read(fields: &HeaderMap) -> Option<Self> {
        let pushback = Self::of(fields.get(PUSHBACK)?);
        if pushback.is_none() {
            IgnoredHeader::GrpcRetryPushback.count();
        }
        Some(pushback.unwrap_or(Self::Never))
    }

    /// Does what [`read`](Self::read) does, without counting, so that a response that is read twice counts once.
    pub(super) fn peek(fields: &HeaderMap) -> Option<Self> {
        Some(Self::of(fields.get(PUSHBACK)?).unwrap_or(Self::Never))
    }

    fn of(value: &HeaderValue) -> Option<Self> {
        let value = trimmed(value);
        match value.strip_prefix(b"-") {
            // The lowest number is -2^31, the highest 2^31 - 1.
            Some(below_zero) => number(below_zero, 10).filter(|number| *number <= 1 << 31).map(|number| match number {
                0 => Self::After(Duration::ZERO),
                _ => Self::Never,
            }),
            None => number(value, 10)
                .filter(|number| *number < 1 << 31)
                .map(|millis| Self::After(Duration::from_millis(millis))),
        }
    }
}

/// Formats a wait for `grpc-retry-pushback-ms`: milliseconds rounded up, at most 2^31 - 1 (24 days). `None` becomes
/// `-1`.
pub(super) fn pushback(wait: Option<Duration>) -> HeaderValue {
    match wait {
        Some(wait) => {
            let millis = wait.as_nanos().div_ceil(1_000_000);
            HeaderValue::from(i32::try_from(millis).unwrap_or(i32::MAX))
        }
        None => HeaderValue::from_static("-1"),
    }
}

/// Parses a `grpc-timeout`: 1 to 8 digits and a unit. Accepts zero, which the grammar excludes, as zero.
pub(super) fn timeout(value: &HeaderValue) -> Option<Duration> {
    let (unit, digits) = trimmed(value).split_last()?;
    let number = number(digits, 8)?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Formats the time left for `grpc-timeout`: in the finest unit that needs at most 8 digits, rounded down. The longest
/// time is 99,999,999 hours. Zero becomes `1n`, because the grammar requires a positive number.
pub(super) fn timeout_value(left: Duration) -> HeaderValue {
    let nanos = left.as_nanos().max(1);
    let fits = UNITS.iter().find(|(unit, _)| nanos / unit <= MOST_UNITS);
    ascii(match fits {
        Some((unit, letter)) => format!("{}{letter}", nanos / unit),
        None => format!("{MOST_UNITS}H"),
    })
}

/// Encodes a text for `grpc-message`: its UTF-8, with `%` and all bytes outside of `0x20..=0x7E` percent-encoded.
///
/// Leading and trailing spaces are encoded too, because HTTP/2 forbids them there [RFC 9113 8.2.1]. A text of more than
/// 1024 encoded bytes is cut after the last character that fits; spaces before the cut are removed.
pub(super) fn message(text: &str) -> HeaderValue {
    let inner = text.trim_matches(' ');
    let begin = text.len() - text.trim_start_matches(' ').len();
    let plain = begin..begin + inner.len();
    let mut encoded = String::new();
    for (at, character) in text.char_indices() {
        let before = encoded.len();
        match character {
            '%' => encoded.push_str("%25"),
            ' ' if !plain.contains(&at) => encoded.push_str("%20"),
            ' '..='~' => encoded.push(character),
            _ => character.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| escape(byte, &mut encoded)),
        }
        if encoded.len() > LONGEST_MESSAGE {
            encoded.truncate(before);
            encoded.truncate(encoded.trim_end_matches(' ').len());
            break;
        }
    }
    ascii(encoded)
}

fn escape(byte: u8, encoded: &mut String) {
    let digit = |half: u8| char::from(b"0123456789ABCDEF"[usize::from(half)]);
    encoded.extend(['%', digit(byte >> 4), digit(byte & 0xF)]);
}

#[cfg(test)]
mod tests;
