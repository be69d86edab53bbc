use super::{refusal::Refusal, rule::Rule, shape::Shape};
use crate::{clock::Nanos, error::ConfigError};
use std::fmt;
use thiserror::Error as ThisError;

/// The length of the header, in bytes.
pub(super) const HEADER: usize = 64;
/// The number of bytes in front of the rule in each slot. They contain the rule's length.
pub(super) const PREFIX: usize = 2;
/// The length of the checksum, in bytes.
pub(super) const CHECKSUM: usize = 4;

const MAGIC: [u8; 8] = *b"STDFSTCW";
const FORMAT: u16 = 1;

/// The version of a snapshot. Versions are ordered first by epoch, then by version within the epoch.
///
/// If the rules have changed, a publisher adds one to the version. Unchanged rules keep their version. A publisher that
/// lost its state needs a new, greater epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The epoch.
    pub epoch: u64,
    /// The version within the epoch.
    pub version: u64,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "version {} of epoch {}", self.version, self.epoch)
    }
}

/// A whole configuration, with its version and the time of its publication.
///
/// # Binary format
///
/// A header of 64 bytes, the slots, and a CRC-32 (that of zlib) of all bytes before it. Integers are little-endian.
///
/// | bytes | what |
/// |---|---|
/// | 0..8 | `STDFSTCW` |
/// | 8..10 | format: 1 |
/// | 10..12 | zero |
/// | 12..16 | [`SCHEMA`](Rule::SCHEMA) of the rules |
/// | 16..24, 24..32 | epoch, version |
/// | 32..40 | time of publication |
/// | 40..44, 44..48 | number of slots, bytes of each |
/// | 48..52 | number of used slots, which come first |
/// | 52..64 | zero |
///
/// Each slot contains the length of the encoded rule (two bytes), the rule in postcard's encoding, and zeros. An unused
/// slot contains [`Rule::inert`].
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot<T> {
    /// The version of the publication.
    pub version: Version,
    /// The publication time, in nanoseconds since 1970 by the publisher's clock. It is used for readings, and to refuse
    /// snapshots from too far in the future. Only versions order snapshots.
    pub published_at_nanos: u64,
    /// The rules, without inert ones.
    pub rules: Vec<T>,
}

/// The reason why rules cannot be encoded as a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[non_exhaustive]
pub enum EncodeError {
    /// There are more rules than slots.
    #[error("{rules} rules do not fit into {slots} slots")]
    Fill {
        /// The number of rules.
        rules: usize,
        /// The slots of the shape.
        slots: u32,
    },
    /// A rule is longer than a slot.
    #[error("the rule in slot {slot} takes {length} bytes of a slot that has {slot_length}")]
    SlotTooLong {
        /// The index of the slot, from zero.
        slot: u32,
        /// The number of bytes that the rule takes, including the two for its length.
        length: usize,
        /// The length of a slot, in bytes.
        slot_length: u32,
    },
    /// A rule, given or inert, is invalid.
    #[error("the rule in slot {slot} is invalid")]
    Rule {
        /// The index of the slot, from zero.
        slot: u32,
        /// The setting that is invalid.
        #[source]
        error: ConfigError,
    },
    /// The `Serialize` of a rule failed, or uses a feature that postcard does not support.
    #[error("the rule in slot {slot} cannot be encoded")]
    Encoding {
        /// The index of the slot, from zero.
        slot: u32,
    },
}

impl<T: Rule> Snapshot<T> {
    /// Writes the snapshot into the buffer. Clears the buffer first and keeps its capacity. The written length is
    /// always [`Shape::length`], and the work does not depend on the number of rules.
    ///
    /// # Errors
    ///
    /// Rules that do not fit, are invalid or cannot be encoded. The buffer is then empty.
    pub fn encode(&self, shape: Shape, into: &mut Vec<u8>) -> Result<(), EncodeError> {
        encode(self.version, Nanos(self.published_at_nanos), &self.rules, shape, into)
    }

    /// Decodes a snapshot, with all checks that need no clock, no earlier snapshot and no target: length, checksum,
    /// header, and the encoding and [`validate`](Rule::validate) of every slot, used or not.
    ///
    /// Memory: one `Vec` for [`Shape::slots`] rules, and what the rules themselves allocate (see [`Rule`]).
    ///
    /// # Errors
    ///
    /// The first error that it finds.
    pub fn decode(bytes: &[u8], shape: Shape) -> Result<Self, Refusal> {
        let header = open(bytes, shape, T::SCHEMA, checksum(bytes))?;
        let mut rules = Vec::with_capacity(shape.slots() as usize);
        decode_slots(bytes, shape, &mut rules)?;
        rules.truncate(header.used_slots as usize);
        Ok(Self { version: header.version, published_at_nanos: header.published_at.0, rules })
    }
}

/// The header fields that differ between snapshots of one shape and schema.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Header {
    pub(super) version: Version,
    pub(super) published_at: Nanos,
    pub(super) used_slots: u32,
}

pub(super) fn encode<T: Rule>(
    version: Version,
    published_at: Nanos,
    rules: &[T],
    shape: Shape,
    into: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    into.clear();
    let used = match u32::try_from(rules.len()) {
        Ok(used) if used <= shape.slots() => used,
        _ => return Err(EncodeError::Fill { rules: rules.len(), slots: shape.slots() }),
    };
    into.reserve_exact(shape.length());
    into.extend_from_slice(&MAGIC);
    into.extend_from_slice(&FORMAT.to_le_bytes());
    into.extend_from_slice(&[0; 2]);
    into.extend_from_slice(&T::SCHEMA.to_le_bytes());
    into.extend_from_slice(&version.epoch.to_le_bytes());
    into.extend_from_slice(&version.version.to_le_bytes());
    into.extend_from_slice(&published_at.0.to_le_bytes());
    into.extend_from_slice(&shape.slots().to_le_bytes());
    into.extend_from_slice(&shape.slot_length().to_le_bytes());
    into.extend_from_slice(&used.to_le_bytes());
    into.resize(shape.length() - CHECKSUM, 0);
    let slots = into[HEADER..].chunks_exact_mut(shape.slot_length() as usize);
    for (slot, bytes) in (0..).zip(slots) {
        let encoded = match rules.get(slot as usize) {
            Some(rule) => encode_slot(slot, rule, bytes),
            None => encode_slot(slot, &T::inert(slot), bytes),
        };
        if let Err(error) = encoded {
            into.clear();
            return Err(error);
        }
    }
    let checksum = crc32fast::hash(into);
    into.extend_from_slice(&checksum.to_le_bytes());
    Ok(())
}

fn encode_slot<T: Rule>(slot: u32, rule: &T, bytes: &mut [u8]) -> Result<(), EncodeError> {
    rule.validate().map_err(|error| EncodeError::Rule { slot, error })?;
    let slot_length = bytes.len() as u32;
    let (prefix, rest) = bytes.split_at_mut(PREFIX);
    let length = match postcard::to_slice(rule, rest) {
        Ok(encoded) => encoded.len(),
        Err(postcard::Error::SerializeBufferFull) => {
            let length = postcard::experimental::serialized_size(rule).map_err(|_| EncodeError::Encoding { slot })?;
            return Err(EncodeError::SlotTooLong { slot, length: length.saturating_add(PREFIX), slot_length });
        }
        Err(_) => return Err(EncodeError::Encoding { slot }),
    };
    // A slot has at most 65536 bytes, of which two are the prefix.
    prefix.copy_from_slice(&(length as u16).to_le_bytes());
    Ok(())
}

/// Returns the checksum of a snapshot's bytes, without the last four, which contain the checksum.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    crc32fast::hash(&bytes[..bytes.len().saturating_sub(CHECKSUM)])
}

/// Checks everything of a snapshot except its slots. `computed` is its [`checksum`]; it is ignored if the snapshot's
/// length is not that of the shape.
pub(super) fn open(bytes: &[u8], shape: Shape, schema: u32, computed: u32) -> Result<Header, Refusal> {
    let expected = shape.length();
    if bytes.is_empty() {
        return Err(Refusal::Empty);
    }
    let Some((header, _)) = bytes.split_first_chunk::<HEADER>() else {
        return Err(Refusal::Truncated { length: bytes.len(), expected });
    };
    if header[..8] != MAGIC {
        return Err(Refusal::NotASnapshot);
    }
    let format = u16::from_le_bytes(field(header, 8));
    if format != FORMAT {
        return Err(Refusal::Format { found: format, expected: FORMAT });
    }
    let (slots, slot_length) = (u32::from_le_bytes(field(header, 40)), u32::from_le_bytes(field(header, 44)));
    let other_shape = (slots, slot_length) != (shape.slots(), shape.slot_length());
    if bytes.len() == expected {
        let found = u32::from_le_bytes(field(bytes, expected - CHECKSUM));
        if found != computed {
            return Err(Refusal::Corrupt { found, computed });
        }
    } else if !other_shape {
        return Err(match bytes.len() < expected {
            true => Refusal::Truncated { length: bytes.len(), expected },
            false => Refusal::Oversized { expected },
        });
    }
    let found = u32::from_le_bytes(field(header, 12));
    if found != schema {
        return Err(Refusal::Schema { found, expected: schema });
    }
    if other_shape {
        return Err(Refusal::Shape { found_slots: slots, found_slot_length: slot_length, expected: shape });
    }
    if header[10..12] != [0; 2] || header[52..] != [0; 12] {
        return Err(Refusal::Reserved);
    }
    let used = u32::from_le_bytes(field(header, 48));
    if used > slots {
        return Err(Refusal::Fill { used, slots });
    }
    Ok(Header {
        version: Version {
            epoch: u64::from_le_bytes(field(header, 16)),
            version: u64::from_le_bytes(field(header, 24)),
        },
        published_at: Nanos(u64::from_le_bytes(field(header, 32))),
        used_slots: used,
    })
}

/// Returns the bytes of the integer that begins at `at`, or zeros if `bytes` ends before the integer does.
fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

/// Decodes and validates every slot of a snapshot that [`open`] has accepted. Clears the vector first. Afterwards it
/// contains one valid rule for each slot, with an inert rule for each refused slot. Reads all slots, and returns the
/// first refusal.
pub(super) fn decode_slots<T: Rule>(bytes: &[u8], shape: Shape, rules: &mut Vec<T>) -> Result<(), Refusal> {
    rules.clear();
    let mut outcome = Ok(());
    for (slot, bytes) in (0..).zip(slots_of(bytes, shape).chunks_exact(shape.slot_length() as usize)) {
        match decode_slot::<T>(slot, bytes) {
            Ok(rule) => rules.push(rule),
            Err(refusal) => {
                rules.push(T::inert(slot));
                outcome = outcome.and(Err(refusal));
            }
        }
    }
    outcome
}

fn decode_slot<T: Rule>(slot: u32, bytes: &[u8]) -> Result<T, Refusal> {
    let wrong = Refusal::Encoding { slot };
    let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX>() else { return Err(wrong) };
    let Some((encoded, padding)) = rest.split_at_checked(u16::from_le_bytes(*prefix).into()) else { return Err(wrong) };
    if padding.iter().fold(0, |any, byte| any | byte) != 0 {
        return Err(wrong);
    }
    match postcard::take_from_bytes::<T>(encoded) {
        Ok((rule, [])) => match rule.validate() {
            Ok(()) => Ok(rule),
            Err(error) => Err(Refusal::Rule { slot, error }),
        },
        _ => Err(wrong),
    }
}

/// Returns the bytes of the slots of a snapshot of this shape.
pub(super) fn slots_of(bytes: &[u8], shape: Shape) -> &[u8] {
    bytes.get(HEADER..shape.length() - CHECKSUM).unwrap_or_default()
}
