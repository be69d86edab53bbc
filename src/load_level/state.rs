//! The decisions of a queue. The lock guards the state: a function with a reference to it runs under the lock.
//!
//! The life of a call, and the file of each step:
//!
//! | from | to | when | in |
//! |---|---|---|---|
//! | new | in the service | there is room, no call waits, and the queue is open | `arriving` |
//! | new | waiting | there is a place in the queue | `arriving` |
//! | new | refused | the queue is full or closed, or the call is too heavy or has no time to wait | `arriving` |
//! | new | refused | the queue is adaptive, and the calls before it take longer than it may wait | `depth` |
//! | waiting | refused | the queue is full, and a newcomer is worth more or this call is late | `arriving` |
//! | waiting | refused | the queue is adaptive, a newcomer would be served too late, and this call is late | `depth` |
//! | waiting | admitted | it is next, there is room, and it has not waited too long | `turns` |
//! | waiting | refused | it is next, there is room, and it has waited too long | `turns` |
//! | waiting | refused | its task polls it after its time to wait has ended | `polling` |
//! | waiting | left | its caller drops it | `polling` |
//! | admitted | in the service | its task polls it before its deadline | `polling` |
//! | admitted | refused | its task polls it after its deadline; its place in the service goes to the next | `polling` |
//! | admitted | left | its caller drops it; its place in the service goes to the next | `polling` |
//! | refused | left | its task polls it and gets the reason, or its caller drops it | `polling` |
//! | in the service | ended | it ends; its place goes to the next | `polling` |
//! | waiting | admitted, refused | the queue closes | `closing` |
//!
//! "There is room": a place in the service is free, and the pace allows a call to begin.

mod arriving;
mod closing;
mod depth;
mod polling;
mod refusals;
mod turns;

pub(super) use refusals::QueueRefusal;

use super::{
    deadlines::Deadlines,
    discipline::{Discipline, Rule},
    pace::{Pace, PaceSlot},
    places::Mode,
    rates::{Rates, Totals},
    readings::Counts,
    service_rate::ServiceRate,
};
use crate::{clock::Nanos, histogram::Histogram, waiters::Waiters};
use std::time::Duration;

/// One class for each [`Criticality`](crate::Criticality).
pub(super) const CLASSES: usize = 4;

/// The state of a queue. Times count from the queue's origin.
#[derive(Debug)]
pub(super) struct QueueState {
    pub(super) depth: usize,
    /// `u128::MAX`, more than all calls can weigh, if there is no bound.
    pub(super) max_weight: u128,
    pub(super) max_wait: Nanos,
    discipline: Discipline,
    /// The discipline in integers.
    rule: Rule,
    /// The order of all waiters, if the most urgent is served first; `None` in all other disciplines.
    deadlines: Option<Deadlines>,
    /// How fast the service takes waiters. `None` in a queue with a fixed depth.
    service_rate: Option<ServiceRate>,
    pub(super) by_criticality: bool,
    pub(super) pace: Option<Pace>,
    /// No call waits in a closed queue.
    is_closed: bool,
    pub(super) waiters: Waiters<Waiter, Result<PaceSlot, QueueRefusal>, CLASSES>,
    /// When the present backlog began. While no call waits, when the last backlog ended.
    nonempty_since: Nanos,
    /// The latest instant at which a thread took the lock to change the queue. The clock of another thread may be
    /// behind it.
    latest: Nanos,
    pub(super) totals: Totals,
    pub(super) rates: Rates,
    pub(super) counts: Counts,
    /// The waits of the calls that have left the queue, served or not.
    pub(super) waits: Histogram,
}

/// The times of a waiter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiter {
    /// The instant of its arrival.
    since: Nanos,
    /// The end of its time to wait. A waiter that has not been admitted by then is refused.
    gives_up_at: Nanos,
    /// The deadline of the call. A waiter that was admitted before is refused, too, if its task polls it only after the
    /// deadline.
    deadline: Nanos,
}

/// The phase of a call. The task of the call learns it when the call arrives, and in each poll. `W` is the data that
/// the task needs to wait.
///
/// An answer that the task has not fetched yet is a `Result<PaceSlot, QueueRefusal>`, since such a call no longer
/// waits.
#[derive(Debug)]
pub(super) enum CallPhase<W> {
    Waiting(W),
    /// It is in the service, with the slot of the pace that it has taken.
    Admitted(PaceSlot),
    Refused(QueueRefusal),
}

/// A call that arrives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Newcomer {
    pub(super) class: usize,
    pub(super) weight: u64,
    /// The deadline; [`NEVER`] without one.
    pub(super) deadline: Nanos,
}

/// Later than all instants.
pub(super) const NEVER: Nanos = Nanos::MAX;

impl QueueState {
    pub(super) fn new(
        depth: usize,
        max_weight: u128,
        max_wait: Duration,
        discipline: Discipline,
        by_criticality: bool,
        pace: Option<Pace>,
    ) -> Self {
        Self {
            depth,
            max_weight,
            max_wait: Nanos::of(max_wait),
            discipline,
            rule: discipline.rule(),
            deadlines: discipline.is_by_urgency().then(Deadlines::new),
            service_rate: None,
            by_criticality,
            pace,
            is_closed: false,
            waiters: Waiters::new(),
            nonempty_since: Nanos::ZERO,
            latest: Nanos::ZERO,
            totals: Totals::default(),
            rates: Rates::new(),
            counts: Counts::default(),
            waits: Histogram::default(),
        }
    }

    /// Derives the depth from the service rate from now on.
    pub(super) fn adapt_depth(&mut self) {
        self.service_rate = Some(ServiceRate::default());
    }

    /// Returns the present for a thread whose clock reads `now`: `now`, or `latest` if that is later.
    pub(super) fn time_at(&self, now: Nanos) -> Nanos {
        self.latest.max(now)
    }

    /// Moves the present to `now`, for a thread that takes the lock to change the queue. Returns the present.
    pub(super) fn advance_to(&mut self, now: Nanos) -> Nanos {
        self.latest = self.time_at(now);
        self.rates.note(self.latest, self.totals);
        self.latest
    }

    pub(super) fn discipline(&self) -> Discipline {
        self.discipline
    }

    pub(super) fn set_discipline(&mut self, discipline: Discipline) {
        self.discipline = discipline;
        self.rule = discipline.rule();
        if discipline.is_by_urgency() != self.deadlines.is_some() {
            self.deadlines = discipline.is_by_urgency().then(|| self.in_order());
        }
    }

    /// Describes the settings in words, for a concurrency limit of `limit`.
    pub(super) fn describe(&self, limit: u32) -> String {
        let Self { depth, discipline, .. } = self;
        let longest = self.max_wait.duration();
        let mut text = format!("{limit} at once, {depth} waiting for up to {longest:?}, {discipline}");
        if self.service_rate.is_some() {
            text.push_str(&self.describe_depth());
        }
        if self.by_criticality {
            text.push_str(", the most critical first");
        }
        if self.max_weight < u128::MAX {
            text.push_str(&format!(", of a weight of up to {}", self.max_weight));
        }
        if let Some(pace) = self.pace {
            text.push_str(&format!(", {pace}"));
        }
        if self.is_closed {
            text.push_str(", closed");
        }
        text
    }

    /// Begins the rates again: the capacity of the service changes.
    pub(super) fn capacity_changes(&mut self, now: Nanos) {
        self.rates.begin_again(now, self.totals);
    }

    /// Forgets the service rate: it says nothing about another pace. A change of the concurrency keeps the rate as an
    /// estimate, which the next few hundred calls replace. A concurrency that changes often would otherwise leave the
    /// queue without a rate.
    pub(super) fn pace_changes(&mut self) {
        self.service_rate = self.service_rate.map(|_| ServiceRate::default());
    }

    /// Returns slow while calls wait, while there is a pace, and once the queue is closed.
    pub(super) fn mode(&self) -> Mode {
        let is_slow = self.waiters.all().calls > 0 || self.pace.is_some() || self.is_closed;
        if is_slow { Mode::Slow } else { Mode::Fast }
    }
}
