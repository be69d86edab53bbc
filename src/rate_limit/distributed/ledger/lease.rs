use crate::rate_limit::{
    distributed::store::demand::{Demand, Settled},
    tokens::Tokens,
};
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::time::Instant;

/// The log has at most about this many entries for a window, however many calls there are.
const MOST_SPENDS: u32 = 80;

/// A process asks for at least one 16th of the limit before it knows its demand.
const FIRST_SHARE: u64 = 16;

/// The local ledger of one key's lease: the tokens that the process holds, and its spends with their times.
///
/// Callers take tokens from a credit outside of the ledger, in one atomic step. The ledger reads the credit from time
/// to time and logs the difference as spent just now. The callers took these tokens earlier. The tokens therefore count
/// a little longer than a window, which errs on the safe side.
///
/// The states of the lease:
///
/// | state | event | next state |
/// |---|---|---|
/// | `Unheard` | the store answers | `Connected` |
/// | `Unheard`, `Connected`, `Reporting` | the store does not answer, is not asked because it is down, or had no flusher to ask it | `CutOff` |
/// | `CutOff` | the store answers | `Reporting` |
/// | `Unheard`, `Connected`, `Reporting` | the store answers that it has lost its data | `Reporting` |
/// | `Reporting` | the store answers, and the time for reports is over | `Connected` |
#[derive(Debug)]
pub(crate) struct LeaseLedger {
    /// Spends within this time are one entry of the log, at the time of the last one. That is later than most of them
    /// were, which errs on the safe side.
    grain: Duration,
    /// The credit at the last update of the ledger.
    credit: Tokens,
    /// The spends of the last window, the oldest first, each at the time when it was noticed.
    log: VecDeque<Spend>,
    /// All tokens that were ever spent.
    spent: Tokens,
    /// The tokens that were spent since the store last answered.
    spent_since: Tokens,
    /// The sequence of the last demand. Zero until the store is asked.
    sequence: u64,
    /// The highest number that the store has answered for the tokens spent by all processes, since it last lost data.
    total: Tokens,
    /// When the store last answered. `None` if it never has.
    answered_at: Option<Instant>,
    state: LeaseState,
}

/// An entry of the log: tokens that the ledger noticed as spent at about one time.
#[derive(Clone, Copy, Debug)]
struct Spend {
    /// When the first token of this entry was noticed.
    first: Instant,
    /// When its last token was noticed.
    at: Instant,
    /// All tokens of this entry.
    tokens: Tokens,
    /// The part that was taken from the credit. If the process is cut off when the entry is a window old, this part
    /// returns to the credit.
    of_credit: Tokens,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LeaseState {
    /// The store has neither answered nor failed.
    Unheard,
    /// The store answered the last demand.
    Connected,
    /// The store did not answer the last demand, or was not asked, because it is down or no flusher ran. One window
    /// after tokens were spent, they return to the process that spent them. So the process continues with the tokens
    /// that it held and had spent when it was cut off. While no process reaches the store, no other process has these
    /// tokens.
    CutOff,
    /// The store answers again, or has lost its data. The process takes nothing from it until all other processes had
    /// time to report what they spent.
    Reporting { until: Instant },
}

/// The limit of a key, and the process that leases from it.
#[derive(Clone, Debug)]
pub(crate) struct LeaseTerms {
    /// The name of the key in the store.
    pub(crate) key: Arc<[u8]>,
    pub(crate) limit: Tokens,
    pub(crate) window: Duration,
    /// The client number of the ledger: see [`Demand::client`].
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

    /// Logs the tokens that are missing from the credit as spent, and drops spends older than a window. If the process
    /// is cut off, returns the tokens that the dropped spends had taken from the credit, else zero. The caller adds the
    /// returned tokens to the credit.
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

    /// Notes tokens that were spent without taking them from the credit.
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

    /// Returns the tokens that were spent since the store last answered.
    pub(crate) fn unflushed(&self) -> Tokens {
        self.spent_since
    }

    /// Returns the tokens that the process holds and is not likely to need before the next demand. `refused` is the
    /// number of tokens that callers were refused since the last demand. The caller takes the excess from the credit
    /// before it makes the demand.
    pub(crate) fn excess(&self, refused: Tokens, limit: Tokens) -> Tokens {
        self.credit.saturating_sub(self.target(refused, limit))
    }

    /// Returns the tokens that are likely to be spent before the next demand: a quarter more than callers asked for
    /// since the last one. Before the store has first answered or failed, it is at least a 16th of the limit, which
    /// leaves something for others.
    fn target(&self, refused: Tokens, limit: Tokens) -> Tokens {
        let demand = self.spent_since.saturating_add(refused);
        let least = if self.was_settled() { Tokens::ZERO } else { Tokens(limit.0.div_ceil(FIRST_SHARE)) };
        demand.saturating_add(Tokens(demand.0.div_ceil(4))).max(least).min(limit)
    }

    /// Notes that `tokens` were taken from the credit to return them to the store.
    pub(crate) fn returned(&mut self, tokens: Tokens) {
        self.credit = self.credit.saturating_sub(tokens);
    }

    /// Returns the demand to send now.
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

    /// Returns the total that the store must know. It is zero after two windows without an answer, since the store may
    /// then have forgotten the key.
    fn known_total(&self, window: Duration, now: Instant) -> Tokens {
        let is_recent = |at| now.saturating_duration_since(at) < window.saturating_mul(2);
        if self.answered_at.is_some_and(is_recent) { self.total } else { Tokens::ZERO }
    }

    /// Takes the answer of the store. Returns the tokens to add to the credit: the granted ones, or zero if the process
    /// was cut off.
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
            // The store continues from this total, so the next loss shows as a total below this one.
            self.total = Tokens(settled.total);
        }
        if was_cut_off {
            return Tokens::ZERO;
        }
        self.credit = self.credit.saturating_add(granted);
        granted
    }

    /// Returns whether the store was ever asked.
    pub(crate) fn was_asked(&self) -> bool {
        self.sequence > 0
    }

    /// Returns whether the store has ever answered, or failed to answer.
    pub(crate) fn was_settled(&self) -> bool {
        self.state != LeaseState::Unheard
    }

    /// Notes that the store has not answered, and that the process takes `tokens` without it.
    pub(crate) fn cut_off(&mut self, tokens: Tokens) {
        self.credit = self.credit.saturating_add(tokens);
        // (Unheard | Connected | CutOff | Reporting) => CutOff
        self.state = LeaseState::CutOff;
    }

    pub(crate) fn is_cut_off(&self) -> bool {
        self.state == LeaseState::CutOff
    }

    /// Returns whether the ledger can be forgotten.
    pub(crate) fn is_idle(&self) -> bool {
        self.log.is_empty() && self.credit == Tokens::ZERO && self.spent_since == Tokens::ZERO
    }
}
