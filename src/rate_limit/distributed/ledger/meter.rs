use super::share::ProcessShare;
use crate::{
    clock::Nanos,
    rate_limit::{Quota, tokens::Tokens},
};
use std::time::Duration;

/// This process's part of all tokens admitted in the last four whole seconds by the store's clock.
///
/// All processes look at the same four seconds. So each token is in the share of exactly one process, and the shares
/// add up to one.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// All tokens of the key that the store ever counted for this process.
    own: Tokens,
    latest: Mark,
    /// The time of the latest mark, by the clock of this process.
    noted_at: Nanos,
    /// For the present second and each of the four before it: the last mark that was noted before that second. The
    /// present second is first.
    seconds: [Mark; SECONDS + 1],
}

/// The counts at one answer of the store: the second of its clock, the tokens of this process, and those of all.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    second: u64,
    own: Tokens,
    total: Tokens,
}

/// The seconds over which a share is measured. They are few, so that the share soon follows the demand. They are enough
/// for an average over many calls: 400 calls at 100 per second.
const SECONDS: usize = 4;

/// An answer of this age counts no longer. The share then is one divided by the number of processes.
const FRESH: Nanos = Nanos::of(Duration::from_secs(SECONDS as u64));

impl Meter {
    /// Adds tokens of this process that the store has counted.
    pub(crate) fn count(&mut self, tokens: Tokens) {
        self.own = self.own.saturating_add(tokens);
    }

    /// Notes the store's total at `at` by its clock and at `now` by the clock of this process.
    pub(crate) fn note(&mut self, total: Tokens, at: Duration, now: Nanos) {
        let mark = Mark { second: at.as_secs(), own: self.own, total };
        // Counting restarts with the first answer, and after a clock went back or data were lost.
        let begins = self.noted_at == Nanos::ZERO || mark.second < self.latest.second || total < self.latest.total;
        if begins {
            self.seconds = [mark; SECONDS + 1];
        } else {
            for _ in self.latest.second..mark.second.min(self.latest.second.saturating_add(SECONDS as u64 + 1)) {
                self.seconds.rotate_right(1);
                self.seconds[0] = self.latest;
            }
        }
        (self.latest, self.noted_at) = (mark, now.max(Nanos(1)));
    }

    /// Returns the share of this process. It includes some extra tokens that count as admitted by all processes in
    /// equal parts. They keep a process with few calls from taking the whole limit.
    pub(crate) fn share(&self, quota: &Quota, processes: u64, now: Nanos) -> ProcessShare {
        let [last, .., first] = self.seconds;
        // If no token was admitted in the four seconds, as in the first second of a process, the present second counts,
        // too.
        let last = if last.total == first.total { self.latest } else { last };
        let is_fresh = now.saturating_sub(self.noted_at) < FRESH;
        let since = |last: Tokens, first: Tokens| if is_fresh { last.saturating_sub(first) } else { Tokens::ZERO };
        let own = since(last.own, first.own);
        let all = since(last.total, first.total).max(own);
        let parts = u128::from(processes.max(1));
        let extra_tokens = u128::from(extra_tokens(quota).0);
        // Scaled by the number of processes, so that nothing is rounded away.
        let own = (u128::from(own.0) * parts).saturating_add(extra_tokens);
        let all = (u128::from(all.0) + extra_tokens).saturating_mul(parts);
        let shrink = (all / u128::from(u64::MAX)) + 1;
        ProcessShare::of((own / shrink) as u64, (all / shrink) as u64)
    }
}

/// Returns the extra tokens: what the rate gives in a tenth of a second, or 8 if that is more. They are at most a
/// quarter of a burst, but at least 1.
fn extra_tokens(quota: &Quota) -> Tokens {
    const TENTH: u128 = 100_000_000;
    let in_a_tenth = u128::from(quota.count()) * TENTH / u128::from(Nanos::of(quota.period()).0.max(1));
    Tokens(u64::try_from(in_a_tenth).unwrap_or(u64::MAX).max(8).min(quota.burst() / 4).max(1))
}
