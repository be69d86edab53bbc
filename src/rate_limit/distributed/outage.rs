use super::level::Level;
use crate::rate_limit::Quota;

/// How a process decides while the store does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnOutage {
    /// This process's fair share of the limit: the part that it had of all that was admitted in the four seconds
    /// before. A key without such a part gets one part of the number of [processes] that are expected. The share stays
    /// for the whole outage. All shares together are about the limit.
    ///
    /// [processes]: super::ExactBuilder::processes
    #[default]
    FairShare,
    /// The whole limit, from the last known state on, by each process for itself: all together admit up to as many times
    /// the limit as there are processes.
    LastKnown,
    /// Everything is admitted, and reported to the store later.
    Open,
    /// Everything is refused.
    Closed,
    /// A quota of each process's own, for each key: N processes admit N times as much.
    Local(Quota),
}

/// The bucket by which one process decides for itself about one key.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Local {
    level: Option<Level>,
    /// The outage that it is for: none while the store decides, and only one answer is missing.
    outage: Option<u64>,
    share: Share,
}

/// A part of the whole, in 1024ths: at least one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share(u64);

impl Share {
    pub(super) const ALL: Self = Self(1024);

    /// What `own` is of `all`, rounded down.
    pub(super) fn of(own: u64, all: u64) -> Self {
        let part = u128::from(own) * 1024 / u128::from(all.max(1));
        Self(u64::try_from(part).unwrap_or(1024).clamp(1, 1024))
    }

    /// This part of so many tokens, rounded down.
    pub(super) fn part_of(self, tokens: u64) -> u64 {
        (u128::from(tokens) * u128::from(self.0) / 1024) as u64
    }

    /// What so many tokens cost of this level where there is only this part of the whole, in parts of a token: a whole
    /// token more would be half of the share of a process that has two thirds.
    pub(super) fn cost(self, tokens: u64, level: &Level) -> u128 {
        level.in_parts(tokens).saturating_mul(1024).div_ceil(u128::from(self.0))
    }

    /// The tokens, rounded up, that cost this level where there is only this part of the whole.
    pub(super) fn tokens(self, level: &Level) -> u64 {
        let own = level.parts().saturating_mul(u128::from(self.0)).div_ceil(level.in_parts(1024).max(1));
        u64::try_from(own).unwrap_or(u64::MAX)
    }

    /// The part as a fraction.
    pub(super) fn fraction(self) -> f64 {
        self.0 as f64 / 1024.0
    }
}

impl Default for Share {
    fn default() -> Self {
        Self::ALL
    }
}

impl Local {
    /// Takes `tokens`, or says in how many nanoseconds they may be there: `None` where that is not known. `known` is what
    /// the bucket's level is when the outage begins, and `share` this process's part of it.
    pub(super) fn take(
        &mut self,
        policy: &OnOutage,
        quota: &Quota,
        tokens: u64,
        now: u64,
        outage: Option<u64>,
        (known, share): (Level, Share),
    ) -> Result<(), Option<u64>> {
        let quota = match policy {
            OnOutage::Open => return Ok(()),
            OnOutage::Closed => return Err(None),
            OnOutage::Local(own) => own,
            OnOutage::FairShare | OnOutage::LastKnown => quota,
        };
        if tokens > quota.burst() {
            return Err(None);
        }
        if self.level.is_none() || outage.is_none() || self.outage != outage {
            self.outage = outage;
            (self.level, self.share) = match policy {
                OnOutage::Local(_) => (Some(self.level.unwrap_or(Level::empty(quota, now))), Share::ALL),
                OnOutage::FairShare => (Some(known), share),
                _ => (Some(known), Share::ALL),
            };
        }
        let level = self.level.get_or_insert_with(|| Level::empty(quota, now));
        level.drain(quota, now.max(level.at()));
        let cost = self.share.cost(tokens, level);
        // Something is admitted of the smallest share: what costs more than the burst is then owed.
        match level.until_room_for_parts(cost.min(level.in_parts(quota.burst())), quota.burst()) {
            0 => {
                level.add_parts(cost);
                Ok(())
            }
            wait => Err(Some(wait)),
        }
    }

    /// Whether a new one would decide as this one does, in the next outage too.
    pub(super) fn is_idle(&self, policy: &OnOutage, now: u64) -> bool {
        match policy {
            OnOutage::Local(_) => self.level.is_none_or(|level| level.empty_at() <= now),
            OnOutage::FairShare | OnOutage::LastKnown | OnOutage::Open | OnOutage::Closed => true,
        }
    }

    /// Gives back tokens that were taken `age` ago in this outage, or in none, less what has drained since.
    pub(super) fn give_back(&mut self, tokens: u64, age: u64, outage: Option<u64>) {
        if self.outage != outage {
            return;
        }
        if let Some(level) = &mut self.level {
            level.take_back_of(self.share.cost(tokens, level), age);
        }
    }
}
