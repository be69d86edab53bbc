use super::store::{Demand, Settled};
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::time::Instant;

/// What one process knows of one key: what it holds, what it spent and when, and how it stands with the store.
///
/// Who spends takes from a credit outside of this, in one step; [`Share`] keeps the books. It is not told of single spends
/// but reads the credit now and then, and takes what is missing for spent just now: later than it was, so on the safe side.
#[derive(Debug)]
pub(super) struct Share {
    /// Spends of so long a time are one, at the time of the last: later than most were, so on the safe side.
    grain: Duration,
    /// The credit when the books were last brought up to date.
    credit: u64,
    /// What was spent in the last window, the oldest first, each at the time when it was noticed.
    log: VecDeque<Spend>,
    /// All that was ever spent.
    spent: u64,
    /// What was spent since the store was last asked: the demand.
    spent_since: u64,
    /// The store was asked at least once, and that it has answered or failed to.
    asked: bool,
    settled: bool,
    sequence: u64,
    /// The highest total that the store answered, and when it last answered.
    total: u64,
    answered_at: Option<Instant>,
    standing: Standing,
}

#[derive(Clone, Copy, Debug)]
struct Spend {
    /// When the first of it was noticed.
    first: Instant,
    at: Instant,
    tokens: u64,
    /// So many of them were taken from the credit: these come back to a process that is cut off.
    of_credit: u64,
}

/// How a process stands with the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// The store answered the last time it was asked.
    Connected,
    /// It did not. What was spent comes back to the process that spent it, a window later: all that it has is then what it
    /// held and had spent when it was cut off, which the others do not have.
    CutOff,
    /// It answers again, or has lost its data; and until all others have told it what they spent meanwhile, nothing is
    /// taken from it.
    Reporting { until: Instant },
}

impl Share {
    pub(super) fn new(window: Duration) -> Self {
        Self {
            grain: window / MOST_SPENDS,
            credit: 0,
            log: VecDeque::new(),
            spent: 0,
            spent_since: 0,
            asked: false,
            settled: false,
            sequence: 0,
            total: 0,
            answered_at: None,
            standing: Standing::Connected,
        }
    }

    /// Takes what is missing from the credit for spent, and forgets what is past the window. Returns what comes back to a
    /// process that is cut off, to be added to its credit.
    pub(super) fn note(&mut self, credit: u64, now: Instant, window: Duration) -> u64 {
        let spent = self.credit.saturating_sub(credit);
        self.credit = credit;
        self.log(spent, spent, now);
        let mut back = 0u64;
        while let Some(spend) = self.log.front() {
            if now.saturating_duration_since(spend.at) < window {
                break;
            }
            back = back.saturating_add(spend.of_credit);
            self.log.pop_front();
        }
        if self.standing != Standing::CutOff {
            return 0;
        }
        self.credit = self.credit.saturating_add(back);
        back
    }

    /// So many tokens were spent that were not taken from the credit.
    pub(super) fn spent_beyond(&mut self, tokens: u64, now: Instant) {
        self.log(tokens, 0, now);
    }

    fn log(&mut self, tokens: u64, of_credit: u64, now: Instant) {
        if tokens == 0 {
            return;
        }
        self.spent = self.spent.saturating_add(tokens);
        self.spent_since = self.spent_since.saturating_add(tokens);
        match self.log.back_mut() {
            Some(last) if now.saturating_duration_since(last.first) <= self.grain => {
                last.at = now;
                last.tokens = last.tokens.saturating_add(tokens);
                last.of_credit = last.of_credit.saturating_add(of_credit);
            }
            _ => self.log.push_back(Spend { first: now, at: now, tokens, of_credit }),
        }
    }

    /// What was spent since the store was last asked.
    pub(super) fn unflushed(&self) -> u64 {
        self.spent_since
    }

    /// What to ask the store. `refused` tokens were asked for and not had since the last time; `period` is until the next.
    /// What the process holds and is not likely to need until then is given back: take that from the credit first.
    pub(super) fn excess(&self, refused: u64, limit: u64) -> u64 {
        self.credit.saturating_sub(self.target(refused, limit))
    }

    /// So much is likely to be spent until the store is asked again: a quarter more than since the last time; and the first
    /// time, when nothing is known, a part of the limit that leaves something for others.
    fn target(&self, refused: u64, limit: u64) -> u64 {
        let demand = self.spent_since.saturating_add(refused);
        let least = if self.settled { 0 } else { limit.div_ceil(FIRST_SHARE) };
        demand.saturating_add(demand.div_ceil(4)).max(least).min(limit)
    }

    /// Tokens were taken from the credit to be given back.
    pub(super) fn returned(&mut self, tokens: u64) {
        self.credit = self.credit.saturating_sub(tokens);
    }

    /// The demand to send now.
    pub(super) fn demand(&mut self, terms: &Terms, refused: u64, now: Instant) -> Demand {
        let want = match self.standing {
            Standing::Reporting { until } if now < until => 0,
            _ => self.target(refused, terms.limit).saturating_sub(self.credit),
        };
        self.sequence += 1;
        self.asked = true;
        Demand {
            key: terms.key.clone(),
            limit: terms.limit,
            window: terms.window,
            client: terms.client,
            sequence: self.sequence,
            spent: self.spent,
            spends: self
                .log
                .iter()
                .rev()
                .map(|spend| (now.saturating_duration_since(spend.at), spend.tokens))
                .collect(),
            held: self.credit,
            want: if self.standing == Standing::CutOff { 0 } else { want },
            total: self.known_total(terms.window, now),
        }
    }

    /// The total that the store must know of. After two windows without an answer it may have forgotten all by right.
    fn known_total(&self, window: Duration, now: Instant) -> u64 {
        let is_recent = |at| now.saturating_duration_since(at) < window.saturating_mul(2);
        if self.answered_at.is_some_and(is_recent) { self.total } else { 0 }
    }

    /// The store has answered. Returns what is to be added to the credit.
    pub(super) fn answered(&mut self, granted: u64, settled: &Settled, now: Instant, report_for: Duration) -> u64 {
        self.settled = true;
        self.answered_at = Some(now);
        self.total = self.total.max(settled.total);
        self.spent_since = 0;
        let was_cut_off = self.standing == Standing::CutOff;
        self.standing = match self.standing {
            Standing::CutOff => Standing::Reporting { until: now + report_for },
            _ if settled.lost => Standing::Reporting { until: now + report_for },
            Standing::Reporting { until } if now < until => self.standing,
            _ => Standing::Connected,
        };
        if settled.lost {
            // From here on the store's own count is what it is measured by.
            self.total = settled.total;
        }
        if was_cut_off {
            return 0;
        }
        self.credit = self.credit.saturating_add(granted);
        granted
    }

    /// Whether the store was ever asked.
    pub(super) fn was_asked(&self) -> bool {
        self.asked
    }

    /// Whether the store has ever answered, or failed to.
    pub(super) fn was_settled(&self) -> bool {
        self.settled
    }

    /// The store has not answered, and so many tokens are taken without it.
    pub(super) fn cut_off(&mut self, tokens: u64) {
        self.settled = true;
        self.credit = self.credit.saturating_add(tokens);
        self.standing = Standing::CutOff;
    }

    pub(super) fn is_cut_off(&self) -> bool {
        self.standing == Standing::CutOff
    }

    /// Whether it need not be remembered.
    pub(super) fn is_idle(&self) -> bool {
        self.log.is_empty() && self.credit == 0 && self.spent_since == 0
    }
}

/// A window has about so many spends, however many calls there are.
const MOST_SPENDS: u32 = 80;

/// A process asks for so small a part of the limit before it knows what it needs.
const FIRST_SHARE: u64 = 16;

/// What a key is limited to, and for whom.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) key: Arc<[u8]>,
    pub(super) limit: u64,
    pub(super) window: Duration,
    pub(super) client: u64,
}
