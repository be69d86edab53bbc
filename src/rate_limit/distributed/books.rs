use super::{
    level::Level,
    outage::{Local, OnOutage, Share},
    store::{Charge, Charged, Hint},
};
use crate::{clock, rate_limit::Quota};
use std::{sync::Arc, time::Duration};

/// What one process knows of the bucket of one key, and has to tell the store.
///
/// Time is in nanoseconds by the process's own clock, but for what the store said.
#[derive(Debug)]
pub(super) struct Books {
    /// The bucket's level as the store last said: the lowest that it may have been where the store decides, the highest
    /// where this process does.
    known: Level,
    /// By how many nanoseconds of draining it may have been higher.
    doubt: u64,
    total: u64,
    /// When it said so.
    answered_at: u64,
    meter: Meter,
    local: Local,
    /// Spent without asking, and not told yet.
    untold: u64,
    /// Told, with this sequence, and not answered: told again until it is.
    told: u64,
    is_told: bool,
    sequence: u64,
    /// Granted and not used, and when the first of it was granted, by the store's clock.
    refund: u64,
    refund_of: Duration,
    /// The most that the level was seen above the burst.
    overshoot: u64,
}

/// Which key of which process, and how much it may owe.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    pub(super) client: u64,
    pub(super) max_debt: u64,
    pub(super) processes: u64,
}

impl Books {
    pub(super) fn new(quota: &Quota, now: u64) -> Self {
        Self {
            known: Level::empty(quota, now),
            doubt: 0,
            total: 0,
            answered_at: 0,
            meter: Meter::default(),
            local: Local::default(),
            untold: 0,
            told: 0,
            is_told: false,
            sequence: 0,
            refund: 0,
            refund_of: Duration::ZERO,
            overshoot: 0,
        }
    }

    /// The level as it was last known, less what has drained by now.
    pub(super) fn known(&mut self, quota: &Quota, now: u64) -> &Level {
        // Whoever read the clock before another and comes after it; and a new quota holds without time passing.
        self.known.drain(quota, now.max(self.known.at()));
        &self.known
    }

    /// The tokens for which there will be room, by what is known.
    pub(super) fn room_at(&self, quota: &Quota, at: u64) -> u64 {
        let mut known = self.known;
        known.drain(quota, at.max(known.at()));
        known.room(quota.burst())
    }

    /// In how many nanoseconds so many tokens are certainly there, if nobody else takes them.
    pub(super) fn until_room(&mut self, quota: &Quota, tokens: u64, now: u64) -> u64 {
        self.known(quota, now).until_room(tokens, quota.burst()).saturating_add(self.doubt)
    }

    /// What was spent and the store does not know, or has not said that it does.
    pub(super) fn unflushed(&self) -> u64 {
        self.untold.saturating_add(self.told)
    }

    pub(super) fn overshoot(&self) -> u64 {
        self.overshoot
    }

    /// Whether there is something to tell that is not on its way.
    pub(super) fn has_news(&self) -> bool {
        self.refund > 0 || if self.is_told { false } else { self.unflushed() > 0 }
    }

    /// Spends without asking.
    pub(super) fn spend(&mut self, tokens: u64) {
        self.untold = self.untold.saturating_add(tokens);
    }

    /// Decides for this process alone, and notes what was spent.
    pub(super) fn take_alone(
        &mut self,
        policy: &OnOutage,
        quota: &Quota,
        tokens: u64,
        now: u64,
        outage: Option<u64>,
        processes: u64,
    ) -> Result<(), Option<u64>> {
        let share = match policy {
            OnOutage::FairShare => self.share(quota, processes, now),
            _ => Share::ALL,
        };
        // What the store does not know of yet was spent of this process's share.
        let mut known = *self.known(quota, now);
        known.add_parts(share.cost(self.unflushed(), &known));
        self.local.take(policy, quota, tokens, now, outage, (known, share))?;
        self.spend(tokens);
        Ok(())
    }

    /// This process's part of what was admitted of late.
    pub(super) fn share(&self, quota: &Quota, processes: u64, now: u64) -> Share {
        self.meter.share(quota.burst(), processes, now)
    }

    /// Gives back what was spent without asking, in this outage or in none, so long ago; but what has drained since, which may
    /// have been used again. What the store was told of stays spent.
    pub(super) fn unspend(&mut self, tokens: u64, age: u64, quota: &Quota, outage: Option<u64>) {
        let drained = (u128::from(age) * u128::from(quota.count())).div_ceil(quota.period().as_nanos().max(1));
        let left = tokens.saturating_sub(u64::try_from(drained).unwrap_or(u64::MAX));
        self.untold = self.untold.saturating_sub(left);
        if outage.is_some() {
            self.local.give_back(left, outage);
        }
    }

    /// Whether the store said what it said of this key within so many nanoseconds.
    pub(super) fn is_younger(&self, than: u64, now: u64) -> bool {
        now.saturating_sub(self.answered_at) < than
    }

    /// Gives back what the store granted at `at` by its clock.
    pub(super) fn refund(&mut self, tokens: u64, at: Duration) {
        if tokens == 0 {
            return;
        }
        self.refund_of = if self.refund == 0 { at } else { self.refund_of.min(at) };
        self.refund = self.refund.saturating_add(tokens);
        self.known.take_back(tokens, 0);
    }

    /// What to ask of the store now. What was told and not answered is told again, with nothing new; what is on its way is
    /// left alone. What is new has this sequence, which is above all that were.
    pub(super) fn charge(
        &mut self,
        key: &Arc<[u8]>,
        quota: &Quota,
        owner: &Owner,
        wants: Wants,
        sequence: u64,
        now: u64,
    ) -> Charge {
        let spent = if self.is_told {
            0
        } else {
            if self.told == 0 && self.untold > 0 {
                self.told = std::mem::take(&mut self.untold);
                self.sequence = sequence;
            }
            self.is_told = self.told > 0;
            self.told
        };
        let level = self.known(quota, now).tokens();
        Charge {
            key: key.clone(),
            quota: *quota,
            client: owner.client,
            sequence: self.sequence,
            spent,
            max_debt: owner.max_debt,
            refund: std::mem::take(&mut self.refund),
            refund_of: self.refund_of,
            want: wants.want,
            least: wants.least,
            hint: Hint { level, total: self.total },
        }
    }

    /// The store has answered this charge. Its level is taken for the lowest that it may have been, where it says when it was
    /// asked: then who is refused by it would be refused by the store. Else for the highest.
    pub(super) fn answered(&mut self, charge: &Charge, charged: &Charged, asked: Option<u64>, now: u64) {
        if charge.spent > 0 {
            (self.told, self.is_told) = (0, false);
        }
        self.meter.own = self.meter.own.saturating_add(charge.spent).saturating_add(charged.granted.min(charge.want));
        if charged.total >= self.total {
            self.total = charged.total;
            (self.known, self.doubt) = match asked {
                None => (Level::of(&charge.quota, charged.level, now), 0),
                Some(asked) => lowest(charge, charged, asked, now),
            };
            self.meter.note(charged.total, now);
        }
        self.answered_at = now;
        self.overshoot = self.overshoot.max(charged.level.saturating_sub(charge.quota.burst()));
    }

    /// The store has not answered this charge. A refund in it is lost: it may have been counted, and is not to be twice.
    pub(super) fn failed(&mut self, charge: &Charge) {
        if charge.spent > 0 {
            self.is_told = false;
        }
    }

    /// Whether nothing is left that a new process would not know.
    pub(super) fn is_idle(&mut self, quota: &Quota, now: u64) -> bool {
        self.unflushed() == 0 && self.refund == 0 && self.known(quota, now).tokens() == 0
    }
}

/// The lowest level of which the store may have said this, and by how many nanoseconds of draining it may be higher.
///
/// The store says its level in whole tokens, rounded up. But where it refuses, it says exactly when it would not.
fn lowest(charge: &Charge, charged: &Charged, asked: u64, now: u64) -> (Level, u64) {
    let Charge { quota, want, least, .. } = charge;
    let passed = now.saturating_sub(asked);
    let wait = clock::nanos(charged.retry_after);
    if *want > 0 && charged.granted == 0 && wait > 0 {
        let mut level = Level::of(quota, quota.burst().saturating_sub(*least), asked);
        level.add_what_drains_in(wait - 1, charged.level);
        return (level, passed.saturating_add(1));
    }
    let a_token = clock::nanos(quota.period()).div_ceil(quota.count().max(1));
    (Level::of(quota, charged.level.saturating_sub(1), asked), passed.saturating_add(a_token))
}

/// What a process wants of the store.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wants {
    pub(super) want: u64,
    pub(super) least: u64,
}

/// How much of what is admitted is admitted by this process, over the last one or two seconds.
#[derive(Debug, Default)]
struct Meter {
    /// All that this process ever had counted.
    own: u64,
    latest: Mark,
    /// The beginning of the present second and of the one before.
    present: Mark,
    before: Mark,
}

#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    at: u64,
    own: u64,
    total: u64,
}

const SECOND: u64 = 1_000_000_000;

impl Meter {
    fn note(&mut self, total: u64, now: u64) {
        let mark = Mark { at: now, own: self.own, total };
        if now.saturating_sub(self.present.at) >= SECOND {
            // What lies long back says nothing; a first answer is where counting begins.
            let is_recent = self.latest.at > 0 && now.saturating_sub(self.latest.at) < 2 * SECOND;
            self.before = if is_recent { self.present } else { mark };
            self.present = if is_recent { self.latest } else { mark };
        }
        self.latest = mark;
    }

    /// As though a quarter of a burst had been admitted in equal parts besides: so a process that few calls come to does
    /// not take all for its own.
    fn share(&self, burst: u64, processes: u64, now: u64) -> Share {
        // What lies long back says nothing.
        let before = if now.saturating_sub(self.latest.at) < 2 * SECOND { self.before } else { self.latest };
        let own = self.latest.own.saturating_sub(before.own);
        let all = self.latest.total.saturating_sub(before.total).max(own);
        let besides = (burst / 4).max(1);
        let parts = u128::from(processes.max(1));
        // In parts of one by the number of processes, so that nothing is rounded away.
        let own = (u128::from(own) * parts).saturating_add(u128::from(besides));
        let all = (u128::from(all) + u128::from(besides)).saturating_mul(parts);
        let most = u128::from(u64::MAX);
        let shrink = (all / most) + 1;
        Share::of((own / shrink) as u64, (all / shrink) as u64)
    }
}
