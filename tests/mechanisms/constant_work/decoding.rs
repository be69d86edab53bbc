//! The decoder, on arbitrary bytes.

use super::support::{Limit, forged, limit, published, shape};
use crate::counting::allocated;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use steadfast::{
    ConfigError,
    constant_work::{EncodeError, Refusal, Rule, Shape, Snapshot, Version, slot_length_of},
};

#[test]
fn a_snapshot_decodes_to_its_encoded_rules_and_has_a_fixed_length() {
    for used in [0, 1, 5, 10] {
        let rules: Vec<_> = (0..used).map(|client| limit(client, 100)).collect();
        let bytes = published(shape(10), 3, 4, &rules);
        assert_eq!(bytes.len(), 64 + 10 * 19 + 4);
        let snapshot = Snapshot::<Limit>::decode(&bytes, shape(10)).unwrap();
        assert_eq!((snapshot.version, snapshot.rules), (Version { epoch: 3, version: 4 }, rules));
        assert_eq!(snapshot.published_at_nanos, 1_800_000_000_000_000_000);
    }
}

#[test]
fn the_binary_format_is_the_documented_one() {
    let bytes = published(shape(2), 3, 4, &[limit(9, 300)]);
    let mut expected = b"STDFSTCW\x01\0\0\0\x07\0\0\0\x03\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0".to_vec();
    expected.extend(1_800_000_000_000_000_000_u64.to_le_bytes());
    expected.extend(b"\x02\0\0\0\x13\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    expected.extend(b"\x0e\0\x09\0\0\0\0\0\0\0\xac\x02\0\0\0\x3f\0\0\0");
    expected.extend(b"\x11\0\0\0\0\0\0\0\0\0\xff\xff\xff\xff\x0f\0\0\x80\x3f");
    expected.extend(crc32fast::hash(&expected).to_le_bytes());
    assert_eq!(bytes, expected);
}

#[test]
fn invalid_shapes_are_refused() {
    assert_eq!(slot_length_of::<Limit>(), Ok(19));
    for (slots, slot_length, field) in [
        (0, 16, "shape.slots"),
        ((1 << 20) + 1, 16, "shape.slots"),
        (1, 1, "shape.slot_length"),
        (1, 65_537, "shape.slot_length"),
        (1 << 20, 64, "shape.length"),
    ] {
        assert_eq!(Shape::new(slots, slot_length).unwrap_err().field(), field);
    }
    assert!(Shape::new(1 << 20, 63).is_ok());
    assert!(Shape::new(1, 65_536).is_ok());
}

#[test]
fn rules_that_do_not_fit_are_not_encoded() {
    let encode = |shape, rules| {
        let mut bytes = vec![1; 5];
        let outcome = Snapshot { version: Version::default(), published_at_nanos: 0, rules }.encode(shape, &mut bytes);
        assert!(bytes.is_empty());
        outcome.unwrap_err()
    };
    let rules = vec![limit(1, 1); 3];
    assert_eq!(encode(shape(2), rules), EncodeError::Fill { rules: 3, slots: 2 });
    let narrow = Shape::new(2, 16).unwrap();
    let too_long = EncodeError::SlotTooLong { slot: 1, length: 17, slot_length: 16 };
    assert_eq!(encode(narrow, vec![limit(1, 1), limit(1, 1_000_000)]).to_string(), too_long.to_string());
    assert!(matches!(encode(shape(2), vec![limit(1, 1), limit(1, 0)]), EncodeError::Rule { slot: 1, .. }));
}

#[test]
fn the_longest_slot_can_be_filled() {
    let shape = Shape::new(1, 65_536).unwrap();
    let rules = vec![Wide { bytes: vec![7; 65_530], name: String::new() }];
    let mut bytes = Vec::new();
    Snapshot { version: Version::default(), published_at_nanos: 0, rules: rules.clone() }
        .encode(shape, &mut bytes)
        .unwrap();
    assert_eq!(Snapshot::<Wide>::decode(&bytes, shape).unwrap().rules, rules);
}

/// A rule that allocates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Wide {
    bytes: Vec<u8>,
    name: String,
}

impl Rule for Wide {
    const SCHEMA: u32 = 8;

    fn inert(_slot: u32) -> Self {
        Self { bytes: vec![0; 20], name: String::new() }
    }

    fn validate(&self) -> Result<(), ConfigError> {
        Ok(())
    }
}

/// The number 2^62 as a varint of nine bytes: a length that no slot can hold.
const HUGE: [u8; 9] = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40];

#[test]
fn a_false_length_allocates_at_most_the_length_of_the_slot() {
    let shape = Shape::new(4, 64).unwrap();
    let mut bytes = Vec::new();
    let rules = Vec::<Wide>::new();
    Snapshot { version: Version::default(), published_at_nanos: 0, rules }.encode(shape, &mut bytes).unwrap();
    // The unchanged snapshot allocates the vector of four rules, and twenty bytes for each rule.
    let (honest, honestly) = allocated(|| Snapshot::<Wide>::decode(&bytes, shape));
    assert!(honest.is_ok());
    assert_eq!(honestly.bytes, 4 * (size_of::<Wide>() as u64 + 20));

    let in_the_sequence = forged(bytes.clone(), 64 + 2, &HUGE);
    let in_the_string = forged(bytes.clone(), 64 + 2, &[&[0], &HUGE[..]].concat());
    for lie in [in_the_sequence, in_the_string] {
        let (refused, allocated) = allocated(|| Snapshot::<Wide>::decode(&lie, shape));
        assert!(matches!(refused, Err(Refusal::Encoding { slot: 0 })), "{refused:?}");
        // The vector of bytes doubles its capacity while the slot has bytes left.
        assert!(allocated.bytes <= honestly.bytes + 2 * 64, "{allocated:?}");
    }
}

proptest! {
    #![proptest_config(crate::support::cases(2_000))]

    #[test]
    fn random_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let (decoded, allocated) = allocated(|| Snapshot::<Limit>::decode(&bytes, shape(4)).err());
        prop_assert!(decoded.is_some());
        prop_assert_eq!(allocated.bytes, 0);
    }

    #[test]
    fn mutations_with_a_correct_checksum_are_refused_or_give_valid_rules(
        changes in proptest::collection::vec((8_usize..64 + 4 * 19, any::<u8>()), 1..6),
    ) {
        let mut bytes = published(shape(4), 1, 1, &[limit(1, 1), limit(2, 2)]);
        for (at, byte) in changes {
            bytes = forged(bytes, at, &[byte]);
        }
        let (decoded, allocated) = allocated(|| Snapshot::<Limit>::decode(&bytes, shape(4)));
        if let Ok(snapshot) = decoded {
            prop_assert!(snapshot.rules.len() <= 4);
            for rule in &snapshot.rules {
                prop_assert!(rule.per_second > 0 && rule.weight > 0.0 && rule.weight.is_finite());
            }
        }
        // The decoder allocates the vector of rules, and the error text of a refused rule.
        prop_assert!(allocated.bytes <= 4 * size_of::<Limit>() as u64 + 200, "{:?}", allocated);
    }
}
