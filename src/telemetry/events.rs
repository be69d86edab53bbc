mod builder;
mod counts;
mod delivery;
mod hub;
mod state;

pub use self::{
    builder::EventsBuilder,
    counts::{Refusals, RetryCounts},
    delivery::Delivery,
    state::QueueState,
};

use self::hub::{EventHub, HubGuard, StackEvents, StackInstruments};
use crate::{
    shell::{Begin, End, Instrument, Observed, Observer},
    words::Flag,
};
use std::{fmt, sync::Arc};

/// Tells functions of yours what happens in a stack, off the path of its calls.
///
/// Calls are only counted. A [`Delivery`], which you spawn, calls the functions in its own task. They may take their
/// time, lock, log or panic, and no call waits for them.
///
/// | what happens | which function |
/// |---|---|
/// | a mechanism changes its state | [`on_transition`](EventsBuilder::on_transition), soon after |
/// | calls are retried, retries are denied | [`on_retries`](EventsBuilder::on_retries), once in each interval |
/// | calls are rejected | [`on_refusals`](EventsBuilder::on_refusals), once in each interval |
/// | calls begin to wait, or to be refused by a queue | [`on_queue`](EventsBuilder::on_queue), at the next interval |
///
/// Use [`Breaker::on_transition`](crate::circuit_breaker::Breaker::on_transition) for what must be done at once when
/// one breaker changes, with typed states and counts. Use `Events` to learn of all mechanisms, with names and words.
///
/// # What is delivered
///
/// Each change of state comes once and in order. At most 1024 wait for the delivery. When one more comes, the oldest is
/// dropped, and the next one that is delivered says how many it [missed](crate::shell::StateChange::missed). Counts are
/// exact: all numbers that are delivered add up to what happened. Stacks of one name are counted together.
///
/// # Cost
///
/// One call that is neither retried nor rejected: nothing. Other calls: one to three relaxed atomics, on cache lines
/// that few threads share. No clock, no lock, no allocation. A change of state allocates its evidence and takes a short
/// lock, in the thread that changed the state. Each name of a stack holds 2 KB.
///
/// # Example
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::{sync::mpsc, time::Duration};
/// use steadfast::{load_shed::Limiter, telemetry::Events};
/// use tower::{ServiceExt, service_fn};
///
/// let (told, tells) = mpsc::channel();
/// let (events, delivery) = Events::builder()
///     .on_transition(|stack, change| println!("{stack}: {} is {}", change.mechanism(), change.to()))
///     .on_refusals(move |stack, refusals| {
///         for (mechanism, reason, count) in refusals.iter() {
///             let _ = told.send(format!("{stack}: {mechanism}, {reason}: {count}"));
///         }
///     })
///     .build(Duration::from_secs(10))?;
/// let delivery = tokio::spawn(delivery.run());
///
/// let limiter = Limiter::fixed(1)?;
/// let _place = limiter.try_acquire_owned()?;
/// let shop = steadfast::server().observe("shop", events).load_shed(limiter);
/// let shop = shop.service(service_fn(async |()| Ok::<_, std::io::Error>(())))?;
/// assert!(shop.clone().oneshot(()).await.is_err());
/// assert!(shop.oneshot(()).await.is_err());
/// // The stack is gone, and so is the last handle of the events: the delivery tells the rest and ends.
/// delivery.await?;
/// assert_eq!(tells.try_iter().collect::<Vec<_>>(), ["shop: load_shed, limit: 2"]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Events {
    live: Arc<HubGuard>,
    /// What all clones in one stack share.
    stack: Arc<StackEvents>,
}

/// Whether it is a call or an attempt.
#[doc(hidden)]
#[derive(Debug)]
pub struct Watch {
    is_call: Flag,
}

impl Events {
    /// Begins a list of functions to call.
    pub fn builder() -> EventsBuilder {
        EventsBuilder::default()
    }

    fn new(hub: Arc<EventHub>) -> Self {
        let stack = Arc::new(StackEvents::of(hub.counts("")));
        Self { live: Arc::new(HubGuard(hub)), stack }
    }

    /// Makes another delivery, for another runtime.
    ///
    /// One delivery works at a time, and the others wait for their turn. When the one at work is dropped, as with its
    /// runtime, the next one goes on where it was.
    pub fn delivery(&self) -> Delivery {
        Delivery::new(self.live.0.clone())
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

/// Only calls are counted. What a retry did before a panic of the service is not known.
impl Observer for Events {
    const IS_QUICK: bool = true;

    type Watch = Watch;

    fn watches(&mut self, stack: &'static str) {
        self.stack = Arc::new(StackEvents::of(self.live.0.counts(stack)));
    }

    fn instruments(&self, instruments: &[Arc<dyn Instrument>]) {
        let learned = Arc::new(StackInstruments::new(&self.live, self.stack.name(), instruments));
        if self.stack.learn(learned.clone()) {
            self.live.0.add(&learned);
            learned.listen();
        }
    }

    #[inline]
    fn begin(&self, begin: &Begin) -> Watch {
        Watch { is_call: Flag::of(begin.observed() == Observed::Call) }
    }

    #[inline]
    fn end(&self, Watch { is_call }: Watch, end: &End<'_>) {
        if is_call.is_set() {
            self.stack.count(end);
        }
    }
}
