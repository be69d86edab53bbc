use crate::{
    classify::Outcome,
    error::Rejection,
    shell::{End, Ending},
};

/// The outcome of a call or an attempt, in one word. The first row that applies decides:
///
/// | ending | word |
/// |---|---|
/// | any, with a timeout rejection | `timed_out` |
/// | any, with another rejection | `rejected` |
/// | `Answered` | the outcome of the classifier |
/// | `TimedOut`, `CutShort` | `timed_out` |
/// | `Refused` | `rejected` |
/// | `Cancelled` | `cancelled` |
/// | `Panicked` | `panicked` |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallOutcome {
    Success,
    Failure,
    Overloaded,
    Unprocessed,
    Permanent,
    Ignored,
    Rejected,
    TimedOut,
    Cancelled,
    Panicked,
}

impl CallOutcome {
    #[allow(dead_code, reason = "metrics keep a histogram for each")]
    pub(crate) const ALL: [Self; 10] = [
        Self::Success,
        Self::Failure,
        Self::Overloaded,
        Self::Unprocessed,
        Self::Permanent,
        Self::Ignored,
        Self::Rejected,
        Self::TimedOut,
        Self::Cancelled,
        Self::Panicked,
    ];

    pub(crate) fn of(end: &End<'_>) -> Self {
        match end.rejection() {
            Some(Rejection::TimedOut(_)) => Self::TimedOut,
            Some(_) => Self::Rejected,
            None => Self::of_ending(end.ending()),
        }
    }

    fn of_ending(ending: Ending) -> Self {
        match ending {
            Ending::Answered(Outcome::Success) => Self::Success,
            Ending::Answered(Outcome::Failure) => Self::Failure,
            Ending::Answered(Outcome::Overloaded { .. }) => Self::Overloaded,
            Ending::Answered(Outcome::Unprocessed { .. }) => Self::Unprocessed,
            Ending::Answered(Outcome::Permanent) => Self::Permanent,
            Ending::Answered(Outcome::Ignored) => Self::Ignored,
            Ending::TimedOut | Ending::CutShort => Self::TimedOut,
            Ending::Refused { .. } => Self::Rejected,
            Ending::Cancelled { .. } => Self::Cancelled,
            Ending::Panicked => Self::Panicked,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Overloaded => "overloaded",
            Self::Unprocessed => "unprocessed",
            Self::Permanent => "permanent",
            Self::Ignored => "ignored",
            Self::Rejected => "rejected",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
            Self::Panicked => "panicked",
        }
    }

    /// The place in [`ALL`](Self::ALL).
    #[allow(dead_code, reason = "metrics keep a histogram for each")]
    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// Returns OpenTelemetry's `error.type` of a call: the mechanism that rejected it, or else the outcome. `None` for
    /// a call that ended as `success` or `ignored`.
    #[cfg(feature = "tracing")]
    pub(crate) fn error_type(self, rejection: Option<&Rejection>) -> Option<&'static str> {
        match (self, rejection) {
            (Self::Success | Self::Ignored, None) => None,
            (_, Some(rejection)) => Some(rejection.mechanism()),
            (_, None) => Some(self.name()),
        }
    }
}

#[cfg(all(test, not(steadfast_loom)))]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_outcome_has_its_own_place_and_word() {
        let words: HashSet<_> = CallOutcome::ALL.iter().map(|outcome| outcome.name()).collect();
        assert_eq!(words.len(), CallOutcome::ALL.len());
        for (index, outcome) in CallOutcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome.index(), index);
        }
    }

    #[test]
    fn each_ending_has_the_outcome_of_the_table() {
        let hint = None;
        for (ending, word) in [
            (Ending::Answered(Outcome::Success), "success"),
            (Ending::Answered(Outcome::Failure), "failure"),
            (Ending::Answered(Outcome::Overloaded { retry_after: hint }), "overloaded"),
            (Ending::Answered(Outcome::Unprocessed { retry_after: hint }), "unprocessed"),
            (Ending::Answered(Outcome::Permanent), "permanent"),
            (Ending::Answered(Outcome::Ignored), "ignored"),
            (Ending::TimedOut, "timed_out"),
            (Ending::CutShort, "timed_out"),
            (Ending::Refused { retry_after: hint }, "rejected"),
            (Ending::Cancelled { reached_service: true }, "cancelled"),
            (Ending::Cancelled { reached_service: false }, "cancelled"),
            (Ending::Panicked, "panicked"),
        ] {
            assert_eq!(CallOutcome::of_ending(ending).name(), word);
        }
    }
}
