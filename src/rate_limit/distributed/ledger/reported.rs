use crate::rate_limit::tokens::Tokens;
use std::mem;

/// The spends of the last charge that reported any, until the store answers it.
///
/// | state | event | next state |
/// |---|---|---|
/// | `Nothing` | a charge leaves with new spends | `UnderWay` |
/// | `UnderWay` | the store answers the charge | `Nothing` |
/// | `UnderWay` | the store does not answer it | `Unanswered` |
/// | `Unanswered` | the next charge leaves with the same spends, less those that have drained, and no new ones | `UnderWay` |
/// | `Unanswered` | the next charge leaves, and all unanswered spends have drained | `Nothing`, or `UnderWay` with new ones |
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Reported {
    #[default]
    Nothing,
    UnderWay(Spends),
    /// The store may have counted them. They are sent again with the same sequence, so that the store counts them once.
    Unanswered(Spends),
}

/// The spends that a charge reports.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spends {
    /// Spent while the store decided.
    pub(crate) unreported: Tokens,
    /// Spent in an outage, or unconfirmed when the outage began. Not drained since.
    pub(crate) late: Tokens,
    /// The sequence of the charge, by which the store recognizes a repetition.
    pub(crate) sequence: u64,
}

impl Spends {
    pub(crate) fn sum(&self) -> Tokens {
        self.unreported.saturating_add(self.late)
    }
}

impl Reported {
    /// Returns the tokens that the store has not confirmed.
    pub(crate) fn sum(&self) -> Tokens {
        match self {
            Self::Nothing => Tokens::ZERO,
            Self::UnderWay(spends) | Self::Unanswered(spends) => spends.sum(),
        }
    }

    /// Notes that a charge leaves. Returns the spends that it reports: none while others are under way, else those
    /// without an answer, or else the `new` ones.
    pub(crate) fn leave(&mut self, new: impl FnOnce() -> Spends) -> Spends {
        let spends = match self {
            // UnderWay => UnderWay
            Self::UnderWay(Spends { sequence, .. }) => return Spends { sequence: *sequence, ..Spends::default() },
            // Unanswered => UnderWay
            Self::Unanswered(spends) if spends.sum() > Tokens::ZERO => *spends,
            // (Nothing | Unanswered) => (UnderWay | Nothing)
            Self::Unanswered(_) | Self::Nothing => new(),
        };
        *self = if spends.sum() > Tokens::ZERO { Self::UnderWay(spends) } else { Self::Nothing };
        spends
    }

    /// Notes that the store has answered the charge. Returns what it has counted.
    pub(crate) fn answered(&mut self) -> Spends {
        match mem::take(self) {
            Self::Nothing => Spends::default(),
            // (UnderWay | Unanswered) => Nothing
            Self::UnderWay(spends) | Self::Unanswered(spends) => spends,
        }
    }

    /// Notes that the store has not answered the charge.
    pub(crate) fn failed(&mut self) {
        if let Self::UnderWay(spends) = *self {
            // UnderWay => Unanswered
            *self = Self::Unanswered(spends);
        }
    }

    /// Begins an outage: all spends become late, and drain in the backlog.
    pub(crate) fn become_late(&mut self) {
        if let Self::UnderWay(spends) | Self::Unanswered(spends) = self {
            (spends.unreported, spends.late) = (Tokens::ZERO, spends.sum());
        }
    }

    /// Drops late spends beyond `most` tokens.
    pub(crate) fn keep_late(&mut self, most: Tokens) {
        if let Self::UnderWay(spends) | Self::Unanswered(spends) = self {
            spends.late = spends.late.min(most);
        }
    }
}
