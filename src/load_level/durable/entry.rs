use ::redis::{RedisWrite, ToRedisArgs};
use std::fmt;

/// The identity of a stream entry: milliseconds of the server's clock, and a number. Identities sort in the order of
/// the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Entry {
    pub(super) millis: u64,
    number: u64,
}

impl Entry {
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let dash = text.iter().position(|byte| *byte == b'-')?;
        Some(Self { millis: number(&text[..dash])?, number: number(&text[dash + 1..])? })
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| match digit {
        b'0'..=b'9' => number.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.millis, self.number)
    }
}

impl ToRedisArgs for Entry {
    fn write_redis_args<W>(&self, out: &mut W)
    where
        W: ?Sized + RedisWrite,
    {
        out.write_arg_fmt(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_written_as_it_was_read() {
        for text in ["0-0", "1700000000123-4", "18446744073709551615-18446744073709551615"] {
            assert_eq!(Entry::parse(text.as_bytes()).map(|entry| entry.to_string()).as_deref(), Some(text));
        }
    }

    #[test]
    fn other_text_is_not_parsed_as_an_identity() {
        for text in ["", "-", "1", "1-", "-1", "1-x", "+1-1", "1-1-1", "18446744073709551616-0"] {
            assert_eq!(Entry::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn identities_sort_in_the_order_of_the_stream() {
        let parse = |text: &str| Entry::parse(text.as_bytes());
        assert!(parse("9-10") < parse("10-9") && parse("10-9") < parse("10-10"));
    }
}
