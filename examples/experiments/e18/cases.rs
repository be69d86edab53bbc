//! The circumstances of a tick.

use super::limit::{self, Limit};

/// The slots of a snapshot: the most limits that there can be.
pub const SLOTS: u32 = 256;
/// How many ticks come before those that are measured: the first is always good.
pub const WARM_UP: u32 = 4;

/// How the source is, after its first good answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Up,
    Down,
    Corrupt,
}

/// One kind of ticks.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub source: Source,
    /// How many limits there are.
    pub used: u32,
    /// How many of them are others in each tick.
    pub changed: u32,
}

impl Case {
    /// All 36.
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

    /// Six: no limits, and a limit in every slot that is another in each tick.
    pub fn extremes() -> Vec<Self> {
        let mut cases = Vec::new();
        for source in [Source::Up, Source::Down, Source::Corrupt] {
            for used in [0, SLOTS] {
                cases.push(Self { source, used, changed: used });
            }
        }
        cases
    }

    /// The limits that are published for each of `ticks` ticks and those before them, and the number of the
    /// publication: the same again where nothing changes.
    pub fn publications(&self, seed: u64, ticks: u32) -> impl Iterator<Item = (u64, Vec<Limit>)> + use<> {
        let Self { used, changed, .. } = *self;
        let limits = limit::some(seed, used);
        (0..WARM_UP + ticks).map(move |tick| {
            let mut limits = limits.clone();
            limits.iter_mut().take(changed as usize).for_each(|limit| limit.count += tick);
            (if changed == 0 { 1 } else { 1 + u64::from(tick) }, limits)
        })
    }

    /// What the source gives of these bytes in the tick of this number, counted from the first.
    pub fn gives(&self, tick: usize, mut bytes: Vec<u8>) -> Option<Vec<u8>> {
        match self.source {
            Source::Down if tick > 0 => None,
            // No JSON has such a byte.
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

/// What goes through its ticks, one by one.
pub trait Subject {
    /// One tick: whether it was good.
    fn tick(&mut self) -> bool;
}
