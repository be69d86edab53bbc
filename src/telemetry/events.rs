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

/// Reports what happens in a stack to your own functions, off the path of its calls.
///
/// A call only increments counters, and hands over the state changes that it causes. A [`Delivery`], which you spawn,
/// runs your functions in its own task. They may be slow, lock, log or panic: no call runs them or waits for their end.
/// If they block for long, run the delivery in a runtime of its own, because they block a thread of its runtime.
///
/// | event | function |
/// |---|---|
/// | a mechanism changes its state | [`on_transition`](EventsBuilder::on_transition), soon after |
/// | calls are retried, retries are denied | [`on_retries`](EventsBuilder::on_retries), once in each interval |
/// | calls are rejected | [`on_refusals`](EventsBuilder::on_refusals), once in each interval |
/// | the queues of a stack change their state: empty, waiting or refusing | [`on_queue`](EventsBuilder::on_queue), at the end of the interval |
///
/// Use [`Breaker::on_transition`](crate::circuit_breaker::Breaker::on_transition) to act at once when one breaker
/// changes its state. The function that you give it receives typed states and counts. `Events` covers all mechanisms,
/// with names and states as strings.
///
/// # What is delivered
///
/// State changes are delivered in order, and none twice. At most 1024 changes wait for the delivery. One more drops the
/// oldest, and the next delivered change says how many were [missed](crate::shell::StateChange::missed). Counts are
/// exact: the delivered numbers add up to the totals. Stacks of one name are counted together.
///
/// # Cost
///
/// As with every observer, the stack reads the clock at the beginning and at the end of each call and each attempt. A
/// call that is retried, denied a retry, or rejected also costs one to four relaxed atomic additions, on cache lines
/// that few threads share. The counting takes no lock and allocates nothing. A state change allocates the [text of its
/// reason](crate::shell::StateChange::evidence) and takes a short lock. Both happen in the thread that changed the
/// state, or in one that still delivers an earlier change. Each stack name takes 2 KB.
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
/// let (sender, lines) = mpsc::channel();
/// let (events, delivery) = Events::builder()
///     .on_transition(|stack, change| println!("{stack}: {} is {}", change.mechanism(), change.to()))
///     .on_refusals(move |stack, refusals| {
///         for (mechanism, reason, count) in refusals.iter() {
///             let _ = sender.send(format!("{stack}: {mechanism}, {reason}: {count}"));
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
/// // The last `oneshot` consumed the stack, and with it the last handle of the events. The delivery therefore delivers
/// // the rest and ends.
/// delivery.await?;
/// assert_eq!(lines.try_iter().collect::<Vec<_>>(), ["shop: load_shed, limit: 2"]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Events {
    guard: Arc<HubGuard>,
    /// Shared by all clones in one stack.
    stack: Arc<StackEvents>,
}

/// The state of an observed call or attempt.
#[doc(hidden)]
#[derive(Debug)]
pub struct Watch {
    is_call: Flag,
}

impl Events {
    /// Starts a builder without functions.
    pub fn builder() -> EventsBuilder {
        EventsBuilder::default()
    }

    fn new(hub: Arc<EventHub>) -> Self {
        let stack = Arc::new(StackEvents::of(hub.counts("")));
        Self { guard: Arc::new(HubGuard(hub)), stack }
    }

    /// Creates another delivery, for another runtime.
    ///
    /// One delivery is active at a time, and the others wait. When the active delivery is dropped, for example with its
    /// runtime, the next one continues where the dropped one stopped.
    pub fn delivery(&self) -> Delivery {
        Delivery::new(self.guard.0.clone())
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

/// Counts when a call ends, not when an attempt ends. The retries of a call that panicked are not counted, because
/// their number is not known.
impl Observer for Events {
    const IS_QUICK: bool = true;

    type Watch = Watch;

    fn watches(&mut self, stack: &'static str) {
        self.stack = Arc::new(StackEvents::of(self.guard.0.counts(stack)));
    }

    fn instruments(&self, instruments: &[Arc<dyn Instrument>]) {
        let instruments = Arc::new(StackInstruments::new(&self.guard, self.stack.name(), instruments));
        if self.stack.set_instruments(instruments.clone()) {
            self.guard.0.add(&instruments);
            instruments.listen();
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
