use super::{
    QueueState,
    builder::EventFunctions,
    counts::CountsSnapshot,
    hub::{EventHub, StackName},
};
use crate::panics::survives;
use std::{collections::HashMap, fmt, future::poll_fn, mem, pin::pin, sync::Arc, task::Poll, time::Duration};
use tokio::{
    task::yield_now,
    time::{Instant, Interval, MissedTickBehavior, interval_at},
};

/// The most state changes that the delivery reports before it yields to other tasks.
const BATCH: usize = 64;

/// Calls the functions of [`Events`](super::Events): spawn [`run`](Self::run).
///
/// A delivery needs a tokio runtime with time enabled, and ends with that runtime. Another delivery can then continue:
/// see [`Events::delivery`](super::Events::delivery).
#[must_use = "no function is called unless the delivery runs"]
pub struct Delivery {
    hub: Arc<EventHub>,
}

/// The state that the active delivery uses, and that the next delivery takes over.
pub(super) struct DeliveryState {
    functions: EventFunctions,
    interval: Duration,
    /// The total counts and the queue state at the last report, by stack name.
    delivered: HashMap<&'static str, DeliveredState>,
}

#[derive(Default)]
struct DeliveredState {
    numbers: CountsSnapshot,
    queue: QueueState,
}

/// Why the active delivery stops waiting.
enum DeliveryWake {
    ByTime,
    ByNotification,
}

impl Delivery {
    pub(super) fn new(hub: Arc<EventHub>) -> Self {
        Self { hub }
    }

    #[cfg(test)]
    pub(super) fn hub(&self) -> &EventHub {
        &self.hub
    }

    /// Calls the functions until all stacks and handles of the events are dropped. Then delivers the rest and ends.
    ///
    /// If the future of `run` is dropped, the next delivery continues, and nothing is delivered twice. Until another
    /// delivery runs, counts stay exact, and only the last 1024 state changes are kept.
    pub async fn run(self) {
        let hub = &*self.hub;
        let mut state = hub.state.lock().await;
        // The first interval of this delivery includes all counts that no earlier delivery has reported.
        let mut interval = state.interval();
        loop {
            // Read before the changes and the counts. After the hub is closed no more are added, so the last round sees
            // all of them.
            let is_closed = hub.is_closed();
            for _ in 0..BATCH {
                let Some(change) = hub.next_change() else { break };
                state.functions.report_change(&change);
            }
            if hub.has_changes() {
                if interval.is_due().await {
                    state.report_counts(hub);
                }
                yield_now().await;
                continue;
            }
            if is_closed {
                state.report_counts(hub);
                return;
            }
            match interval.wait(hub).await {
                DeliveryWake::ByTime => state.report_counts(hub),
                DeliveryWake::ByNotification => {}
            }
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").finish_non_exhaustive()
    }
}

/// A timer for the ends of the intervals.
struct IntervalEnds(Interval);

impl IntervalEnds {
    /// Waits for the end of an interval, or for a notification.
    async fn wait(&mut self, hub: &EventHub) -> DeliveryWake {
        let mut notify = pin!(hub.notify.notified());
        poll_fn(|cx| {
            if self.0.poll_tick(cx).is_ready() {
                return Poll::Ready(DeliveryWake::ByTime);
            }
            notify.as_mut().poll(cx).map(|()| DeliveryWake::ByNotification)
        })
        .await
    }

    /// Returns at once whether an interval has ended. Reports each end once.
    async fn is_due(&mut self) -> bool {
        poll_fn(|cx| Poll::Ready(self.0.poll_tick(cx).is_ready())).await
    }
}

impl DeliveryState {
    pub(super) fn new(functions: EventFunctions, interval: Duration) -> Self {
        Self { functions, interval, delivered: HashMap::new() }
    }

    fn interval(&self) -> IntervalEnds {
        let mut ends = interval_at(Instant::now() + self.interval, self.interval);
        ends.set_missed_tick_behavior(MissedTickBehavior::Delay);
        IntervalEnds(ends)
    }

    /// Delivers the counts since the last delivery.
    fn report_counts(&mut self, hub: &EventHub) {
        for name in hub.names() {
            self.report_counts_of(&name);
        }
    }

    fn report_counts_of(&mut self, name: &StackName) {
        let Self { functions, delivered, .. } = self;
        let (stack, total) = (name.counts.stack, name.counts.total());
        let delivered = delivered.entry(stack).or_default();
        // Recorded before the functions run, so that a count is never delivered twice.
        let numbers = total.since(&mem::replace(&mut delivered.numbers, total));
        if let (Some(report), Some(retries)) = (&mut functions.on_retries, numbers.retries()) {
            survives(|| report(stack, &retries));
        }
        let refusals = numbers.refusals();
        if let (Some(report), Some(refusals)) = (&mut functions.on_refusals, &refusals) {
            survives(|| report(stack, refusals));
        }
        let Some(report) = &mut functions.on_queue else { return };
        let refused = refusals.is_some_and(|refusals| refusals.of("load_level") > 0);
        let queue = match (refused, name.has_waiters(Instant::now())) {
            (true, _) => QueueState::Refusing,
            (false, true) => QueueState::Waiting,
            (false, false) => QueueState::Empty,
        };
        if mem::replace(&mut delivered.queue, queue) != queue {
            survives(|| report(stack, queue));
        }
    }
}

impl EventFunctions {
    fn report_change(&mut self, change: &super::hub::OwnedChange) {
        if let Some(report) = &mut self.on_transition {
            survives(|| change.pass_to(|event| report(change.stack, event)));
        }
    }
}
