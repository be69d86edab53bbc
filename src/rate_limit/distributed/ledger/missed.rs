use crate::rate_limit::tokens::Tokens;
use std::mem;

/// Tokens that this process admitted because an answer did not come in time, and that it has not reported to the store.
///
/// An answer that is late for its caller may still grant the tokens, and then the store has counted them. Spends are
/// therefore held back while an answer is awaited: a late grant [pays](Self::pay) for them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Missed {
    /// The tokens to report with the next charge.
    ripe: Tokens,
    /// Held back until `answered` reaches `held_until`.
    held: Tokens,
    /// The value of `asked` when the last tokens were added to `held`.
    held_until: u64,
    /// Spent after the number of requests had risen above `held_until`. These tokens become `held` when `held` becomes
    /// ripe.
    next: Tokens,
    /// The number of requests for tokens.
    asked: u64,
    /// The number of these requests that were answered or given up.
    answered: u64,
}

impl Missed {
    /// Adds tokens that this process admitted without an answer.
    pub(crate) fn spend(&mut self, tokens: Tokens) {
        let part = if self.answered == self.asked {
            &mut self.ripe
        } else if self.held == Tokens::ZERO || self.held_until == self.asked {
            self.held_until = self.asked;
            &mut self.held
        } else {
            &mut self.next
        };
        *part = part.saturating_add(tokens);
    }

    /// Pays for spends with tokens that the store has counted. Returns how many of these tokens paid for a spend.
    pub(crate) fn pay(&mut self, tokens: Tokens) -> Tokens {
        let mut left = tokens;
        for part in [&mut self.held, &mut self.next, &mut self.ripe] {
            let paid = left.min(*part);
            *part = part.saturating_sub(paid);
            left = left.saturating_sub(paid);
        }
        tokens.saturating_sub(left)
    }

    /// Takes the spends to report now.
    pub(crate) fn take_ripe(&mut self) -> Tokens {
        mem::take(&mut self.ripe)
    }

    /// Takes all spends.
    pub(crate) fn take_all(&mut self) -> Tokens {
        let sum = self.sum();
        (self.ripe, self.held, self.next) = Default::default();
        sum
    }

    /// Notes that the store is asked for tokens.
    pub(crate) fn ask(&mut self) {
        self.asked += 1;
    }

    /// Notes that the store has answered a request for tokens, or that the process has given the request up.
    pub(crate) fn answer(&mut self) {
        self.answered = self.asked.min(self.answered + 1);
        if self.answered >= self.held_until {
            self.ripe = self.ripe.saturating_add(self.held);
            self.held = mem::take(&mut self.next);
            self.held_until = self.asked;
        }
        if self.answered == self.asked {
            self.ripe = self.ripe.saturating_add(mem::take(&mut self.held));
        }
    }

    /// Returns whether there is something to report now.
    pub(crate) fn is_ripe(&self) -> bool {
        self.ripe > Tokens::ZERO
    }

    pub(crate) fn sum(&self) -> Tokens {
        self.ripe.saturating_add(self.held).saturating_add(self.next)
    }
}
