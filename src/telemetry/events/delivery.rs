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

/// The most changes of state that the delivery hands over before it yields to other tasks.
const BATCH: usize = 64;

/// Tells the functions of [`Events`](super::Events): spawn [`run`](Self::run).
///
/// It needs a tokio runtime with time enabled. It ends with that runtime. Another delivery then goes on; see
/// [`Events::delivery`](super::Events::delivery).
#[must_use = "nothing is told without the delivery"]
pub struct Delivery {
    hub: Arc<EventHub>,
}

/// What the delivery at work knows.
pub(super) struct DeliveryState {
    functions: EventFunctions,
    interval: Duration,
    /// What was told of the stacks of each name.
    told: HashMap<&'static str, DeliveredState>,
}

#[derive(Default)]
struct DeliveredState {
    numbers: CountsSnapshot,
    queue: QueueState,
}

enum DeliveryWake {
    ByTime,
    ByNews,
}

impl Delivery {
    pub(super) fn new(hub: Arc<EventHub>) -> Self {
        Self { hub }
    }

    #[cfg(test)]
    pub(super) fn hub(&self) -> &EventHub {
        &self.hub
    }

    /// Tells the functions what happens, until all stacks and handles of the events are dropped. It then tells the rest
    /// and ends.
    ///
    /// Dropped at any time, it leaves all that it has not told to the next delivery, and tells nothing twice. Without
    /// another delivery, counts stay exact and changes of state are dropped beyond 1024.
    pub async fn run(self) {
        let hub = &*self.hub;
        let mut turn = hub.turn.lock().await;
        // The first interval of this delivery also has what was counted without one.
        let mut interval = turn.interval();
        loop {
            // Before the counts are read: what was counted before it is closed is then seen.
            let is_closed = hub.is_closed();
            for _ in 0..BATCH {
                let Some(change) = hub.next_change() else { break };
                turn.functions.tell_change(&change);
            }
            if hub.has_changes() {
                if interval.is_due().await {
                    turn.tell_counts(hub);
                }
                yield_now().await;
                continue;
            }
            if is_closed {
                turn.tell_counts(hub);
                return;
            }
            match interval.wait(hub).await {
                DeliveryWake::ByTime => turn.tell_counts(hub),
                DeliveryWake::ByNews => {}
            }
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").finish_non_exhaustive()
    }
}

/// The ends of the intervals.
struct IntervalEnds(Interval);

impl IntervalEnds {
    /// Waits for the end of an interval, or for news.
    async fn wait(&mut self, hub: &EventHub) -> DeliveryWake {
        let mut news = pin!(hub.news.notified());
        poll_fn(|cx| {
            if self.0.poll_tick(cx).is_ready() {
                return Poll::Ready(DeliveryWake::ByTime);
            }
            news.as_mut().poll(cx).map(|()| DeliveryWake::ByNews)
        })
        .await
    }

    /// Whether an interval has ended.
    async fn is_due(&mut self) -> bool {
        poll_fn(|cx| Poll::Ready(self.0.poll_tick(cx).is_ready())).await
    }
}

impl DeliveryState {
    pub(super) fn new(functions: EventFunctions, interval: Duration) -> Self {
        Self { functions, interval, told: HashMap::new() }
    }

    fn interval(&self) -> IntervalEnds {
        let mut ends = interval_at(Instant::now() + self.interval, self.interval);
        ends.set_missed_tick_behavior(MissedTickBehavior::Delay);
        IntervalEnds(ends)
    }

    /// Tells what was counted since the last time.
    fn tell_counts(&mut self, hub: &EventHub) {
        for name in hub.names() {
            self.tell_counts_of(&name);
        }
    }

    fn tell_counts_of(&mut self, name: &StackName) {
        let Self { functions, told, .. } = self;
        let (stack, total) = (name.counts.stack, name.counts.total());
        let told = told.entry(stack).or_default();
        // Told before the functions run, and so never twice.
        let numbers = total.since(&mem::replace(&mut told.numbers, total));
        if let (Some(tell), Some(retries)) = (&mut functions.on_retries, numbers.retries()) {
            survives(|| tell(stack, &retries));
        }
        let refusals = numbers.refusals();
        if let (Some(tell), Some(refusals)) = (&mut functions.on_refusals, &refusals) {
            survives(|| tell(stack, refusals));
        }
        let Some(tell) = &mut functions.on_queue else { return };
        let refused = refusals.is_some_and(|refusals| refusals.of("load_level") > 0);
        let queue = match (refused, name.has_waiters(Instant::now())) {
            (true, _) => QueueState::Refusing,
            (false, true) => QueueState::Waiting,
            (false, false) => QueueState::Empty,
        };
        if mem::replace(&mut told.queue, queue) != queue {
            survives(|| tell(stack, queue));
        }
    }
}

impl EventFunctions {
    fn tell_change(&mut self, change: &super::hub::OwnedChange) {
        if let Some(tell) = &mut self.on_transition {
            survives(|| change.tell(|told| tell(change.stack, told)));
        }
    }
}
