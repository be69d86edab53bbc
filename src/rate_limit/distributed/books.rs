use super::{
    backlog::Backlog,
    level::Level,
    meter::Meter,
    missed::Missed,
    outage::{Local, OnOutage, Share},
    store::{Charge, Charged, Hint},
};
use crate::{clock, rate_limit::Quota};
use std::{mem, sync::Arc, time::Duration};

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
    /// When the store said so: by the clock of this process, and by the store's own.
    answered_at: u64,
    said_at: Duration,
    meter: Meter,
    local: Local,
    /// Spent without asking as it may, and not told yet.
    untold: u64,
    /// Spent because an answer did not come in time.
    missed: Missed,
    /// Spent while the store was away and not told yet, and the part that has not drained.
    late: u64,
    backlog: Backlog,
    /// The outage that the backlog is of.
    outage: Option<u64>,
    told: Told,
    /// Granted and not used, and when the first of it was granted, by the store's clock.
    refund: u64,
    refund_of: Duration,
    /// The most that the level was seen above the burst.
    overshoot: u64,
}

/// The spends of the last charge with news, until the store answers it. Until then the process sends them again.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    untold: u64,
    late: u64,
    sequence: u64,
    is_under_way: bool,
}

impl Told {
    fn sum(&self) -> u64 {
        self.untold.saturating_add(self.late)
    }
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
            said_at: Duration::ZERO,
            meter: Meter::default(),
            local: Local::default(),
            untold: 0,
            missed: Missed::default(),
            late: 0,
            backlog: Backlog::new(quota, Share::ALL, &Level::empty(quota, now), 0),
            outage: None,
            told: Told::default(),
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
        let untold = self.untold.saturating_add(self.missed.sum()).saturating_add(self.late);
        untold.saturating_add(self.told.sum())
    }

    pub(super) fn overshoot(&self) -> u64 {
        self.overshoot
    }

    /// Whether there is something to tell that is not on its way.
    pub(super) fn has_news(&self) -> bool {
        let is_free = !self.told.is_under_way;
        let is_untold = self.untold > 0 || self.missed.is_ripe() || self.late > 0;
        self.refund > 0 || is_free && (is_untold || self.told.sum() > 0)
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
        if outage.is_some() && self.outage != outage {
            self.begin(outage, quota, now, processes);
        }
        let share = match (policy, outage) {
            (OnOutage::FairShare, Some(_)) => self.backlog.share(),
            (OnOutage::FairShare, None) => self.share(quota, processes, now),
            _ => Share::ALL,
        };
        // What the store does not know of yet was spent of this process's share.
        let mut level = *self.known(quota, now);
        level.add_parts(share.cost(self.unflushed(), &level));
        self.local.take(policy, quota, tokens, now, outage, (level, share))?;
        if outage.is_some() {
            self.late = self.late.saturating_add(tokens);
            self.backlog.spend(tokens, quota, now);
        } else {
            self.missed.spend(tokens);
        }
        Ok(())
    }

    /// The store is away: from here on what it was not told drains here.
    fn begin(&mut self, outage: Option<u64>, quota: &Quota, now: u64, processes: u64) {
        self.outage = outage;
        // The store may not have heard of the spends of the last outage.
        self.forget_drained(quota, now);
        let untold = mem::take(&mut self.untold).saturating_add(self.missed.take_all());
        self.late = self.late.saturating_add(untold);
        self.told.late = self.told.sum();
        self.told.untold = 0;
        let (share, known) = (self.share(quota, processes, now), *self.known(quota, now));
        self.backlog = Backlog::new(quota, share, &known, self.unflushed());
    }

    /// Forgets what has drained, so that it is not told. The oldest spends drain first: those that were told and not
    /// answered.
    fn forget_drained(&mut self, quota: &Quota, now: u64) {
        let left = self.backlog.tokens(quota, now);
        self.late = self.late.min(left);
        self.told.late = self.told.late.min(left - self.late);
    }

    /// This process's part of what was admitted of late.
    pub(super) fn share(&self, quota: &Quota, processes: u64, now: u64) -> Share {
        self.meter.share(quota, processes, now)
    }

    /// Gives back what was spent without asking, in this outage or in none, so long ago; but what has drained since, which may
    /// have been used again. What the store was told of stays spent.
    pub(super) fn unspend(&mut self, tokens: u64, age: u64, quota: &Quota, outage: Option<u64>) {
        let drained = (u128::from(age) * u128::from(quota.count())).div_ceil(quota.period().as_nanos().max(1));
        let left = tokens.saturating_sub(u64::try_from(drained).unwrap_or(u64::MAX));
        let of_untold = left.min(self.untold);
        self.untold -= of_untold;
        let of_missed = self.missed.pay(left - of_untold);
        let of_late = (left - of_untold - of_missed).min(self.late);
        self.late -= of_late;
        self.backlog.unspend(of_late);
        self.local.give_back(tokens, age, outage);
    }

    /// Whether the store said what it said of this key within so many nanoseconds.
    pub(super) fn is_younger(&self, than: u64, now: u64) -> bool {
        now.saturating_sub(self.answered_at) < than
    }

    /// Pays for spends without the store with tokens that it just granted to callers that have gone. Returns the tokens that
    /// are left to give back.
    pub(super) fn pay(&mut self, tokens: u64, quota: &Quota, now: u64) -> u64 {
        let left = tokens - self.missed.pay(tokens);
        // Spends that have drained here are not to be paid for.
        let paid = left.min(self.late).min(self.backlog.tokens(quota, now));
        self.late -= paid;
        self.backlog.told(paid, quota, now);
        left - paid
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
        let Told { untold, late, .. } = self.tell(quota, sequence, now);
        if wants.want > 0 {
            self.missed.ask();
        }
        let level = self.known(quota, now).tokens();
        let at = self.said_at.saturating_add(Duration::from_nanos(now.saturating_sub(self.answered_at)));
        Charge {
            key: key.clone(),
            quota: *quota,
            client: owner.client,
            sequence: self.told.sequence,
            spent: untold.saturating_add(late),
            late,
            max_debt: owner.max_debt,
            refund: mem::take(&mut self.refund),
            refund_of: self.refund_of,
            want: wants.want,
            least: wants.least,
            hint: Hint { level, at, total: self.total },
        }
    }

    /// The spends to tell now. None while others are on their way.
    fn tell(&mut self, quota: &Quota, sequence: u64, now: u64) -> Told {
        if self.told.is_under_way {
            return Told::default();
        }
        // If the store has counted what is told again, it ignores it.
        self.forget_drained(quota, now);
        if self.told.sum() == 0 {
            let untold = mem::take(&mut self.untold).saturating_add(self.missed.take_ripe());
            let late = mem::take(&mut self.late);
            self.told = Told { untold, late, sequence, is_under_way: false };
        }
        self.told.is_under_way = self.told.sum() > 0;
        self.told
    }

    /// The store has answered this charge. Its level is taken for the lowest that it may have been, where it says when it was
    /// asked: then who is refused by it would be refused by the store. Else for the highest.
    pub(super) fn answered(&mut self, charge: &Charge, charged: &Charged, asked: Option<u64>, now: u64) {
        if charge.spent > 0 {
            // An outage may have begun since it was sent, which made all of it late.
            let Told { late, .. } = mem::take(&mut self.told);
            self.backlog.told(late, &charge.quota, now);
        }
        if charge.want > 0 {
            self.missed.answer();
        }
        self.meter.count(charge.spent.saturating_add(charged.granted.min(charge.want)));
        if charged.total >= self.total {
            self.total = charged.total;
            (self.known, self.doubt) = match asked {
                None => (Level::of(&charge.quota, charged.level, now).with_debt(charged.debt), 0),
                Some(asked) => lowest(charge, charged, asked, now),
            };
            self.meter.note(charged.total, charged.at, now);
        }
        (self.answered_at, self.said_at) = (now, charged.at);
        let above = charged.level.saturating_sub(charge.quota.burst()).saturating_add(charged.debt);
        self.overshoot = self.overshoot.max(above);
    }

    /// The store has not answered this charge. A refund in it is lost: it may have been counted, and is not to be twice.
    pub(super) fn failed(&mut self, charge: &Charge) {
        if charge.spent > 0 {
            self.told.is_under_way = false;
        }
        if charge.want > 0 {
            self.missed.answer();
        }
    }

    /// Whether nothing is left that a new process would not know.
    pub(super) fn is_idle(&mut self, policy: &OnOutage, quota: &Quota, now: u64) -> bool {
        let is_told = self.untold == 0 && self.missed.sum() == 0 && self.told.sum() == 0;
        let is_told = is_told && (self.late == 0 || self.backlog.tokens(quota, now) == 0);
        let is_empty = self.known(quota, now).empty_at() <= now && self.local.is_idle(policy, now);
        is_told && self.refund == 0 && is_empty
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
        let mut level = Level::of(quota, quota.burst().saturating_sub(*least), asked).with_debt(charged.debt);
        level.add_what_drains_in(wait - 1, charged.level);
        let until_room = level.until_room(*least, quota.burst());
        return (level, passed.saturating_add(1).saturating_add(wait.saturating_sub(until_room + 1)));
    }
    let a_token = clock::nanos(quota.period()).div_ceil(quota.count().max(1));
    let level = Level::of(quota, charged.level.saturating_sub(1), asked).with_debt(charged.debt);
    (level, passed.saturating_add(a_token))
}

/// What a process wants of the store.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wants {
    pub(super) want: u64,
    pub(super) least: u64,
}
