use crate::{
    clock,
    error::{ConfigError, check_duration},
};
use std::{fmt, time::Duration};

/// Who of those who wait is next, and who has waited too long.
///
/// Whatever the discipline, nobody waits for longer than the queue's [`max_wait`](super::QueueBuilder::max_wait), nor
/// until the deadline of the call: such a call is refused at the latest when its turn comes, and does not run.
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
    Fifo,
    Lifo,
    Adaptive {
        #[cfg_attr(feature = "serde", serde(with = "crate::durations::adaptive_target"))]
        target: Duration,
        #[cfg_attr(feature = "serde", serde(with = "crate::durations::adaptive_interval"))]
        interval: Duration,
    },
}

/// Much less is no share.
const LEAST_SHARE: f64 = 1e-6;

impl Default for Discipline {
    /// By deadline, and half of it.
    fn default() -> Self {
        Self::by_deadline(0.5)
    }
}

impl Discipline {
    /// First in, first out; refuses what has waited for a share of the time that it had until its deadline
    /// when it came. The default, with half.
    ///
    /// Who waited longer would be served so late that the answer comes, more often than not, after its caller has gone;
    /// and by refusing some the others are served in time. The share has to leave enough for the work itself. A call
    /// without a deadline waits for as long as the queue allows.
    ///
    /// The share must be from a millionth to one.
    pub const fn by_deadline(share: f64) -> Self {
        Self(Kind::Deadline { share })
    }

    /// First in, first out.
    pub const fn fifo() -> Self {
        Self(Kind::Fifo)
    }

    /// Last in, first out: under overload the newest are served at once, and the oldest not at all.
    pub const fn lifo() -> Self {
        Self(Kind::Lifo)
    }

    /// First in, first out while the queue empties regularly, and with patience: a call may wait for the interval. If
    /// the queue has not been empty for that long, the newest come first, those that come may wait for the target only,
    /// and those that are there and have waited for longer are refused at their turn.
    ///
    /// For requests without deadlines. This is the adaptive LIFO with the controlled delay of B. Maurer, "Fail at
    /// Scale", ACM Queue 13(8), 2015; by default with its constants, 5 and 100 milliseconds, which are said to do for
    /// services of all kinds. What a service does on average in the target has to be more than one call.
    pub const fn adaptive() -> Self {
        Self::adaptive_with(Duration::from_millis(5), Duration::from_millis(100))
    }

    /// The same with another target and interval. The target must be longer than zero and shorter than the interval.
    pub const fn adaptive_with(target: Duration, interval: Duration) -> Self {
        Self(Kind::Adaptive { target, interval })
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        match self.0 {
            Kind::Fifo | Kind::Lifo => Ok(()),
            Kind::Deadline { share } if (LEAST_SHARE..=1.0).contains(&share) => Ok(()),
            Kind::Deadline { share } => {
                Err(ConfigError::new("load_level.by_deadline", share, "must be from a millionth to one"))
            }
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

    /// The same in integers.
    pub(super) fn rule(&self) -> Rule {
        match self.0 {
            // From a millionth to one.
            Kind::Deadline { share } => Rule::Deadline { share: (share * (1_u64 << 32) as f64) as u64 },
            Kind::Fifo => Rule::Fifo,
            Kind::Lifo => Rule::Lifo,
            Kind::Adaptive { target, interval } => {
                Rule::Adaptive { target: clock::nanos(target), interval: clock::nanos(interval) }
            }
        }
    }
}

impl fmt::Display for Discipline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Kind::Deadline { share } => write!(f, "oldest first, for up to {share} of their deadline"),
            Kind::Fifo => f.write_str("oldest first"),
            Kind::Lifo => f.write_str("newest first"),
            Kind::Adaptive { target, interval } => {
                write!(f, "oldest first, or newest first and for {target:?} if not empty within {interval:?}")
            }
        }
    }
}

/// A discipline as it is decided by: in nanoseconds, and a share in parts of 2^32.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rule {
    Deadline { share: u64 },
    Fifo,
    Lifo,
    Adaptive { target: u64, interval: u64 },
}

impl Rule {
    /// How long a call may wait that comes when so much is left until its deadline, in nanoseconds. `is_standing`: the
    /// queue has not been empty for the interval of an adaptive rule.
    pub(super) fn patience(self, left: u64, is_standing: bool) -> u64 {
        match self {
            Self::Deadline { share } if left < u64::MAX => ((u128::from(left) * u128::from(share)) >> 32) as u64,
            Self::Adaptive { target, .. } if is_standing => left.min(target),
            Self::Adaptive { interval, .. } => left.min(interval),
            Self::Deadline { .. } | Self::Fifo | Self::Lifo => left,
        }
    }
}
