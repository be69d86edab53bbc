use super::share::Share;
use crate::{
    clock::Nanos,
    rate_limit::{
        Quota,
        distributed::{
            level::Level,
            outage::{OnOutage, Outage},
        },
        tokens::Tokens,
    },
};

/// The bucket by which one process decides for itself about one key.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Local {
    level: Option<Level>,
    /// The outage that it is for. None while the store decides, and only one answer is missing.
    outage: Option<Outage>,
    share: Share,
}

/// Where a process begins when it decides for itself: the bucket's level, and this process's part of the limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    pub(crate) level: Level,
    pub(crate) share: Share,
}

impl Local {
    /// Takes `tokens`, or returns the time until they may be there: `None` where that is not known. An outage begins at
    /// `start`.
    pub(crate) fn take(
        &mut self,
        policy: &OnOutage,
        quota: &Quota,
        tokens: Tokens,
        now: Nanos,
        outage: Option<Outage>,
        start: Start,
    ) -> Result<(), Option<Nanos>> {
        let quota = match policy {
            OnOutage::Open => return Ok(()),
            OnOutage::Closed => return Err(None),
            OnOutage::Local(own) => own,
            OnOutage::FairShare | OnOutage::LastKnown => quota,
        };
        if tokens.0 > quota.burst() {
            return Err(None);
        }
        if self.level.is_none() || outage.is_none() || self.outage != outage {
            self.outage = outage;
            (self.level, self.share) = match policy {
                OnOutage::Local(_) => (Some(self.level.unwrap_or(Level::empty(quota, now))), Share::ALL),
                OnOutage::FairShare => (Some(start.level), start.share),
                _ => (Some(start.level), Share::ALL),
            };
        }
        let level = self.level.get_or_insert_with(|| Level::empty(quota, now));
        level.drain(quota, now.max(level.at()));
        let cost = self.share.cost(tokens, level);
        // Even the smallest share admits something. Where that costs more than the burst, the rest is owed.
        match level.until_room_for_parts(cost.min(level.in_parts(Tokens(quota.burst()))), quota) {
            Nanos::ZERO => {
                level.add_parts(cost);
                Ok(())
            }
            wait => Err(Some(wait)),
        }
    }

    /// Whether a new one would decide as this one does, in the next outage too.
    pub(crate) fn is_idle(&self, policy: &OnOutage, now: Nanos) -> bool {
        match policy {
            OnOutage::Local(_) => self.level.is_none_or(|level| level.empty_at() <= now),
            OnOutage::FairShare | OnOutage::LastKnown | OnOutage::Open | OnOutage::Closed => true,
        }
    }

    /// Gives back tokens that were taken `age` ago in this outage, or in none, less what has drained since.
    pub(crate) fn give_back(&mut self, tokens: Tokens, age: Nanos, outage: Option<Outage>) {
        if self.outage != outage {
            return;
        }
        if let Some(level) = &mut self.level {
            level.take_back_of(self.share.cost(tokens, level), age);
        }
    }
}
