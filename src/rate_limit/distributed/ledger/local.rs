use super::share::ProcessShare;
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
pub(crate) enum Local {
    /// It has decided nothing yet.
    #[default]
    Unused,
    Deciding(Decider),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Decider {
    level: Level,
    share: ProcessShare,
    /// The outage that it is for. None while the store decides, and only one answer is missing.
    outage: Option<Outage>,
}

/// Where a process begins when it decides for itself: the bucket's level, and this process's part of the limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    pub(crate) level: Level,
    pub(crate) share: ProcessShare,
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
        let mut decider = match *self {
            // Deciding => Deciding, in one outage
            Self::Deciding(decider) if outage.is_some() && decider.outage == outage => decider,
            // (Unused | Deciding) => Deciding
            before => before.begin(policy, quota, now, outage, start),
        };
        let Decider { level, share, .. } = &mut decider;
        level.drain(quota, now.max(level.at()));
        let cost = share.cost(tokens, level);
        // Even the smallest share admits something. Where that costs more than the burst, the rest is owed.
        let verdict = match level.until_room_for_parts(cost.min(level.in_parts(Tokens(quota.burst()))), quota) {
            Nanos::ZERO => {
                level.add_parts(cost);
                Ok(())
            }
            wait => Err(Some(wait)),
        };
        *self = Self::Deciding(decider);
        verdict
    }

    fn begin(self, policy: &OnOutage, quota: &Quota, now: Nanos, outage: Option<Outage>, start: Start) -> Decider {
        let (level, share) = match (policy, self) {
            // A quota of the process's own is one for all outages.
            (OnOutage::Local(_), Self::Deciding(decider)) => (decider.level, ProcessShare::ALL),
            (OnOutage::Local(_), Self::Unused) => (Level::empty(quota, now), ProcessShare::ALL),
            (OnOutage::FairShare, _) => (start.level, start.share),
            (OnOutage::LastKnown | OnOutage::Open | OnOutage::Closed, _) => (start.level, ProcessShare::ALL),
        };
        Decider { level, share, outage }
    }

    /// Whether a new one would decide as this one does, in the next outage too.
    pub(crate) fn is_idle(&self, policy: &OnOutage, now: Nanos) -> bool {
        match policy {
            OnOutage::Local(_) => match self {
                Self::Unused => true,
                Self::Deciding(decider) => decider.level.empty_at() <= now,
            },
            OnOutage::FairShare | OnOutage::LastKnown | OnOutage::Open | OnOutage::Closed => true,
        }
    }

    /// Gives back tokens that were taken `age` ago in this outage, or in none, less what has drained since.
    pub(crate) fn give_back(&mut self, tokens: Tokens, age: Nanos, outage: Option<Outage>) {
        if let Self::Deciding(decider) = self {
            if decider.outage == outage {
                decider.level.take_back_of(decider.share.cost(tokens, &decider.level), age);
            }
        }
    }
}
