use super::{
    places::ServicePlaces,
    rates::{DrainTime, drain_time},
    service_rate::Span,
    state::QueueState,
};
use crate::{clock::Nanos, waiters::Backlog};
use std::time::Duration;

/// The calls that were not served, by reason. The counts begin when the queue is built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Refused when they came: the queue was full, the call alone exceeded the weight limit, or an
    /// [adaptive](super::Queue::adaptive) queue expected too long a wait for the call.
    pub full: u64,
    /// Refused after they had waited, because a call that is worth more took the place.
    pub displaced: u64,
    /// Refused because their time to wait had ended, or their deadline had passed.
    pub waited_too_long: u64,
    /// Dropped by their callers while they waited.
    pub cancelled: u64,
    /// Refused because the queue was [closed](super::Queue::close), when they came or while they waited.
    pub closed: u64,
}

/// The state of a queue at one moment. Rates cover the last ten seconds. They begin again with a new backlog, and when
/// the concurrency or the pace changes.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Readings {
    /// The calls in the service.
    pub in_service: usize,
    /// The most calls that may be in the service.
    pub concurrency: usize,
    /// The calls that wait.
    pub waiting: usize,
    /// The most calls that may wait now. In an [adaptive](super::Queue::adaptive) queue this is one more than the calls
    /// that the service takes within the longest wait, and at most `max_depth`. The longest wait of a call without a
    /// deadline is `max_wait`, or the interval of [`Discipline::adaptive`](super::Discipline::adaptive) if that is
    /// shorter. For a call that may wait for a shorter time the depth is smaller: the queue may refuse such a call
    /// although fewer calls wait. In an adaptive queue this equals `max_depth` while the rate of the service is not
    /// known, and while the newest calls are served first. In every other queue it always equals `max_depth`.
    pub depth: usize,
    /// The configured bound of the waiters.
    pub max_depth: usize,
    /// The calls that the service took from the queue, per second. In an adaptive queue this is the rate from which the
    /// depth follows; it counts only time in which calls waited. In other queues it is the rate of the last ten seconds
    /// of a backlog. `None` while it is not known.
    pub served_per_second: Option<f64>,
    /// The total weight of the waiters.
    pub weight: u64,
    /// How long the oldest waiter has waited. Zero if no call waits.
    pub oldest_age: Duration,
    /// The expected wait of a call that comes now and is served after all waiters. It is the number of waiters plus
    /// one, divided by the calls that leave the queue per second. If no call waits and a place in the service is free,
    /// it is the time until the pace allows the call, or zero.
    ///
    /// `None` while it is not known, in a closed queue, and while no call leaves. It is known once a backlog has lasted
    /// for 50 ms and ten calls have left the queue, or once it has lasted for ten seconds. Until then the last known
    /// rates of an earlier backlog count. The first backlog has none, and a change of the concurrency or the pace
    /// discards them.
    pub expected_wait: Option<Duration>,
    /// The time until the backlog is gone, at the rates of the last ten seconds. It is the number of waiters, divided
    /// by the calls that leave the queue per second less those that join it per second. While a backlog is younger than
    /// ten seconds, the rates cover all of it. Some of its calls still wait, so more calls have joined than left, and
    /// the reading is [`Never`](DrainTime::Never) once the rates are known. After a change of the concurrency or the
    /// pace, the rates cover only the time since that change.
    ///
    /// [`Unknown`](DrainTime::Unknown) until this backlog has lasted for long enough; see
    /// [`expected_wait`](Self::expected_wait). The previous backlog does not count here.
    pub drain_time: DrainTime,
    /// The concurrency that the service would need to keep up with all arrivals, refused calls included, and to work
    /// off the backlog in ten seconds. An autoscaler divides it by the concurrency of one instance.
    ///
    /// If no call waits, or if calls wait only for the pace, it is the number of calls in the service. That number
    /// changes with each call: smooth it. The reading is then at most the present concurrency, and always at least 1.
    /// While calls wait for places, it is the present concurrency if the rates are not known, or if no call was served.
    pub desired_concurrency: usize,
    /// The calls that were not served, by reason.
    pub not_served: Counts,
}

/// The time in which the [`desired_concurrency`](Readings::desired_concurrency) works off the backlog, in seconds.
const TO_WORK_OFF: f64 = 10.0;

impl Readings {
    pub(super) fn of(state: &QueueState, places: ServicePlaces, now: Nanos) -> Self {
        let Backlog { calls: waiting, weight } = state.waiters.all();
        let flow = state.rates.flow(now, state.totals);
        let (in_service, concurrency) = (places.taken as usize, places.limit as usize);
        let desired_concurrency = match flow {
            // If a place in the service is free, the calls wait for the pace, and more concurrency does not help.
            _ if in_service < concurrency => in_service,
            Some(flow) if waiting > 0 && flow.served > 0.0 => {
                let needed = (flow.arrived + waiting as f64 / TO_WORK_OFF) / flow.served;
                (concurrency as f64 * needed).ceil() as usize
            }
            _ => concurrency,
        };
        Self {
            in_service,
            concurrency,
            waiting,
            depth: state.depth_in_force(now),
            max_depth: state.depth,
            served_per_second: match state.service_rate(now) {
                _ if !state.is_adaptive() => flow.map(|flow| flow.served),
                rate => rate.map(Span::per_second),
            },
            weight: u64::try_from(weight).unwrap_or(u64::MAX),
            oldest_age: state.oldest_age(now),
            expected_wait: match waiting {
                _ if state.is_closed() => None,
                0 if in_service < concurrency => Some(state.paced_wait(now)),
                _ => state.expected_wait(now),
            },
            drain_time: drain_time(waiting as u64, state.rates.flow_of_this(now, state.totals)),
            desired_concurrency: desired_concurrency.max(1),
            not_served: state.counts,
        }
    }
}
