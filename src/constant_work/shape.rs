use super::{rule::Rule, snapshot};
use crate::error::ConfigError;

/// The size of every snapshot: the number of slots, and the length of each slot.
///
/// The publisher and all pollers must use the same shape. Choose it for the greatest number of rules that you expect: a
/// snapshot with one rule is as long as a full one.
///
/// ```
/// # fn main() -> Result<(), steadfast::ConfigError> {
/// use steadfast::constant_work::Shape;
///
/// let shape = Shape::new(1_000, 32)?;
/// assert_eq!(shape.length(), 64 + 1_000 * 32 + 4);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    slots: u32,
    slot_length: u32,
}

/// The most slots of a snapshot.
const MOST_SLOTS: u32 = 1 << 20;
/// The length of the longest slot, in bytes. The number in front of its rule has 16 bits.
const LONGEST_SLOT: u32 = 1 << 16;
/// The length of the longest snapshot, in bytes.
pub(super) const LONGEST: u64 = 64 << 20;

impl Shape {
    /// Returns a shape of `slots` slots of `slot_length` bytes each. Two bytes of each slot contain the length of its
    /// rule.
    ///
    /// # Errors
    ///
    /// `slots` must be from 1 to 2^20, `slot_length` from 2 to 65536, and the whole snapshot at most 64 MiB.
    pub fn new(slots: u32, slot_length: u32) -> Result<Self, ConfigError> {
        if slots == 0 || slots > MOST_SLOTS {
            return Err(ConfigError::new("shape.slots", slots, "must be from 1 to 1048576"));
        }
        if slot_length < snapshot::PREFIX as u32 || slot_length > LONGEST_SLOT {
            return Err(ConfigError::new("shape.slot_length", slot_length, "must be from 2 to 65536 bytes"));
        }
        let length = u64::from(slots) * u64::from(slot_length) + (snapshot::HEADER + snapshot::CHECKSUM) as u64;
        if length > LONGEST {
            return Err(ConfigError::new("shape.length", length, "must be at most 64 MiB"));
        }
        Ok(Self { slots, slot_length })
    }

    /// Returns a shape for `slots` rules of this type, with slots of [`slot_length_of`] bytes.
    ///
    /// # Errors
    ///
    /// The errors of [`new`](Self::new), and an inert rule that cannot be encoded.
    pub fn for_rules<T: Rule>(slots: u32) -> Result<Self, ConfigError> {
        Self::new(slots, slot_length_of::<T>()?)
    }

    /// Returns the number of slots: the most rules that a snapshot can contain.
    pub const fn slots(&self) -> u32 {
        self.slots
    }

    /// Returns the length of each slot, in bytes.
    pub const fn slot_length(&self) -> u32 {
        self.slot_length
    }

    /// Returns the length of every snapshot of this shape, in bytes: header, slots and checksum.
    pub const fn length(&self) -> usize {
        snapshot::HEADER + self.slots as usize * self.slot_length as usize + snapshot::CHECKSUM
    }
}

/// Returns the length of a slot, in bytes, for a rule as long as `T::inert(0)`, which should be the longest rule.
///
/// # Errors
///
/// The inert rule cannot be encoded: its `Serialize` fails, or uses a feature that postcard does not support.
pub fn slot_length_of<T: Rule>() -> Result<u32, ConfigError> {
    let encoded = postcard::experimental::serialized_size(&T::inert(0))
        .map_err(|error| ConfigError::new("shape.inert", error, "must be a rule that postcard can encode"))?;
    // `Shape::new` refuses a length above the limit.
    Ok(u32::try_from(encoded.saturating_add(snapshot::PREFIX)).unwrap_or(u32::MAX))
}
