use super::level::Level;
use crate::rate_limit::Quota;

/// What decides while the store does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnOutage {
    /// This process's fair share of the limit: the part that it had of all that was admitted in the last two seconds, and at
    /// first one by the number of [processes] that are expected. All shares together are about the limit.
    ///
    /// [processes]: super::ExactBuilder::processes
    #[default]
    FairShare,
    /// The whole limit, from the last known state on, by each process for itself: all together admit up to as many times
    /// the limit as there are processes.
    LastKnown,
    /// Everything is admitted.
    Open,
    /// Everything is refused.
    Closed,
    /// A quota of each process's own, for each key.
    Local(Quota),
}

/// The bucket by which one process decides for itself about one key.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Local {
    level: Option<Level>,
    /// The outage that it is for.
    outage: u64,
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

    /// What so many tokens are of the whole, where there is only this part of it, rounded up.
    fn cost(self, tokens: u64) -> u64 {
        let cost = (u128::from(tokens) * 1024).div_ceil(u128::from(self.0));
        u64::try_from(cost).unwrap_or(u64::MAX)
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
    /// the bucket's level was, and `share` this process's part of it, when it was last heard of.
    pub(super) fn take(
        &mut self,
        policy: &OnOutage,
        quota: &Quota,
        tokens: u64,
        now: u64,
        outage: u64,
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
        if self.level.is_none() || self.outage != outage {
            self.outage = outage;
            (self.level, self.share) = match policy {
                OnOutage::Local(_) => (Some(self.level.unwrap_or(Level::empty(quota, now))), Share::ALL),
                OnOutage::FairShare => (Some(known), share),
                _ => (Some(known), Share::ALL),
            };
        }
        let level = self.level.get_or_insert_with(|| Level::empty(quota, now));
        level.drain(quota, now.max(level.at()));
        // Of the smallest share one call is admitted too, and then none until it is made up for.
        let cost = self.share.cost(tokens);
        let room = cost.min(quota.burst());
        if level.room(quota.burst()) < room {
            return Err(Some(level.until_room(room, quota.burst())));
        }
        level.add(cost, u64::MAX);
        Ok(())
    }

    /// Gives back what was taken and not used.
    pub(super) fn give_back(&mut self, tokens: u64) {
        if let Some(level) = &mut self.level {
            level.take_back(self.share.cost(tokens), 0);
        }
    }
}
