use crate::{
    error::{OverloadedCause, QueueFullCause, Rejection},
    shell::Denied,
};

/// Why a mechanism rejected a call. Each reason belongs to one mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RejectionReason {
    TimeLimit,
    Deadline,
    Open,
    CallsInFlight,
    Class,
    Tenant,
    Signal,
    Rate,
    Never,
    RateClosed,
    Depth,
    NoTimeToWait,
    Weight,
    TooHeavy,
    Displaced,
    OnTheWay,
    WaitedTooLong,
    QueueClosed,
    SwitchedOff,
}

/// The mechanism and the label of each [`RejectionReason`], in the order of its variants.
///
/// | mechanism | reason | when |
/// |---|---|---|
/// | `timeout` | `limit` | the timeout ran out |
/// | `timeout` | `deadline` | the deadline of the caller passed |
/// | `circuit_breaker` | `open` | the circuit is open |
/// | `load_shed` | `limit` | the calls in flight are at the limit |
/// | `load_shed` | `class` | the remaining places are reserved for more critical calls, or guaranteed to other classes |
/// | `load_shed` | `tenant` | the tenant has used its share of the limit |
/// | `load_shed` | `signal` | the calls in flight are at a limit that an overload signal has lowered |
/// | `rate_limit` | `rate` | too few tokens are available |
/// | `rate_limit` | `never` | the call costs too much, or its key is too long |
/// | `rate_limit` | `closed` | the limit is closed |
/// | `load_level` | `depth` | the queue is at its depth limit |
/// | `load_level` | `deadline` | an adaptive queue cannot start the call before the call's maximum waiting time ends |
/// | `load_level` | `weight` | the queue is at its weight limit |
/// | `load_level` | `too_heavy` | the call alone exceeds the weight limit |
/// | `load_level` | `displaced` | the call waited, and a more urgent call took its place |
/// | `load_level` | `on_the_way` | the messages that this process is sending to the durable queue are at their limit, in number or bytes |
/// | `load_level` | `waited_too_long` | the call waited for its maximum waiting time |
/// | `load_level` | `closed` | the queue is closed |
/// | `kill_switch` | `switched_off` | the stack is switched off |
pub(crate) const REASONS: [(&str, &str); 19] = [
    ("timeout", "limit"),
    ("timeout", "deadline"),
    ("circuit_breaker", "open"),
    ("load_shed", "limit"),
    ("load_shed", "class"),
    ("load_shed", "tenant"),
    ("load_shed", "signal"),
    ("rate_limit", "rate"),
    ("rate_limit", "never"),
    ("rate_limit", "closed"),
    ("load_level", "depth"),
    ("load_level", "deadline"),
    ("load_level", "weight"),
    ("load_level", "too_heavy"),
    ("load_level", "displaced"),
    ("load_level", "on_the_way"),
    ("load_level", "waited_too_long"),
    ("load_level", "closed"),
    ("kill_switch", "switched_off"),
];

impl RejectionReason {
    pub(crate) fn of(rejection: &Rejection) -> Self {
        match rejection {
            Rejection::TimedOut(details) if details.limit().is_some() => Self::TimeLimit,
            Rejection::TimedOut(_) => Self::Deadline,
            Rejection::CircuitOpen(_) => Self::Open,
            Rejection::Overloaded(details) => match details.cause() {
                OverloadedCause::Limit => Self::CallsInFlight,
                OverloadedCause::Class => Self::Class,
                OverloadedCause::Tenant => Self::Tenant,
                OverloadedCause::Signal => Self::Signal,
            },
            Rejection::RateLimited(details) if details.is_closed() => Self::RateClosed,
            Rejection::RateLimited(details) if details.retry_after().is_none() => Self::Never,
            Rejection::RateLimited(_) => Self::Rate,
            Rejection::QueueFull(details) => match details.cause() {
                QueueFullCause::Depth => Self::Depth,
                QueueFullCause::Deadline => Self::NoTimeToWait,
                QueueFullCause::Weight => Self::Weight,
                QueueFullCause::TooHeavy => Self::TooHeavy,
                QueueFullCause::Displaced => Self::Displaced,
                QueueFullCause::OnTheWay => Self::OnTheWay,
            },
            Rejection::WaitedTooLong(_) => Self::WaitedTooLong,
            Rejection::Closed(_) if rejection.mechanism() == "rate_limit" => Self::RateClosed,
            Rejection::Closed(_) => Self::QueueClosed,
            Rejection::SwitchedOff(_) => Self::SwitchedOff,
        }
    }

    /// The place in [`REASONS`].
    pub(crate) fn index(self) -> usize {
        self as usize
    }

    #[cfg(feature = "tracing")]
    pub(crate) fn name(self) -> &'static str {
        REASONS[self.index()].1
    }
}

/// The label of each [`Denied`].
pub(crate) const DENIALS: [(Denied, &str); 8] = [
    (Denied::Exhausted, "exhausted"),
    (Denied::Budget, "budget"),
    (Denied::Deadline, "deadline"),
    (Denied::NoHint, "no_hint"),
    (Denied::HintTooLong, "hint_too_long"),
    (Denied::RefusedFurtherIn, "refused_further_in"),
    (Denied::NotRepeatable, "not_repeatable"),
    (Denied::Marked, "marked"),
];

/// The place of a denial in [`DENIALS`].
pub(crate) fn denial_index(denied: Denied) -> usize {
    match denied {
        Denied::Exhausted => 0,
        Denied::Budget => 1,
        Denied::Deadline => 2,
        Denied::NoHint => 3,
        Denied::HintTooLong => 4,
        Denied::RefusedFurtherIn => 5,
        Denied::NotRepeatable => 6,
        Denied::Marked => 7,
    }
}

#[cfg(all(test, not(steadfast_loom)))]
mod tests {
    use super::*;
    use crate::error::{CircuitOpen, Closed, Overloaded, QueueFull, RateLimited, SwitchedOff, TimedOut, WaitedTooLong};
    use std::{collections::HashSet, time::Duration};

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn each_rejection_has_a_reason_of_its_mechanism_and_each_reason_a_rejection() {
        let full = |cause| Rejection::from(QueueFull::new(cause, 1, None));
        let rejections: [(Rejection, &str); 21] = [
            (TimedOut::new(Some(SECOND), true).into(), "limit"),
            (TimedOut::new(None, false).into(), "deadline"),
            (CircuitOpen::new(None).into(), "open"),
            (Overloaded::new(1, None).into(), "limit"),
            (Overloaded::new(1, None).by(OverloadedCause::Class).into(), "class"),
            (Overloaded::new(1, None).by(OverloadedCause::Tenant).into(), "tenant"),
            (Overloaded::new(1, None).by(OverloadedCause::Signal).into(), "signal"),
            (RateLimited::new(Some(SECOND)).into(), "rate"),
            (RateLimited::new(None).into(), "never"),
            (RateLimited::long_key(2, 1).into(), "never"),
            (RateLimited::closed().into(), "closed"),
            (Rejection::RateLimited(RateLimited::closed()), "closed"),
            (full(QueueFullCause::Depth), "depth"),
            (full(QueueFullCause::Deadline), "deadline"),
            (full(QueueFullCause::Weight), "weight"),
            (full(QueueFullCause::TooHeavy), "too_heavy"),
            (full(QueueFullCause::Displaced), "displaced"),
            (full(QueueFullCause::OnTheWay), "on_the_way"),
            (WaitedTooLong::new(SECOND, None).into(), "waited_too_long"),
            (Closed::queue().into(), "closed"),
            (SwitchedOff::new().into(), "switched_off"),
        ];
        let mut seen = HashSet::new();
        for (rejection, name) in rejections {
            let index = RejectionReason::of(&rejection).index();
            assert_eq!(REASONS[index], (rejection.mechanism(), name), "{rejection}");
            seen.insert(index);
        }
        assert_eq!(seen.len(), REASONS.len());
        let mechanisms: HashSet<_> = REASONS.iter().map(|(mechanism, _)| *mechanism).collect();
        assert_eq!(mechanisms, HashSet::from(Rejection::MECHANISMS));
    }

    #[test]
    fn each_denial_has_its_place() {
        for (index, (denied, _)) in DENIALS.into_iter().enumerate() {
            assert_eq!(denial_index(denied), index);
        }
    }
}
