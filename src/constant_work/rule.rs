use crate::error::ConfigError;
use serde::{Serialize, de::DeserializeOwned};

/// One rule of a configuration: the limit of a client, the weight of a backend, the state of a flag.
///
/// It is encoded with postcard, whose integers are shorter the smaller they are, and which has no names of fields.
/// Raise [`SCHEMA`](Self::SCHEMA) when you add, remove, reorder or retype a field. A rule must encode to the same
/// bytes whenever it is encoded: use a `BTreeMap`, not a `HashMap`.
///
/// Strings and sequences of bytes take what the slot holds, at most. A sequence allocates at most one of its elements
/// for each byte that is left in the slot, and at most 1 MiB, before the first is decoded; a map may allocate 1 MiB. Do
/// not use sequences of what has no bytes (`Vec<()>`), whose length nothing limits, nor types that contain themselves,
/// whose depth only the slot limits.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use steadfast::{ConfigError, constant_work::Rule};
///
/// #[derive(Serialize, Deserialize)]
/// struct ClientLimit {
///     client: [u8; 16],
///     per_second: u32,
/// }
///
/// impl Rule for ClientLimit {
///     const SCHEMA: u32 = 1;
///
///     /// A limit that no client reaches, for a client that there is not. The largest number is also the longest.
///     fn inert(_slot: u32) -> Self {
///         Self { client: [0; 16], per_second: u32::MAX }
///     }
///
///     fn validate(&self) -> Result<(), ConfigError> {
///         if self.per_second == 0 {
///             return Err(ConfigError::new("limit.per_second", self.per_second, "must be at least 1"));
///         }
///         Ok(())
///     }
/// }
/// ```
pub trait Rule: Sized + Serialize + DeserializeOwned {
    /// The version of the encoding. It is in the header of each snapshot. A snapshot with another schema is refused.
    const SCHEMA: u32;

    /// A valid rule without effect, for a slot that is not used. It should be as long as any when it is encoded (so
    /// that [`slot_length_of`](super::slot_length_of) can tell), and as costly to validate and to build from.
    fn inert(slot: u32) -> Self;

    /// Whether the rule can work. A decoded number may be any that its type can hold: zero, the largest, not a number.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`]: the field, its value and the rule that it breaks.
    fn validate(&self) -> Result<(), ConfigError>;
}
