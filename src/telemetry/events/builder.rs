use super::{Delivery, Events, QueueState, Refusals, RetryCounts, delivery::DeliveryState, hub::EventHub};
use crate::{
    error::{ConfigError, check_duration},
    shell::StateChange,
};
use std::{fmt, sync::Arc, time::Duration};

pub(super) type OnTransition = Box<dyn FnMut(&'static str, &StateChange<'_>) + Send>;
pub(super) type OnRetries = Box<dyn FnMut(&'static str, &RetryCounts) + Send>;
pub(super) type OnRefusals = Box<dyn FnMut(&'static str, &Refusals) + Send>;
pub(super) type OnQueue = Box<dyn FnMut(&'static str, QueueState) + Send>;

/// Builds [`Events`] and the [`Delivery`] that calls your functions.
///
/// The first argument of each function is the name of the stack. Functions run in the task of the [`Delivery`], under
/// no lock that a call takes. A function that blocks delays that task and, as all blocking code does, other tasks on
/// the same thread of the runtime. The delivery catches panics and continues. The delivery ends after all clones of the
/// [`Events`] are dropped, so a function that holds a clone keeps it running.
#[derive(Default)]
#[must_use = "a builder does nothing before `build`"]
pub struct EventsBuilder {
    functions: EventFunctions,
}

#[derive(Default)]
pub(super) struct EventFunctions {
    pub(super) on_transition: Option<OnTransition>,
    pub(super) on_retries: Option<OnRetries>,
    pub(super) on_refusals: Option<OnRefusals>,
    pub(super) on_queue: Option<OnQueue>,
}

impl EventsBuilder {
    /// Calls this function for each state change of a mechanism: a circuit breaker, a configuration, or a mechanism of
    /// your own. The function runs soon after the change, and receives the changes in order. A change of a mechanism
    /// that several stacks share is reported once for each of these stacks.
    pub fn on_transition(mut self, function: impl FnMut(&'static str, &StateChange<'_>) + Send + 'static) -> Self {
        self.functions.on_transition = Some(Box::new(function));
        self
    }

    /// Calls this function with the counts, after each interval in which calls were retried or retries were denied.
    pub fn on_retries(mut self, function: impl FnMut(&'static str, &RetryCounts) + Send + 'static) -> Self {
        self.functions.on_retries = Some(Box::new(function));
        self
    }

    /// Calls this function with the counts by reason, after each interval in which calls were rejected.
    pub fn on_refusals(mut self, function: impl FnMut(&'static str, &Refusals) + Send + 'static) -> Self {
        self.functions.on_refusals = Some(Box::new(function));
        self
    }

    /// Calls this function for each change of the [state](QueueState) of a stack's queues. The delivery computes the
    /// state after each interval. The first state is [`Empty`](QueueState::Empty), without a call of this function.
    pub fn on_queue(mut self, function: impl FnMut(&'static str, QueueState) + Send + 'static) -> Self {
        self.functions.on_queue = Some(Box::new(function));
        self
    }

    /// Builds the observer, and the delivery that calls the functions. The delivery reports counts once in each
    /// `interval`: 10 s suits logs, and the scrape interval suits metrics.
    ///
    /// # Errors
    ///
    /// `interval` is zero or longer than 366 days.
    pub fn build(self, interval: Duration) -> Result<(Events, Delivery), ConfigError> {
        check_duration("events.interval", interval)?;
        let listens = self.functions.on_transition.is_some();
        let hub = Arc::new(EventHub::new(listens, DeliveryState::new(self.functions, interval)));
        let delivery = Delivery::new(hub.clone());
        Ok((Events::new(hub), delivery))
    }
}

impl fmt::Debug for EventsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventsBuilder")
            .field("on_transition", &self.functions.on_transition.is_some())
            .field("on_retries", &self.functions.on_retries.is_some())
            .field("on_refusals", &self.functions.on_refusals.is_some())
            .field("on_queue", &self.functions.on_queue.is_some())
            .finish()
    }
}
