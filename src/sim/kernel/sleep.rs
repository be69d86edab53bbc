//! Waits that are exact to the nanosecond.

use super::Sim;
use std::{
    cmp::Reverse,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

/// A task to wake.
pub(super) struct Sleeper {
    /// When to wake the task, as the time since the start of the run.
    pub(super) at: Duration,
    /// The number of sleepers that were registered before. It orders the sleepers of one instant.
    order: u64,
    pub(super) waker: Waker,
}

impl PartialEq for Sleeper {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Sleeper {}

impl PartialOrd for Sleeper {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Sleeper {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// The future of [`Sim::sleep`].
#[must_use = "futures do nothing unless polled"]
pub struct Sleep {
    sim: Sim,
    until: Duration,
    /// The waker that is registered with the world. A poll with an equivalent waker needs no second registration.
    waker: Option<Waker>,
}

impl Sleep {
    pub(super) fn new(sim: Sim, until: Duration) -> Self {
        Self { sim, until, waker: None }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.sim.elapsed() >= self.until {
            return Poll::Ready(());
        }
        if self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        self.waker = Some(cx.waker().clone());
        let kernel = &self.sim.0;
        let order = kernel.registered.get();
        kernel.registered.set(order + 1);
        let sleeper = Sleeper { at: self.until, order, waker: cx.waker().clone() };
        kernel.sleepers.borrow_mut().push(Reverse(sleeper));
        Poll::Pending
    }
}
