//! Decides which version a publication gets, and whether it may replace the published snapshot.
//!
//! | published | this publisher has published before | next publication |
//! |---|---|---|
//! | nothing | no | the first version of the epoch |
//! | nothing, or unreadable | yes | continues from its own version |
//! | unreadable | no | refused: the version is unknown |
//! | a later format with a correct checksum | either | refused |
//! | a snapshot of an earlier epoch | no | the first version of the epoch |
//! | a snapshot of this epoch | no | continues from that version |
//! | a snapshot of a later epoch | either | refused: overtaken |
//! | a snapshot of a later version of this epoch | yes | refused: overtaken |
//! | a snapshot of its own version with other rules | yes | refused: a conflict |
//! | any other snapshot | yes | continues from its own version |
//!
//! A publication that continues from a version keeps it if the rules are the same, and otherwise takes the next
//! version.

use super::{Publisher, error::PublishError};
use crate::constant_work::{
    Refusal, Rule, Sink, Version,
    envelope::{Envelope, is_sealed},
};

/// The state of the sink before a publication.
pub(super) enum Found {
    Nothing,
    Snapshot(Envelope),
    Unreadable(Refusal),
}

impl<T: Rule, S: Sink> Publisher<T, S> {
    /// Returns the version for the encoded snapshot, if it may be published.
    pub(super) fn next_version(&self, found: Found) -> Result<u64, PublishError> {
        let before = match (found, self.last) {
            (Found::Snapshot(found), last) => {
                self.check_order(&found, last)?;
                // Versions of an earlier epoch do not matter.
                last.is_none()
                    .then_some((found, &self.found))
                    .filter(|(found, _)| found.header.version.epoch == self.epoch)
            }
            // Damage does not produce a correct checksum, so another version of this crate wrote these bytes.
            (Found::Unreadable(refusal @ Refusal::Format { .. }), _) if is_sealed(&self.found) => {
                return Err(PublishError::Unknown(refusal));
            }
            (Found::Unreadable(refusal), None) => return Err(PublishError::Unknown(refusal)),
            (Found::Nothing | Found::Unreadable(_), _) => None,
        };
        let Some((before, bytes)) = self.last.map(|last| (last, &self.own)).or(before) else { return Ok(1) };
        let next = Envelope::open(&self.next, self.shape).map_err(PublishError::Unreadable)?;
        let version = before.header.version.version;
        match next.has_same_rules(&self.next, &before, bytes) {
            true => Ok(version),
            false => version.checked_add(1).ok_or(PublishError::OutOfVersions),
        }
    }

    /// Returns an error if another publisher has published a later version, or other rules under the same version.
    fn check_order(&self, found: &Envelope, last: Option<Envelope>) -> Result<(), PublishError> {
        let version = found.header.version;
        let own = last.map_or(Version { epoch: self.epoch, version: 0 }, |last| last.header.version);
        if version.epoch > self.epoch || (last.is_some() && version > own) {
            return Err(PublishError::Overtaken { found: version, own });
        }
        match last {
            Some(last) if version == own && !found.has_same_rules(&self.found, &last, &self.own) => {
                Err(PublishError::Conflict { version })
            }
            _ => Ok(()),
        }
    }
}
