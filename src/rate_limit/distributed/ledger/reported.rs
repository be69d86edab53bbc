use crate::rate_limit::tokens::Tokens;
use std::mem;

/// The spends of the last charge with news, until the store answers it.
///
/// | state | when | next state |
/// |---|---|---|
/// | `Nothing` | a charge leaves with new spends | `UnderWay` |
/// | `UnderWay` | the store answers the charge | `Nothing` |
/// | `UnderWay` | the store does not answer it | `Unanswered` |
/// | `Unanswered` | the next charge leaves, with these spends and nothing new | `UnderWay` |
/// | `Unanswered` | the next charge leaves, and all of them have drained | `Nothing`, or `UnderWay` with new ones |
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Reported {
    #[default]
    Nothing,
    UnderWay(Spends),
    /// The store may have counted them. They are sent again under their sequence, so that it counts them once.
    Unanswered(Spends),
}

/// Spends as a charge tells them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spends {
    /// Spent while the store decided.
    pub(crate) unreported: Tokens,
    /// Spent in an outage and not drained since.
    pub(crate) late: Tokens,
    pub(crate) sequence: u64,
}

impl Spends {
    pub(crate) fn sum(&self) -> Tokens {
        self.unreported.saturating_add(self.late)
    }
}

impl Reported {
    /// The tokens that the store has not confirmed.
    pub(crate) fn sum(&self) -> Tokens {
        match self {
            Self::Nothing => Tokens::ZERO,
            Self::UnderWay(spends) | Self::Unanswered(spends) => spends.sum(),
        }
    }

    /// A charge leaves. Returns what it tells: spends without an answer, or else the `new` ones.
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

    /// The store has answered the charge. Returns what it has counted.
    pub(crate) fn answered(&mut self) -> Spends {
        match mem::take(self) {
            Self::Nothing => Spends::default(),
            // UnderWay => Nothing
            Self::UnderWay(spends) | Self::Unanswered(spends) => spends,
        }
    }

    /// The store has not answered the charge.
    pub(crate) fn failed(&mut self) {
        if let Self::UnderWay(spends) = *self {
            // UnderWay => Unanswered
            *self = Self::Unanswered(spends);
        }
    }

    /// An outage begins: from here on all of it drains here.
    pub(crate) fn become_late(&mut self) {
        if let Self::UnderWay(spends) | Self::Unanswered(spends) = self {
            (spends.unreported, spends.late) = (Tokens::ZERO, spends.sum());
        }
    }

    /// Forgets late spends, except for `most` tokens.
    pub(crate) fn keep_late(&mut self, most: Tokens) {
        if let Self::UnderWay(spends) | Self::Unanswered(spends) = self {
            spends.late = spends.late.min(most);
        }
    }
}
