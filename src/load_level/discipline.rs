use crate::{
    clock::Nanos,
    error::{ConfigError, check_duration},
};
use std::{fmt, time::Duration};

/// The order of the waiters, and the time for which each may wait.
///
/// No call waits longer than the queue's [`max_wait`](super::QueueBuilder::max_wait), or past its deadline. A call
/// whose time has ended is refused at its turn at the latest, and does not run.
#[doc(alias = "CoDel")]
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct Discipline(pub(crate) Kind);

/// The kinds of a [`Discipline`], as its constructors document them.
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

/// The smallest share of a deadline: a millionth.
const LEAST_SHARE: f64 = 1e-6;

impl Default for Discipline {
    /// [By deadline](Discipline::by_deadline), with a share of one half.
    fn default() -> Self {
        Self::by_deadline(0.5)
    }
}

impl Discipline {
    /// First in, first out. Refuses a call that has waited for a share of the time from its arrival to its deadline.
    /// The default is this discipline, with a share of one half.
    ///
    /// A call that waits longer would often be answered after its caller has gone. Refusing it lets the service serve
    /// the others in time. Choose a share that leaves enough time for the work itself. A call without a deadline waits
    /// for up to `max_wait`.
    ///
    /// The share must be from a millionth to one.
    pub const fn by_deadline(share: f64) -> Self {
        Self(Kind::Deadline { share })
    }

    /// Earliest deadline first: serves the call whose time to wait ends first. If the times of two calls end at the
    /// same instant, it serves the older call. Each call waits for up to half of the time from its arrival to its
    /// deadline, as with [`by_deadline`](Self::by_deadline) and a share of one half.
    ///
    /// Use it if calls have different deadlines. First in, first out serves a patient call before an urgent one, which
    /// is then refused. If all calls have the same time until their deadline, both orders are equal, and
    /// [`by_deadline`](Self::by_deadline) costs less.
    ///
    /// It orders by the instant until which a call may wait, not by the deadline itself. A call without a deadline
    /// waits for up to `max_wait`. In an order by the deadline itself, such a call would always be the last. It would
    /// reach `max_wait` and be refused, while calls that came later and had time left were served. A full queue
    /// refuses the call whose time ends last, which may be the newcomer.
    ///
    /// # Cost
    ///
    /// The queue keeps the waiters in a balanced tree. It searches the tree under the lock when a call comes to wait,
    /// when a waiter leaves, and to find the next waiter. A search takes O(log n) steps for n waiters, at most 2.5
    /// log2(n) + 1. A place in the queue has 80 bytes more. A change to this discipline sorts all waiters under the
    /// lock, in O(n log n) steps.
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

    /// Last in, first out. Under overload it serves the newest calls at once, and does not serve the oldest.
    pub const fn lifo() -> Self {
        Self(Kind::Lifo)
    }

    /// Adaptive LIFO with CoDel's target and interval: first in, first out while the queue empties regularly, and last
    /// in, first out while it does not.
    ///
    /// A call may wait for the interval. Once calls have been waiting without a break for longer than the interval, the
    /// queue serves the newest call first. Newcomers then may wait only for the target, and a waiter that has waited
    /// longer than the target is refused when its turn comes.
    ///
    /// Use it for requests without deadlines. It is the adaptive LIFO with the controlled delay (CoDel) of B. Maurer,
    /// "Fail at Scale", ACM Queue 13(8), 2015. The defaults are those of the article: a target of 5 ms and an interval
    /// of 100 ms. The article recommends them for all kinds of services. The service must complete more than one call
    /// per target, on average. A slower service serves few calls once the newest is first, since most waiters reach the
    /// target before the service takes another call.
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
            // `check` has accepted the share, which is from a millionth to one.
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

    /// Returns whether the waiters of a class are served in the order in which their time to wait ends.
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
            Kind::Deadline { share } => write!(f, "oldest first, for up to {share} of the time until their deadline"),
            Kind::EarliestDeadline { share } => {
                write!(f, "most urgent first, for up to {share} of the time until their deadline")
            }
            Kind::Fifo => f.write_str("oldest first"),
            Kind::Lifo => f.write_str("newest first"),
            Kind::Adaptive { target, interval } => {
                write!(
                    f,
                    "oldest first; once calls have waited for {interval:?} without a break, newest first, each for up to {target:?}"
                )
            }
        }
    }
}

/// A [`Discipline`] in integers. There is a *standing queue* once calls have been waiting without a break for longer
/// than the interval. In each row a wait also ends at the call's deadline and after `max_wait`.
///
/// | rule | next | a newcomer may wait for | a waiter is also refused at its turn after |
/// |---|---|---|---|
/// | deadline | the oldest | a share of the time until its deadline | |
/// | deadline, with [`Deadlines`](super::deadlines::Deadlines) | the most urgent | the same share | |
/// | FIFO | the oldest | the time until its deadline | |
/// | LIFO | the newest | the time until its deadline | |
/// | adaptive | the oldest | the interval | |
/// | adaptive, with a standing queue | the newest | the target | the target |
#[derive(Clone, Copy, Debug)]
pub(super) enum Rule {
    /// The share, times 2^32.
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
    /// Returns how long a newcomer may wait by this rule, if `left` remains until its deadline. `left` is
    /// [`Nanos::MAX`] without a deadline.
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
