//! The hash slot of each key in a Redis Cluster, and the server of each slot.

use ::redis::Value;

/// The first and the last slot of a range, and its server.
pub(super) type Range = (u16, u16, Address);

/// Host and port.
pub(super) type Address = (String, u16);

/// Returns the ranges of an answer to `CLUSTER SLOTS`, or `None` if the answer has another form or is empty. `asked` is
/// the host for servers whose host the answer does not name.
pub(super) fn ranges_of(answer: &Value, asked: &str) -> Option<Vec<Range>> {
    let list = |value: &Value| match value {
        Value::Array(values) => Some(values.clone()),
        _ => None,
    };
    let number = |value: &Value| match value {
        Value::Int(number) => u16::try_from(*number).ok(),
        _ => None,
    };
    let mut ranges = Vec::new();
    for range in list(answer)? {
        let [first, last, main, ..] = &list(&range)?[..] else { return None };
        let main = list(main)?;
        let [host, port, ..] = &main[..] else { return None };
        let host = match host {
            Value::BulkString(host) if !host.is_empty() && host != b"?" => String::from_utf8_lossy(host).into_owned(),
            _ => asked.to_owned(),
        };
        ranges.push((number(first)?, number(last)?, (host, number(port)?)));
    }
    ranges.sort_unstable();
    (!ranges.is_empty()).then_some(ranges)
}

/// Returns the slot of a key, one of 16,384: by its hash tag, if it has one.
pub(super) fn slot_of(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        rest.iter().position(|byte| *byte == b'}').filter(|length| *length > 0).map(|length| &rest[..length])
    });
    crc16(tag.unwrap_or(key)) % 16384
}

/// CRC-16/XMODEM, as in the specification of Redis Cluster. The client library has it only in its own cluster client,
/// and keeps it private.
fn crc16(bytes: &[u8]) -> u16 {
    let shift = |crc: u16| if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 };
    bytes.iter().fold(0, |crc, byte| (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| shift(crc)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crc_of_123456789_is_the_published_check_value() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
    }

    #[test]
    fn a_key_with_a_hash_tag_has_the_slot_of_the_tag() {
        // By `CLUSTER KEYSLOT`.
        for (key, slot) in
            [("", 0), ("123456789", 12739), ("foo", 12182), ("{foo}bar", 12182), ("a{}b", 13694), ("{{foo}}zap", 13308)]
        {
            assert_eq!(slot_of(key.as_bytes()), slot, "{key}");
        }
    }

    #[test]
    fn an_invalid_list_of_ranges_is_ignored() {
        let range = |first: i64, port: i64| {
            let main = Value::Array(vec![Value::BulkString(b"".to_vec()), Value::Int(port)]);
            Value::Array(vec![Value::Array(vec![Value::Int(first), Value::Int(9), main])])
        };
        assert_eq!(ranges_of(&range(3, 7000), "here"), Some(vec![(3, 9, ("here".to_owned(), 7000))]));
        for nonsense in
            [range(-1, 7000), range(0, 70000), Value::Nil, Value::Array(vec![]), Value::Array(vec![Value::Nil])]
        {
            assert_eq!(ranges_of(&nonsense, "here"), None, "{nonsense:?}");
        }
    }
}
