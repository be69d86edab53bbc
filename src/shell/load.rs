use super::{Frame, RefusesNow, Stack};
use tower::load::Load;

/// The penalty on the load of a stack that refuses calls: more than can be in flight.
const PENALTY: usize = usize::MAX / 2;

/// The calls in flight, and a penalty while the stack would refuse a call: for tower's `Balance` and the like.
///
/// A stack that refuses calls looks like a fast, idle service to a balancer that counts calls in flight or measures
/// latency. The balancer would send most calls there, and they would fail. With this load it prefers stacks that admit
/// calls:
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), tower::BoxError> {
/// use std::convert::Infallible;
/// use steadfast::circuit_breaker::Breaker;
/// use tower::{Service, ServiceExt, balance::p2c::Balance, discover::ServiceList, service_fn};
///
/// // One stack for each endpoint, so that each circuit belongs to one endpoint.
/// let breakers = [Breaker::builder().build()?, Breaker::builder().build()?];
/// let endpoints = [0, 1].map(|endpoint| service_fn(move |()| async move { Ok::<usize, Infallible>(endpoint) }));
/// let mut stacks = Vec::new();
/// for (breaker, endpoint) in breakers.iter().zip(endpoints) {
///     stacks.push(steadfast::client().circuit_breaker(breaker.clone()).service(endpoint)?);
/// }
/// let mut balance = Balance::new(ServiceList::new(stacks));
///
/// breakers[0].force_open();
/// for _ in 0..10 {
///     assert_eq!(balance.ready().await?.call(()).await?, 1);
/// }
/// # Ok(())
/// # }
/// ```
///
/// - A call is in flight while its response future exists, whether it waits in the stack or is in the service. A future
///   that has ended and is kept still counts.
/// - The penalty is `usize::MAX / 2`. A stack has the penalty while at least one of these holds:
///   - A breaker is open, is forced open, or is half-open and admits no further probe.
///   - A live stack is switched off.
///   - A load shed is at its limit, or a queue is full or closed. A limit in shadow causes no penalty.
///   - A rate limit for all callers has no token. If it lets calls wait, only a wait that would be too long counts.
/// - An open circuit whose `open_for` is over has no penalty: the balancer has to send the call that probes it. If all
///   stacks refuse, the balancer chooses among them by their calls in flight.
/// - A rate limit by key causes no penalty, because it refuses some callers and not others. The stages of a service
///   that is itself a stack cause none either: the outer stack does not know them.
///
/// The services that one layer makes share one state and one count, so each of them reports the load of all. Build one
/// stack for each endpoint. If the endpoints are to share a mechanism, give each stack a clone of its handle.
///
/// # Cost
///
/// No call counts anything: the calls in flight are the references to the stack's state that calls hold anyway. But
/// with the feature, handles and calls count their references in two cache lines. Where threads clone one handle for
/// each call, they contend for both.
///
/// [`load`](Load::load) takes a few atomic loads. It reads the clock for a breaker that is open or half-open, a queue
/// in which calls wait, a rate limit, or an adaptive limit. It takes a lock for a queue in which calls wait, for a rate
/// limit for whose tokens calls wait, for a sliding window, and for a bucket that warms up.
impl<St: RefusesNow, X, S> Load for Stack<St, X, S> {
    type Metric = usize;

    fn load(&self) -> usize {
        let would_refuse = self.root.shared().stage.refuses_now(&mut Frame::new());
        self.root.in_flight().saturating_add(if would_refuse { PENALTY } else { 0 })
    }
}
