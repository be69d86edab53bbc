use crate::rate_limit::{
    distributed::store::demand::{Demand, Settled},
    tokens::Tokens,
};
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::time::Instant;

/// About how many spends a window has at most, however many calls there are.
const MOST_SPENDS: u32 = 80;

/// The part of the limit that a process asks for before it knows what it needs: one of 16.
const FIRST_SHARE: u64 = 16;

/// What one process knows of one key: what it holds, what it spent and when, and how it stands with the store.
///
/// Callers take tokens from a credit outside of the ledger, in one step. The ledger read the credit now and then, and
/// take what is missing for spent just now: later than it was, so on the safe side.
///
/// How the process stands with the store:
///
/// | state | when | next state |
/// |---|---|---|
/// | `Unheard` | the store answers | `Connected` |
/// | `Unheard`, `Connected`, `Reporting` | the store does not answer | `CutOff` |
/// | `CutOff` | the store answers | `Reporting` |
/// | `Unheard`, `Connected`, `Reporting` | the store has lost its data | `Reporting` |
/// | `Reporting` | the store answers, and the time for reports is over | `Connected` |
#[derive(Debug)]
pub(crate) struct LeaseLedger {
    /// Spends of at most this length of time are one, at the time of the last: later than most were, so on the safe
    /// side.
    grain: Duration,
    /// The credit when the ledger were last brought up to date.
    credit: Tokens,
    /// What was spent in the last window, the oldest first, each at the time when it was noticed.
    log: VecDeque<Spend>,
    /// All tokens that were ever spent.
    spent: Tokens,
    /// The tokens that were spent since the store last answered: the demand.
    spent_since: Tokens,
    /// That of the last demand. Zero until the store is asked.
    sequence: u64,
    /// The highest total that the store answered, and when it last answered.
    total: Tokens,
    answered_at: Option<Instant>,
    state: LeaseState,
}

#[derive(Clone, Copy, Debug)]
struct Spend {
    /// When the first of it was noticed.
    first: Instant,
    at: Instant,
    tokens: Tokens,
    /// The part that was taken from the credit: it comes back to a process that is cut off.
    of_credit: Tokens,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LeaseState {
    /// The store has neither answered nor failed to.
    Unheard,
    /// The store answered the last time it was asked.
    Connected,
    /// It did not. What was spent comes back to the process that spent it, a window later: all that it has is then what
    /// it held and had spent when it was cut off, which the others do not have.
    CutOff,
    /// It answers again, or has lost its data. The process takes nothing from it until all others have told it what
    /// they spent meanwhile.
    Reporting { until: Instant },
}

/// The limit of a key, and the process that it is for.
#[derive(Clone, Debug)]
pub(crate) struct LeaseTerms {
    pub(crate) key: Arc<[u8]>,
    pub(crate) limit: Tokens,
    pub(crate) window: Duration,
    pub(crate) client: u64,
}

impl LeaseLedger {
    pub(crate) fn new(window: Duration) -> Self {
        Self {
            grain: window / MOST_SPENDS,
            credit: Tokens::ZERO,
            log: VecDeque::new(),
            spent: Tokens::ZERO,
            spent_since: Tokens::ZERO,
            sequence: 0,
            total: Tokens::ZERO,
            answered_at: None,
            state: LeaseState::Unheard,
        }
    }

    /// Takes what is missing from the credit for spent, and forgets what is past the window. Returns what comes back to
    /// a process that is cut off, to be added to its credit.
    pub(crate) fn note(&mut self, credit: Tokens, now: Instant, window: Duration) -> Tokens {
        let spent = self.credit.saturating_sub(credit);
        self.credit = credit;
        self.log(spent, spent, now);
        let mut back = Tokens::ZERO;
        while let Some(spend) = self.log.front() {
            if now.saturating_duration_since(spend.at) < window {
                break;
            }
            back = back.saturating_add(spend.of_credit);
            self.log.pop_front();
        }
        if self.state != LeaseState::CutOff {
            return Tokens::ZERO;
        }
        self.credit = self.credit.saturating_add(back);
        back
    }

    /// Notes tokens that were spent and not taken from the credit.
    pub(crate) fn spent_beyond(&mut self, tokens: Tokens, now: Instant) {
        self.log(tokens, Tokens::ZERO, now);
    }

    fn log(&mut self, tokens: Tokens, of_credit: Tokens, now: Instant) {
        if tokens == Tokens::ZERO {
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

    /// The tokens that were spent since the store last answered.
    pub(crate) fn unflushed(&self) -> Tokens {
        self.spent_since
    }

    /// The tokens that the process holds and is not likely to need until it asks again. `refused` tokens were asked for
    /// in vain since the last time. The caller takes the excess from the credit before the demand is made.
    pub(crate) fn excess(&self, refused: Tokens, limit: Tokens) -> Tokens {
        self.credit.saturating_sub(self.target(refused, limit))
    }

    /// The tokens that are likely to be spent until the store is asked again: a quarter more than since the last time.
    /// The first time, when nothing is known, it is a part of the limit that leaves something for others.
    fn target(&self, refused: Tokens, limit: Tokens) -> Tokens {
        let demand = self.spent_since.saturating_add(refused);
        let least = if self.was_settled() { Tokens::ZERO } else { Tokens(limit.0.div_ceil(FIRST_SHARE)) };
        demand.saturating_add(Tokens(demand.0.div_ceil(4))).max(least).min(limit)
    }

    /// Tokens were taken from the credit to be given back.
    pub(crate) fn returned(&mut self, tokens: Tokens) {
        self.credit = self.credit.saturating_sub(tokens);
    }

    /// The demand to send now.
    pub(crate) fn demand(&mut self, terms: &LeaseTerms, refused: Tokens, now: Instant) -> Demand {
        let want = match self.state {
            LeaseState::CutOff => Tokens::ZERO,
            LeaseState::Reporting { until } if now < until => Tokens::ZERO,
            LeaseState::Unheard | LeaseState::Connected | LeaseState::Reporting { .. } => {
                self.target(refused, terms.limit).saturating_sub(self.credit)
            }
        };
        self.sequence += 1;
        Demand {
            key: terms.key.clone(),
            limit: terms.limit.0,
            window: terms.window,
            client: terms.client,
            sequence: self.sequence,
            spent: self.spent.0,
            spends: self
                .log
                .iter()
                .rev()
                .map(|spend| (now.saturating_duration_since(spend.at), spend.tokens.0))
                .collect(),
            held: self.credit.0,
            want: want.0,
            total: self.known_total(terms.window, now).0,
        }
    }

    /// The total that the store must know of. After two windows without an answer it may have forgotten all by right.
    fn known_total(&self, window: Duration, now: Instant) -> Tokens {
        let is_recent = |at| now.saturating_duration_since(at) < window.saturating_mul(2);
        if self.answered_at.is_some_and(is_recent) { self.total } else { Tokens::ZERO }
    }

    /// The store has answered. Returns what is to be added to the credit.
    pub(crate) fn answered(
        &mut self,
        granted: Tokens,
        settled: &Settled,
        now: Instant,
        report_for: Duration,
    ) -> Tokens {
        self.answered_at = Some(now);
        self.total = self.total.max(Tokens(settled.total));
        self.spent_since = Tokens::ZERO;
        let was_cut_off = self.state == LeaseState::CutOff;
        self.state = match self.state {
            // CutOff => Reporting
            LeaseState::CutOff => LeaseState::Reporting { until: now + report_for },
            // (Unheard | Connected | Reporting) => Reporting
            _ if settled.lost => LeaseState::Reporting { until: now + report_for },
            // Reporting => Reporting
            LeaseState::Reporting { until } if now < until => self.state,
            // (Unheard | Connected | Reporting) => Connected
            LeaseState::Unheard | LeaseState::Connected | LeaseState::Reporting { .. } => LeaseState::Connected,
        };
        if settled.lost {
            // From here on a loss shows by the store's own count.
            self.total = Tokens(settled.total);
        }
        if was_cut_off {
            return Tokens::ZERO;
        }
        self.credit = self.credit.saturating_add(granted);
        granted
    }

    /// Whether the store was ever asked.
    pub(crate) fn was_asked(&self) -> bool {
        self.sequence > 0
    }

    /// Whether the store has ever answered, or failed to.
    pub(crate) fn was_settled(&self) -> bool {
        self.state != LeaseState::Unheard
    }

    /// The store has not answered, and the process takes `tokens` without it.
    pub(crate) fn cut_off(&mut self, tokens: Tokens) {
        self.credit = self.credit.saturating_add(tokens);
        // (Unheard | Connected | CutOff | Reporting) => CutOff
        self.state = LeaseState::CutOff;
    }

    pub(crate) fn is_cut_off(&self) -> bool {
        self.state == LeaseState::CutOff
    }

    /// Whether it need not be remembered.
    pub(crate) fn is_idle(&self) -> bool {
        self.log.is_empty() && self.credit == Tokens::ZERO && self.spent_since == Tokens::ZERO
    }
}
