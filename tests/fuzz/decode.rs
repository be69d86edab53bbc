//! The decoder of snapshots on anything: as it is, and with the header's beginning and the checksum put right, so that
//! the slots are reached.
//!
//! `cargo +nightly fuzz run --fuzz-dir tests/fuzz decode`

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use steadfast::{
    ConfigError,
    constant_work::{Rule, Shape, Snapshot},
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Kind {
    Open,
    Limited(f64),
    Listed { names: Vec<String>, by_name: BTreeMap<String, u16> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    name: String,
    bytes: Vec<u8>,
    kind: Option<Kind>,
    rate: i64,
}

impl Rule for Entry {
    const SCHEMA: u32 = 1;

    fn inert(_slot: u32) -> Self {
        Self { name: String::new(), bytes: Vec::new(), kind: None, rate: 1 }
    }

    fn validate(&self) -> Result<(), ConfigError> {
        match (&self.kind, self.rate) {
            (Some(Kind::Limited(limit)), _) if !limit.is_finite() => {
                Err(ConfigError::new("entry.limit", limit, "must be a number"))
            }
            (_, 0) => Err(ConfigError::new("entry.rate", self.rate, "must not be zero")),
            _ => Ok(()),
        }
    }
}

/// What is decoded is valid, and decodes to itself once more.
fn check(bytes: &[u8], shape: Shape) {
    let Ok(snapshot) = Snapshot::<Entry>::decode(bytes, shape) else { return };
    assert!(snapshot.rules.len() <= shape.slots() as usize);
    assert!(snapshot.rules.iter().all(|rule| rule.validate().is_ok()));
    let mut again = Vec::new();
    snapshot.encode(shape, &mut again).expect("what was decoded fits");
    assert_eq!(again.len(), shape.length());
    assert_eq!(Snapshot::decode(&again, shape).expect("what was encoded decodes"), snapshot);
}

fuzz_target!(|data: &[u8]| {
    let Ok(shape) = Shape::new(4, 48) else { return };
    check(data, shape);

    let mut whole = Vec::new();
    let empty = Snapshot::<Entry> { version: Default::default(), published_at_nanos: 0, rules: Vec::new() };
    empty.encode(shape, &mut whole).expect("inert rules fit");
    // Everything but the magic number, the format and the schema, which are right, and the checksum.
    let end = whole.len() - 4;
    let length = data.len().min(end - 16);
    whole[16..16 + length].copy_from_slice(&data[..length]);
    // The shape is right in three of four.
    if data.last().is_none_or(|last| last % 4 != 0) {
        whole[40..44].copy_from_slice(&shape.slots().to_le_bytes());
        whole[44..48].copy_from_slice(&shape.slot_length().to_le_bytes());
        whole[48..64].fill(0);
        whole[48] = data.first().copied().unwrap_or(0) % 5;
    }
    let checksum = crc32fast::hash(&whole[..end]);
    whole[end..].copy_from_slice(&checksum.to_le_bytes());
    check(&whole, shape);
});
