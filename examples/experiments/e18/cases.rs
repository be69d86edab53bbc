//! The conditions of a tick.

use super::limit::{self, Limit};

/// The slots of a snapshot: the maximum number of limits.
pub const SLOTS: u32 = 256;
/// The number of ticks before the measured ones; the first is always good.
pub const WARM_UP: u32 = 4;

/// The state of the source after its first good answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Up,
    Down,
    Corrupt,
}

/// One kind of tick.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub source: Source,
    /// The number of limits.
    pub used: u32,
    /// How many limits change in each tick.
    pub changed: u32,
}

impl Case {
    /// Returns all 36 cases.
    pub fn all() -> Vec<Self> {
        let mut cases = Vec::new();
        for source in [Source::Up, Source::Down, Source::Corrupt] {
            for used in [0, SLOTS / 2, SLOTS] {
                for changed in [0, used.min(1), used / 10, used] {
                    cases.push(Self { source, used, changed });
                }
            }
        }
        cases
    }

    /// Returns six cases: no limits, and a limit in every slot that changes in each tick.
    pub fn extremes() -> Vec<Self> {
        let mut cases = Vec::new();
        for source in [Source::Up, Source::Down, Source::Corrupt] {
            for used in [0, SLOTS] {
                cases.push(Self { source, used, changed: used });
            }
        }
        cases
    }

    /// Returns the limits published for each of `ticks` ticks and the warm-up ticks before, and the number of the
    /// publication. The number stays if nothing changes.
    pub fn publications(&self, seed: u64, ticks: u32) -> impl Iterator<Item = (u64, Vec<Limit>)> + use<> {
        let Self { used, changed, .. } = *self;
        let limits = limit::some(seed, used);
        (0..WARM_UP + ticks).map(move |tick| {
            let mut limits = limits.clone();
            limits.iter_mut().take(changed as usize).for_each(|limit| limit.count += tick);
            (if changed == 0 { 1 } else { 1 + u64::from(tick) }, limits)
        })
    }

    /// Returns the source's answer in this tick, for these bytes. Ticks count from zero.
    pub fn gives(&self, tick: usize, mut bytes: Vec<u8>) -> Option<Vec<u8>> {
        match self.source {
            Source::Down if tick > 0 => None,
            // This byte is not valid in JSON.
            Source::Corrupt if tick > 0 => {
                let middle = bytes.len() / 2;
                if let Some(byte) = bytes.get_mut(middle) {
                    *byte ^= 0xff;
                }
                Some(bytes)
            }
            _ => Some(bytes),
        }
    }
}

/// A mechanism that is measured tick by tick.
pub trait Subject {
    /// Runs one tick. Returns whether it was good.
    fn tick(&mut self) -> bool;
}
