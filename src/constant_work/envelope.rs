use super::{
    refusal::Refusal,
    shape::Shape,
    snapshot::{self, CHECKSUM, Header, Version},
};
use crate::clock::Nanos;

/// The header, shape and schema of a snapshot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Envelope {
    pub(super) header: Header,
    pub(super) shape: Shape,
    pub(super) schema: u32,
}

impl Envelope {
    /// Opens a snapshot with the shape and the schema that its own header names.
    ///
    /// # Errors
    ///
    /// The refusal of a reader with that shape and schema. If the header names no valid shape, the refusal of a reader
    /// with `shape`.
    pub(super) fn open(bytes: &[u8], shape: Shape) -> Result<Self, Refusal> {
        let named = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
        let shape =
            named(40).zip(named(44)).and_then(|(slots, length)| Shape::new(slots, length).ok()).unwrap_or(shape);
        let schema = named(12).unwrap_or(0);
        Ok(Self { header: snapshot::open(bytes, shape, schema, snapshot::checksum(bytes))?, shape, schema })
    }

    /// Returns whether two snapshots have the same rules. Their versions and publication times may differ.
    pub(super) fn has_same_rules(&self, bytes: &[u8], other: &Self, other_bytes: &[u8]) -> bool {
        let kind = |envelope: &Self| (envelope.shape, envelope.schema, envelope.header.used_slots);
        kind(self) == kind(other)
            && snapshot::slots_of(bytes, self.shape) == snapshot::slots_of(other_bytes, other.shape)
    }
}

/// Returns whether the last bytes are the checksum of the others. Every format ends with this checksum.
pub(super) fn is_sealed(bytes: &[u8]) -> bool {
    let last = bytes.last_chunk::<CHECKSUM>();
    last.is_some_and(|last| snapshot::checksum(bytes) == u32::from_le_bytes(*last))
}

/// Overwrites the version and publication time of a snapshot, and computes its checksum again.
pub(super) fn stamp(bytes: &mut [u8], version: Version, published_at: Nanos) {
    let Some((body, checksum)) = bytes.split_last_chunk_mut::<CHECKSUM>() else { return };
    for (at, number) in [(16, version.epoch), (24, version.version), (32, published_at.0)] {
        if let Some(field) = body.get_mut(at..at + 8) {
            field.copy_from_slice(&number.to_le_bytes());
        }
    }
    *checksum = crc32fast::hash(body).to_le_bytes();
}
