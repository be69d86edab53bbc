use crate::{
    clock::Nanos,
    error::{ConfigError, check_duration},
};
use std::{fmt, time::Duration};

/// Which waiter is next, and which has waited too long.
///
/// No call waits longer than the queue's [`max_wait`](super::QueueBuilder::max_wait), or past its deadline. Such a call
/// is refused when its turn comes, if not before, and does not run.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct Discipline(pub(crate) Kind);

#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case", deny_unknown_fields)
)]
pub(crate) enum Kind {
    #[cfg_attr(feature = "serde", serde(rename = "by_deadline"))]
    Deadline {
        share: f64,
    },
    EarliestDeadline {
        share: f64,
    },
    Fifo,
    Lifo,
    Adaptive {
        #[cfg_attr(feature = "serde", serde(with = "crate::durations::adaptive_target"))]
        target: Duration,
        #[cfg_attr(feature = "serde", serde(with = "crate::durations::adaptive_interval"))]
        interval: Duration,
    },
}

/// A millionth.
const LEAST_SHARE: f64 = 1e-6;

impl Default for Discipline {
    /// [By deadline](Discipline::by_deadline), with a share of one half.
    fn default() -> Self {
        Self::by_deadline(0.5)
    }
}

impl Discipline {
    /// First in, first out. Refuses a call that has waited for a share of the time until its deadline. The time counts
    /// from its arrival. The default, with one half.
    ///
    /// The answer to a call that waits longer would often come after its caller has gone. Its refusal lets the others
    /// be served in time. The share has to leave enough time for the work itself. A call without a deadline waits for
    /// up to `max_wait`.
    ///
    /// The share must be from a millionth to one.
    pub const fn by_deadline(share: f64) -> Self {
        Self(Kind::Deadline { share })
    }

    /// The call whose time is up first is served first, and of two such the older one. Each call waits for up to half of
    /// the time until its deadline, as [by deadline](Self::by_deadline).
    ///
    /// For calls of different deadlines. First in, first out serves a patient call before one that is in a hurry, which
    /// is then refused. For calls of one deadline both orders are the same, and that by deadline costs less.
    ///
    /// It orders by the instant until which a call may wait, not by the deadline itself. A call without a deadline
    /// waits for up to `max_wait`. By the deadline itself, a call that may wait for long would be refused while calls
    /// in a hurry are served that came later and could still wait. A full queue refuses the call whose time is up
    /// last, which may be the newcomer.
    ///
    /// # Cost
    ///
    /// A call that waits searches a balanced tree under the lock when it comes and when it leaves: O(log n) steps for n
    /// waiters, at most 2.5 log2(n) + 1. A place in the queue has 80 bytes more. A change to this discipline puts all
    /// waiters in order, in O(n log n) steps under the lock.
    pub const fn earliest_deadline() -> Self {
        Self::earliest_deadline_with(0.5)
    }

    /// [`earliest_deadline`](Self::earliest_deadline) with another share of the time until the deadline, from a
    /// millionth to one.
    pub const fn earliest_deadline_with(share: f64) -> Self {
        Self(Kind::EarliestDeadline { share })
    }

    /// First in, first out.
    pub const fn fifo() -> Self {
        Self(Kind::Fifo)
    }

    /// Last in, first out: under overload the newest calls are served at once, and the oldest are not served.
    pub const fn lifo() -> Self {
        Self(Kind::Lifo)
    }

    /// First in, first out while the queue empties regularly: a call may wait for the interval. If the queue has not
    /// been empty for the interval, the newest call comes first. Newcomers then wait for the target only. Waiters that
    /// have waited longer than the target are refused at their turn.
    ///
    /// For requests without deadlines. This is the adaptive LIFO with the controlled delay of B. Maurer, "Fail at
    /// Scale", ACM Queue 13(8), 2015. The default constants are those of the article, 5 and 100 milliseconds, which it
    /// recommends for all kinds of services. A service must do more than one call in the target, on average.
    pub const fn adaptive() -> Self {
        Self::adaptive_with(Duration::from_millis(5), Duration::from_millis(100))
    }

    /// [`adaptive`](Self::adaptive) with another target and interval. The target must be longer than zero and shorter
    /// than the interval.
    pub const fn adaptive_with(target: Duration, interval: Duration) -> Self {
        Self(Kind::Adaptive { target, interval })
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        match self.0 {
            Kind::Fifo | Kind::Lifo => Ok(()),
            Kind::Deadline { share } => check_share("load_level.by_deadline", share),
            Kind::EarliestDeadline { share } => check_share("load_level.earliest_deadline_with", share),
            Kind::Adaptive { target, interval } => {
                check_duration("load_level.adaptive_with.target", target)?;
                check_duration("load_level.adaptive_with.interval", interval)?;
                if target >= interval {
                    let value = format_args!("{target:?}, with an interval of {interval:?}");
                    let rule = "must be shorter than the interval";
                    return Err(ConfigError::new("load_level.adaptive_with.target", value, rule));
                }
                Ok(())
            }
        }
    }

    pub(super) fn rule(&self) -> Rule {
        match self.0 {
            // From a millionth to one.
            Kind::Deadline { share } | Kind::EarliestDeadline { share } => {
                Rule::Deadline { share: (share * (1_u64 << 32) as f64) as u64 }
            }
            Kind::Fifo => Rule::Fifo,
            Kind::Lifo => Rule::Lifo,
            Kind::Adaptive { target, interval } => {
                Rule::Adaptive { target: Nanos::of(target), interval: Nanos::of(interval) }
            }
        }
    }

    /// Whether the waiters of a class are served in the order in which their time is up.
    pub(super) fn is_by_urgency(&self) -> bool {
        matches!(self.0, Kind::EarliestDeadline { .. })
    }
}

fn check_share(field: &'static str, share: f64) -> Result<(), ConfigError> {
    if (LEAST_SHARE..=1.0).contains(&share) {
        return Ok(());
    }
    Err(ConfigError::new(field, share, "must be from a millionth to one"))
}

impl fmt::Display for Discipline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Kind::Deadline { share } => write!(f, "oldest first, for up to {share} of their deadline"),
            Kind::EarliestDeadline { share } => {
                write!(f, "most urgent first, for up to {share} of their deadline")
            }
            Kind::Fifo => f.write_str("oldest first"),
            Kind::Lifo => f.write_str("newest first"),
            Kind::Adaptive { target, interval } => {
                write!(f, "oldest first, or newest first and for {target:?} if not empty within {interval:?}")
            }
        }
    }
}

/// A [`Discipline`] in integers. A queue "stands" while it has not been empty for the interval.
///
/// | rule | next | a newcomer may wait for | a waiter is refused at its turn, too, after |
/// |---|---|---|---|
/// | deadline | the oldest | a share of the time until its deadline | |
/// | deadline, and the queue has [`Deadlines`](super::deadlines::Deadlines) | the most urgent | such a share | |
/// | FIFO | the oldest | the time until its deadline | |
/// | LIFO | the newest | the time until its deadline | |
/// | adaptive | the oldest | the interval | |
/// | adaptive, and the queue stands | the newest | the target | the target |
#[derive(Clone, Copy, Debug)]
pub(super) enum Rule {
    /// In parts of 2^32.
    Deadline {
        share: u64,
    },
    Fifo,
    Lifo,
    Adaptive {
        target: Nanos,
        interval: Nanos,
    },
}

impl Rule {
    /// How long a newcomer may wait that has `left` until its deadline.
    pub(super) fn patience(self, left: Nanos, has_standing_queue: bool) -> Nanos {
        match self {
            Self::Deadline { share } if left < Nanos::MAX => {
                Nanos(((u128::from(left.0) * u128::from(share)) >> 32) as u64)
            }
            Self::Adaptive { target, .. } if has_standing_queue => left.min(target),
            Self::Adaptive { interval, .. } => left.min(interval),
            Self::Deadline { .. } | Self::Fifo | Self::Lifo => left,
        }
    }
}
