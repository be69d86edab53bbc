use super::{
    backlog::Backlog,
    local::{Local, Start},
    meter::Meter,
    missed::Missed,
    reported::{Reported, Spends},
    share::ProcessShare,
};
use crate::{
    clock::Nanos,
    rate_limit::{
        Quota,
        distributed::{
            level::Level,
            outage::{OnOutage, Outage},
            store::charge::{Charge, Charged, Hint},
        },
        tokens::Tokens,
    },
};
use std::{mem, sync::Arc, time::Duration};

/// The local ledger of one key's bucket: the last known state, and the spends that the store has not confirmed.
///
/// Times are by the process's own clock, except where a field says otherwise.
#[derive(Debug)]
pub(crate) struct BucketLedger {
    /// The bucket's level by the last answer of the store, less the refunds since. For `Exact` it is the lowest level
    /// that fits the answer, for `WriteBehind` the highest.
    known: Level,
    /// The level in the store may be higher than `known`, at most by what drains in this time.
    doubt: Nanos,
    /// All tokens that the store has counted for this key: the highest total of any answer. An answer with a lower
    /// total changes neither this nor `known`.
    total: Tokens,
    /// When the store last answered, by the clock of this process.
    answered_at: Nanos,
    /// When the store last answered, by the store's clock.
    said_at: Duration,
    meter: Meter,
    local: Local,
    /// Spent without asking, because the kind of limit allows it (`WriteBehind`), and not yet reported.
    unreported: Tokens,
    /// Spent because an answer did not come in time, and not yet reported.
    missed: Missed,
    /// Spent in an outage, or unreported when the outage began, and not reported since.
    late: Tokens,
    /// The spends of the outage and those that were unconfirmed when it began. A spend leaves the backlog when the
    /// store confirms it, or when it has drained here.
    backlog: Backlog,
    /// The outage in which `backlog` began.
    outage: Option<Outage>,
    reported: Reported,
    /// Granted and not used. The next charge returns these tokens to the store.
    refund: Tokens,
    /// The time of the earliest grant in `refund`, by the store's clock.
    refund_of: Duration,
    /// The largest sum, in any answer, of the debt and of the part of the level above the burst.
    overshoot: Tokens,
}

/// The process that owns the ledgers, and the settings that all of them share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    /// The number of the process: see [`Charge::client`].
    pub(crate) client: u64,
    /// The most tokens that a key may owe beyond the burst.
    pub(crate) max_debt: u64,
    /// The expected number of processes.
    pub(crate) processes: u64,
}

impl BucketLedger {
    pub(crate) fn new(quota: &Quota, now: Nanos) -> Self {
        Self {
            known: Level::empty(quota, now),
            doubt: Nanos::ZERO,
            total: Tokens::ZERO,
            answered_at: Nanos::ZERO,
            said_at: Duration::ZERO,
            meter: Meter::default(),
            local: Local::default(),
            unreported: Tokens::ZERO,
            missed: Missed::default(),
            late: Tokens::ZERO,
            backlog: Backlog::new(quota, ProcessShare::ALL, &Level::empty(quota, now), Tokens::ZERO),
            outage: None,
            reported: Reported::default(),
            refund: Tokens::ZERO,
            refund_of: Duration::ZERO,
            overshoot: Tokens::ZERO,
        }
    }

    /// Returns the last known level, less what has drained by now.
    pub(crate) fn known(&mut self, quota: &Quota, now: Nanos) -> &Level {
        // Two callers may come in another order than they read the clock, so `now` may be before the time of the level.
        // `drain` also takes over a new quota.
        self.known.drain(quota, now.max(self.known.at()));
        &self.known
    }

    /// Returns the tokens for which there will be room at `at`, by the last known level.
    pub(crate) fn room_at(&self, quota: &Quota, at: Nanos) -> Tokens {
        let mut known = self.known;
        known.drain(quota, at.max(known.at()));
        known.room(quota)
    }

    /// Returns the time until `tokens` are certainly available, if no other process takes them.
    pub(crate) fn until_room(&mut self, quota: &Quota, tokens: Tokens, now: Nanos) -> Nanos {
        self.known(quota, now).until_room(tokens, quota).saturating_add(self.doubt)
    }

    /// Returns the spent tokens that the store has not confirmed.
    pub(crate) fn unflushed(&self) -> Tokens {
        let unreported = self.unreported.saturating_add(self.missed.sum()).saturating_add(self.late);
        unreported.saturating_add(self.reported.sum())
    }

    pub(crate) fn overshoot(&self) -> Tokens {
        self.overshoot
    }

    /// Returns whether the next charge would carry a refund or spends. While a charge with spends is in flight, new
    /// spends wait for its answer, and only a refund counts.
    pub(crate) fn has_news(&self) -> bool {
        let is_free = !matches!(self.reported, Reported::UnderWay(_));
        let is_unreported = self.unreported > Tokens::ZERO || self.missed.is_ripe() || self.late > Tokens::ZERO;
        self.refund > Tokens::ZERO || is_free && (is_unreported || self.reported.sum() > Tokens::ZERO)
    }

    /// Spends without asking the store.
    pub(crate) fn spend(&mut self, tokens: Tokens) {
        self.unreported = self.unreported.saturating_add(tokens);
    }

    /// Decides for this process alone, and notes what it spent. The error is the time after which to ask again, if the
    /// policy knows it.
    pub(crate) fn take_alone(
        &mut self,
        policy: &OnOutage,
        quota: &Quota,
        tokens: Tokens,
        now: Nanos,
        outage: Option<Outage>,
        processes: u64,
    ) -> Result<(), Option<Nanos>> {
        if outage.is_some() && self.outage != outage {
            self.begin(outage, quota, now, processes);
        }
        let share = match (policy, outage) {
            (OnOutage::FairShare, Some(_)) => self.backlog.share(),
            (OnOutage::FairShare, None) => self.share(quota, processes, now),
            _ => ProcessShare::ALL,
        };
        // The known level may lack the unconfirmed spends. A process that may use only a part of the bucket pays the
        // inverse of that part for each token (2 for one half), so the unconfirmed spends are added at that cost.
        let mut level = *self.known(quota, now);
        level.add_parts(share.cost(self.unflushed(), &level));
        self.local.take(policy, quota, tokens, now, outage, Start { level, share })?;
        if outage.is_some() {
            self.late = self.late.saturating_add(tokens);
            self.backlog.spend(tokens, quota, now);
        } else {
            self.missed.spend(tokens);
        }
        Ok(())
    }

    /// Begins an outage: unreported tokens drain in the backlog from now on.
    fn begin(&mut self, outage: Option<Outage>, quota: &Quota, now: Nanos, processes: u64) {
        self.outage = outage;
        // Spends of the previous outage may be unreported. Those that have drained are dropped.
        self.forget_drained(quota, now);
        let unreported = mem::take(&mut self.unreported).saturating_add(self.missed.take_all());
        self.late = self.late.saturating_add(unreported);
        self.reported.become_late();
        let (share, known) = (self.share(quota, processes, now), *self.known(quota, now));
        self.backlog = Backlog::new(quota, share, &known, self.unflushed());
    }

    /// Drops late spends that have drained, so that they are not sent, or not sent again. The oldest drain first: those
    /// that were sent and not answered.
    fn forget_drained(&mut self, quota: &Quota, now: Nanos) {
        let left = self.backlog.tokens(quota, now);
        self.late = self.late.min(left);
        self.reported.keep_late(left.saturating_sub(self.late));
    }

    /// Returns this process's part of the tokens that were admitted recently.
    pub(crate) fn share(&self, quota: &Quota, processes: u64, now: Nanos) -> ProcessShare {
        self.meter.share(quota, processes, now)
    }

    /// Gives back tokens that this process admitted by itself `age` ago, in `outage` (`None`: outside of any). Tokens
    /// that have drained in that time stay spent: others may have used them. The ledger gives back no more tokens than
    /// it has still to report.
    pub(crate) fn unspend(&mut self, tokens: Tokens, age: Nanos, quota: &Quota, outage: Option<Outage>) {
        let drained = (u128::from(age.0) * u128::from(quota.count())).div_ceil(quota.period().as_nanos().max(1));
        let left = tokens.saturating_sub(Tokens(u64::try_from(drained).unwrap_or(u64::MAX)));
        let of_unreported = left.min(self.unreported);
        self.unreported = self.unreported.saturating_sub(of_unreported);
        let left = left.saturating_sub(of_unreported);
        let left = left.saturating_sub(self.missed.pay(left));
        let of_late = left.min(self.late);
        self.late = self.late.saturating_sub(of_late);
        self.backlog.unspend(of_late);
        self.local.give_back(tokens, age, outage);
    }

    /// Returns whether the last answer of the store for this key is younger than `than`.
    pub(crate) fn is_younger(&self, than: Nanos, now: Nanos) -> bool {
        now.saturating_sub(self.answered_at) < than
    }

    /// Uses tokens that the store granted to callers that have gone. The tokens pay for spends that the store does not
    /// know. Returns the tokens that are left, to be refunded.
    pub(crate) fn pay(&mut self, tokens: Tokens, quota: &Quota, now: Nanos) -> Tokens {
        let left = tokens.saturating_sub(self.missed.pay(tokens));
        // Spends that have drained here need no payment.
        let paid = left.min(self.late).min(self.backlog.tokens(quota, now));
        self.late = self.late.saturating_sub(paid);
        self.backlog.reported(paid, quota, now);
        left.saturating_sub(paid)
    }

    /// Notes tokens to refund with the next charge. The store granted them at `at` by its clock.
    pub(crate) fn refund(&mut self, tokens: Tokens, at: Duration) {
        if tokens == Tokens::ZERO {
            return;
        }
        self.refund_of = if self.refund == Tokens::ZERO { at } else { self.refund_of.min(at) };
        self.refund = self.refund.saturating_add(tokens);
        self.known.take_back(tokens, Nanos::ZERO);
    }

    /// Returns the next charge for the store. The spends of a charge that failed are sent again, without new ones.
    /// While a charge with spends is in flight, the next one has none. If the charge has new spends, they get
    /// `sequence`, which is above all earlier ones.
    pub(crate) fn charge(
        &mut self,
        key: &Arc<[u8]>,
        quota: &Quota,
        owner: &Owner,
        wants: Wants,
        sequence: u64,
        now: Nanos,
    ) -> Charge {
        let reported = self.report(quota, sequence, now);
        if wants.want > Tokens::ZERO {
            self.missed.ask();
        }
        let level = self.known(quota, now).tokens();
        let at = self.said_at.saturating_add(now.saturating_sub(self.answered_at).duration());
        Charge {
            key: key.clone(),
            quota: *quota,
            client: owner.client,
            sequence: reported.sequence,
            spent: reported.sum().0,
            late: reported.late.0,
            max_debt: owner.max_debt,
            refund: mem::take(&mut self.refund).0,
            refund_of: self.refund_of,
            want: wants.want.0,
            least: wants.least.0,
            hint: Hint { level: level.0, at, total: self.total.0 },
        }
    }

    /// Returns the spends to report now: none while others are in flight.
    fn report(&mut self, quota: &Quota, sequence: u64, now: Nanos) -> Spends {
        if !matches!(self.reported, Reported::UnderWay(_)) {
            self.forget_drained(quota, now);
        }
        let Self { reported, unreported, missed, late, .. } = self;
        reported.leave(|| Spends {
            unreported: mem::take(unreported).saturating_add(missed.take_ripe()),
            late: mem::take(late),
            sequence,
        })
    }

    /// Takes the answer of the store to this charge. `asked` is the time at which the store was asked. If it is given,
    /// the ledger keeps the lowest level that fits the answer. A call that this level refuses would be refused by the
    /// store, too. Without `asked` the ledger keeps the highest level.
    pub(crate) fn answered(&mut self, charge: &Charge, charged: &Charged, asked: Option<Nanos>, now: Nanos) {
        if charge.spent > 0 {
            // If an outage has begun since the charge was sent, all spends of the charge are late. Late spends are in
            // the backlog.
            let Spends { late, .. } = self.reported.answered();
            self.backlog.reported(late, &charge.quota, now);
        }
        if charge.want > 0 {
            self.missed.answer();
        }
        self.meter.count(Tokens(charge.spent.saturating_add(charged.granted.min(charge.want))));
        if charged.total >= self.total.0 {
            self.total = Tokens(charged.total);
            (self.known, self.doubt) = match asked {
                None => {
                    let level = Level::of(&charge.quota, Tokens(charged.level), now);
                    (level.with_debt(Tokens(charged.debt)), Nanos::ZERO)
                }
                Some(asked) => lowest(charge, charged, asked, now),
            };
            self.meter.note(self.total, charged.at, now);
        }
        (self.answered_at, self.said_at) = (now, charged.at);
        let above = charged.level.saturating_sub(charge.quota.burst()).saturating_add(charged.debt);
        self.overshoot = self.overshoot.max(Tokens(above));
    }

    /// Notes that the store has not answered this charge. A refund in it is lost: the store may have counted it, and
    /// must not count it twice.
    pub(crate) fn failed(&mut self, charge: &Charge) {
        if charge.spent > 0 {
            self.reported.failed();
        }
        if charge.want > 0 {
            self.missed.answer();
        }
    }

    /// Returns whether the ledger can be dropped: the bucket is empty, and nothing is left to report. A new ledger
    /// would admit the same calls, but has to measure the process's share again.
    pub(crate) fn is_idle(&mut self, policy: &OnOutage, quota: &Quota, now: Nanos) -> bool {
        let is_reported = [self.unreported, self.missed.sum(), self.reported.sum()] == [Tokens::ZERO; 3];
        let is_reported = is_reported && (self.late == Tokens::ZERO || self.backlog.tokens(quota, now) == Tokens::ZERO);
        let is_empty = self.known(quota, now).empty_at() <= now && self.local.is_idle(policy, now);
        is_reported && self.refund == Tokens::ZERO && is_empty
    }
}

/// Returns the lowest level that fits this answer, and a time. The level in the store may be higher, at most by what
/// drains in that time. The store made its answer after `asked`, but the returned level drains from `asked` on.
///
/// The store states its level in whole tokens, rounded up. But with a refusal it also states the time until it would
/// grant the tokens, which gives the level more exactly.
fn lowest(charge: &Charge, charged: &Charged, asked: Nanos, now: Nanos) -> (Level, Nanos) {
    let Charge { quota, want, .. } = charge;
    let (least, debt) = (Tokens(charge.least), Tokens(charged.debt));
    let passed = now.saturating_sub(asked);
    let wait = Nanos::of(charged.retry_after);
    if *want > 0 && charged.granted == 0 && wait > Nanos::ZERO {
        // `least` fits after `wait`. So the level is the burst less `least`, plus what drains in `wait` at the least.
        let mut level = Level::of(quota, Tokens(quota.burst()).saturating_sub(least), asked).with_debt(debt);
        level.add_what_drains_in(wait.saturating_sub(Nanos(1)), Tokens(charged.level));
        let until_room = level.until_room(least, quota).saturating_add(Nanos(1));
        return (level, passed.saturating_add(Nanos(1)).saturating_add(wait.saturating_sub(until_room)));
    }
    let a_token = Nanos(Nanos::of(quota.period()).0.div_ceil(quota.count().max(1)));
    // The store rounds up, so its level is above this one by at most a token.
    let level = Level::of(quota, Tokens(charged.level.saturating_sub(1)), asked).with_debt(debt);
    (level, passed.saturating_add(a_token))
}

/// The tokens that a process wants from the store.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wants {
    pub(crate) want: Tokens,
    /// If the store cannot grant this many, it grants none.
    pub(crate) least: Tokens,
}
