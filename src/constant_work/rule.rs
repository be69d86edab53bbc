use crate::error::ConfigError;
use serde::{Serialize, de::DeserializeOwned};

/// One rule of a configuration: the limit of a client, the weight of a backend, the state of a flag.
///
/// Rules are encoded with postcard. Its integers have variable length, shorter for smaller numbers, and it writes no
/// field names. Raise [`SCHEMA`](Self::SCHEMA) when you add, remove, reorder or retype a field. Publishers and pollers
/// compare rules by their bytes, so a rule must always encode to the same bytes: use a `BTreeMap`, not a `HashMap`.
///
/// Decoding a string or a byte sequence allocates at most the length of the slot. For any other sequence, the decoder
/// makes room before it decodes the first element: at most one element for each byte that is left in the slot, and at
/// most 1 MiB. A map may allocate 1 MiB. Do not use sequences of elements without bytes (`Vec<()>`), because nothing
/// limits their length. Do not use recursive types, because only the slot limits their depth.
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
///     /// A limit that no client reaches, of a client that does not exist. The largest number takes the most bytes.
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
    /// The version of the encoding, in the header of each snapshot. Pollers refuse a snapshot with another schema.
    const SCHEMA: u32;

    /// Returns a valid rule without effect, for an unused slot. Its encoding should be as long as the longest rule, so
    /// that [`slot_length_of`](super::slot_length_of) returns the right length. Validating it and building from it
    /// should cost as much as for any rule.
    fn inert(slot: u32) -> Self;

    /// Checks the rule's values. A decoded number can have any value of its type: zero, the largest, NaN.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] with the field, its value and the rule that it breaks.
    fn validate(&self) -> Result<(), ConfigError>;
}
