//! The share of the limit that each class of calls sees, and the share that each is guaranteed.

use super::places::{CLASSES, InFlight};
use crate::{context::Criticality, error::ConfigError};

/// The number of parts of a whole: shares are in millionths.
const ONE: u64 = 1_000_000;

/// Shares in millionths, from the least critical class to the most critical class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Classes {
    /// The share of the limit up to which calls of a class are admitted. The calls of all classes count.
    visible: [u64; CLASSES],
    /// The share of the limit that only calls of this class may use.
    guaranteed: [u64; CLASSES],
}

/// Why there is no room for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// The limit is reached.
    Limit,
    /// The free places are for more critical calls, or guaranteed to other classes.
    Class,
}

impl Default for Classes {
    fn default() -> Self {
        Self { visible: [ONE; CLASSES], guaranteed: [0; CLASSES] }
    }
}

impl Classes {
    pub(super) const BY_CRITICALITY: [f64; CLASSES] = [0.5, 0.7, 0.9, 1.0];

    pub(super) fn set_visible(&mut self, shares: [f64; CLASSES]) -> Result<(), ConfigError> {
        const RULE: &str = "must be above 0 and at most 1, and not smaller for a more critical class";
        let mut least = 0.0;
        for share in shares {
            if !(share > 0.0 && share <= 1.0 && share >= least) {
                return Err(ConfigError::new("load_shed.class_shares", format!("{shares:?}"), RULE));
            }
            least = share;
        }
        self.visible = shares.map(millionths);
        Ok(())
    }

    pub(super) fn guarantee(&mut self, class: Criticality, share: f64) -> Result<(), ConfigError> {
        if !(0.0..=1.0).contains(&share) {
            return Err(ConfigError::new("load_shed.guarantee", share, "must be from 0 to 1"));
        }
        self.guaranteed[class as usize] = millionths(share);
        let all = self.guaranteed.iter().sum::<u64>();
        if all > ONE {
            let all = all as f64 / ONE as f64;
            return Err(ConfigError::new("load_shed.guarantee", all, "all shares together must be at most 1"));
        }
        Ok(())
    }

    pub(super) fn guarantees(&self) -> bool {
        self.guaranteed != [0; CLASSES]
    }

    /// Returns the number of calls in flight, of all classes, below which a call of this class is admitted.
    #[inline]
    pub(super) fn visible(&self, class: Criticality, limit: u64) -> u64 {
        part(limit, self.visible[class as usize]).max(1)
    }

    /// Returns whether there is room for one more call of this class.
    #[inline]
    pub(super) fn room(&self, class: Criticality, limit: u64, in_flight: InFlight) -> Result<(), Full> {
        if in_flight.is_by_class() {
            return self.room_beside_guarantees(class, limit, in_flight);
        }
        let total = in_flight.total();
        if total >= limit {
            return Err(Full::Limit);
        }
        if total < self.visible(class, limit) { Ok(()) } else { Err(Full::Class) }
    }

    /// Does as [`room`](Self::room), with guarantees. A function of its own, so that `room` is inlined.
    fn room_beside_guarantees(&self, class: Criticality, limit: u64, in_flight: InFlight) -> Result<(), Full> {
        let total = in_flight.total();
        if total >= limit {
            return Err(Full::Limit);
        }
        let index = class as usize;
        if self.unused(index, limit, in_flight) > 0 {
            return Ok(());
        }
        let taken = total.saturating_add(self.reserved(index, limit, in_flight));
        if taken < limit && total < self.visible(class, limit) { Ok(()) } else { Err(Full::Class) }
    }

    /// Returns how many more calls of this class there is room for, with guarantees.
    pub(super) fn free_beside_guarantees(&self, class: Criticality, limit: u64, in_flight: InFlight) -> u64 {
        let total = in_flight.total();
        let free = limit.saturating_sub(total);
        let index = class as usize;
        let own = self.unused(index, limit, in_flight);
        let open = self.visible(class, limit).saturating_sub(total);
        free.saturating_sub(self.reserved(index, limit, in_flight)).min(open).max(own).min(free)
    }

    /// Returns the guaranteed places of a class that it does not use.
    fn unused(&self, index: usize, limit: u64, in_flight: InFlight) -> u64 {
        part(limit, self.guaranteed[index]).saturating_sub(in_flight.of(index))
    }

    /// Returns the unused guaranteed places of all other classes.
    fn reserved(&self, index: usize, limit: u64, in_flight: InFlight) -> u64 {
        (0..CLASSES).filter(|other| *other != index).map(|other| self.unused(other, limit, in_flight)).sum()
    }
}

fn millionths(share: f64) -> u64 {
    (share * ONE as f64).round() as u64
}

/// Returns this share of the limit, rounded down to a whole number.
#[inline]
fn part(limit: u64, millionths: u64) -> u64 {
    if millionths == ONE {
        return limit;
    }
    u64::try_from(u128::from(limit) * u128::from(millionths) / u128::from(ONE)).unwrap_or(u64::MAX)
}
