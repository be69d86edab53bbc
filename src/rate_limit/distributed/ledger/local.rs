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

/// The bucket by which one process decides alone about one key.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Local {
    /// The process has not decided alone yet.
    #[default]
    Unused,
    Deciding(Decider),
}

/// The bucket of a process that decides alone. The process pays for each token at the [cost](ProcessShare::cost) of its
/// share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decider {
    level: Level,
    share: ProcessShare,
    /// The outage that this decider serves. `None` if the store decides and only one answer is missing.
    outage: Option<Outage>,
}

/// The starting point of a process that decides alone: the bucket's level, and this process's part of the limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    pub(crate) level: Level,
    pub(crate) share: ProcessShare,
}

impl Local {
    /// Takes `tokens`, or returns the time until they may be available, `None` if that is unknown. A decider serves one
    /// outage, or one call outside of any outage. With `FairShare` a new decider begins with the level and the share of
    /// `start`. With `LastKnown` it begins with that level and the whole limit. With `OnOutage::Local` it continues
    /// with the level of the previous decider, or begins empty. `Open` admits and `Closed` refuses without a decider.
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
        // Even the smallest share admits something. A call whose cost at that share is above the burst is admitted if
        // the bucket is empty. It raises the level above the burst.
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
            // A local quota continues from one outage to the next.
            (OnOutage::Local(_), Self::Deciding(decider)) => (decider.level, ProcessShare::ALL),
            (OnOutage::Local(_), Self::Unused) => (Level::empty(quota, now), ProcessShare::ALL),
            (OnOutage::FairShare, _) => (start.level, start.share),
            (OnOutage::LastKnown | OnOutage::Open | OnOutage::Closed, _) => (start.level, ProcessShare::ALL),
        };
        Decider { level, share, outage }
    }

    /// Returns whether a new decider would know as much as this one. With a local quota, that is so once the bucket is
    /// empty. With the other policies, a new decider takes its level from `start` or needs none.
    pub(crate) fn is_idle(&self, policy: &OnOutage, now: Nanos) -> bool {
        match policy {
            OnOutage::Local(_) => match self {
                Self::Unused => true,
                Self::Deciding(decider) => decider.level.empty_at() <= now,
            },
            OnOutage::FairShare | OnOutage::LastKnown | OnOutage::Open | OnOutage::Closed => true,
        }
    }

    /// Gives back tokens that were taken `age` ago in `outage` (`None`: outside of any), less what has drained since.
    /// Does nothing if the decider serves another outage.
    pub(crate) fn give_back(&mut self, tokens: Tokens, age: Nanos, outage: Option<Outage>) {
        if let Self::Deciding(decider) = self {
            if decider.outage == outage {
                decider.level.take_back_of(decider.share.cost(tokens, &decider.level), age);
            }
        }
    }
}
