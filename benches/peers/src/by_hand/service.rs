use super::mechanisms::Mechanisms;
use crate::services::Fault;
use pin_project_lite::pin_project;
use std::{
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep_until};
use tower::Service;

/// Why a call ended without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    TimedOut,
    CircuitOpen,
    RateLimited,
    Overloaded,
    Service(Fault),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl Error for Refusal {}

/// A service wrapped in all five mechanisms.
#[derive(Clone)]
pub struct ByHand<S> {
    shared: Arc<Mechanisms>,
    service: S,
}

impl<S> ByHand<S> {
    /// `limit` applies to the whole call, `attempt_limit` to each of its attempts.
    pub fn new(limit: Duration, attempt_limit: Duration, service: S) -> Self {
        Self { shared: Arc::new(Mechanisms::new(limit, attempt_limit)), service }
    }
}

impl<S> Service<u64> for ByHand<S>
where
    S: Service<u64, Error = Fault> + Clone,
{
    type Response = S::Response;
    type Error = Refusal;
    type Future = Call<S, S::Future>;

    #[inline(always)]
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        Poll::Ready(Ok(()))
    }

    #[inline(always)]
    fn call(&mut self, request: u64) -> Self::Future {
        Call {
            state: State::Begin,
            request,
            service: self.service.clone(),
            shared: self.shared.clone(),
            deadline: None,
            attempt_deadline: None,
            attempts: 0,
            sleep: None,
            counted: false,
        }
    }
}

pin_project! {
    /// One call.
    pub struct Call<S, F> {
        #[pin]
        state: State<F>,
        request: u64,
        service: S,
        shared: Arc<Mechanisms>,
        deadline: Option<Instant>,
        // Of the attempt in flight.
        attempt_deadline: Option<Instant>,
        attempts: u32,
        #[pin]
        sleep: Option<Sleep>,
        // Whether the call counts as in flight.
        counted: bool,
    }

    impl<S, F> PinnedDrop for Call<S, F> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if *this.counted {
                this.shared.leave();
            }
        }
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F> {
        Begin,
        Admitted,
        Called { #[pin] future: F },
        Paused { until: Instant },
        Ended,
    }
}

impl<S> Future for Call<S, S::Future>
where
    S: Service<u64, Error = Fault> + Clone,
{
    type Output = Result<S::Response, Refusal>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let mut wake = None;
            match this.state.as_mut().project() {
                StateProjection::Begin => {
                    let now = Instant::now();
                    this.deadline.get_or_insert(now + this.shared.limit);
                    if let Err(refusal) = this.shared.admit(now) {
                        this.state.set(State::Ended);
                        return Poll::Ready(Err(refusal));
                    }
                    *this.counted = true;
                    *this.attempts += 1;
                    *this.attempt_deadline = Some(now + this.shared.attempt_limit);
                    this.state.set(State::Admitted);
                    continue;
                }
                StateProjection::Admitted => match this.service.poll_ready(cx) {
                    Poll::Ready(Ok(())) => {
                        let future = this.service.call(*this.request);
                        this.state.set(State::Called { future });
                        continue;
                    }
                    Poll::Ready(Err(fault)) => {
                        this.state.set(State::Ended);
                        return Poll::Ready(Err(Refusal::Service(fault)));
                    }
                    Poll::Pending => {}
                },
                StateProjection::Called { future } => {
                    if let Poll::Ready(result) = future.poll(cx) {
                        this.state.set(State::Ended);
                        this.shared.leave();
                        *this.counted = false;
                        let now = Instant::now();
                        match result {
                            Ok(response) => {
                                this.shared.succeeded(now);
                                return Poll::Ready(Ok(response));
                            }
                            Err(fault) => {
                                *this.attempt_deadline = None;
                                let Some(until) = this.shared.again(now, *this.deadline, *this.attempts) else {
                                    return Poll::Ready(Err(Refusal::Service(fault)));
                                };
                                this.state.set(State::Paused { until });
                                continue;
                            }
                        }
                    }
                }
                StateProjection::Paused { until } => {
                    if *until <= Instant::now() {
                        this.state.set(State::Begin);
                        continue;
                    }
                    wake = Some(*until);
                }
                StateProjection::Ended => panic!("polled after the end"),
            }

            // Pending until a deadline is due or a timer fires.
            let Some(deadline) = *this.deadline else { return Poll::Pending };
            let now = Instant::now();
            if deadline <= now {
                let called = matches!(this.state.as_mut().project(), StateProjection::Called { .. });
                this.state.set(State::Ended);
                if called {
                    this.shared.failed(now);
                }
                return Poll::Ready(Err(Refusal::TimedOut));
            }
            if this.attempt_deadline.is_some_and(|attempt_deadline| attempt_deadline <= now) {
                *this.attempt_deadline = None;
                this.state.set(State::Ended);
                this.shared.leave();
                *this.counted = false;
                let Some(until) = this.shared.again(now, *this.deadline, *this.attempts) else {
                    return Poll::Ready(Err(Refusal::TimedOut));
                };
                this.state.set(State::Paused { until });
                continue;
            }
            let wake = wake.or(*this.attempt_deadline).unwrap_or(deadline).min(deadline);
            match this.sleep.as_mut().as_pin_mut() {
                Some(sleep) if sleep.deadline() == wake => {}
                Some(sleep) => sleep.reset(wake),
                None => this.sleep.set(Some(sleep_until(wake))),
            }
            if let Some(sleep) = this.sleep.as_mut().as_pin_mut() {
                ready!(sleep.poll(cx));
            }
            this.sleep.set(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::mechanisms::ATTEMPTS, *};
    use crate::services::AtOnce;
    use std::{
        future,
        sync::atomic::{AtomicU32, Ordering::Relaxed},
    };
    use tower::{ServiceExt, service_fn};

    fn run<T>(test: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
    }

    #[test]
    fn the_floor_answers_and_counts_in_flight_exactly() {
        run(async {
            let service = ByHand::new(Duration::from_secs(1), Duration::from_secs(1), AtOnce);
            assert_eq!(service.clone().oneshot(7).await, Ok(7));
            let hanging =
                ByHand { service: service_fn(|_| future::pending::<Result<u64, Fault>>()), shared: service.shared };
            {
                let mut call = std::pin::pin!(hanging.clone().oneshot(7));
                let pending = future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_pending())).await;
                assert!(pending);
                assert_eq!(hanging.shared.in_flight.0.load(Relaxed), 1);
            }
            assert_eq!(hanging.shared.in_flight.0.load(Relaxed), 0);
        });
    }

    #[test]
    fn the_floor_ends_a_call_at_its_deadline() {
        run(async {
            let hanging = service_fn(|_| future::pending::<Result<u64, Fault>>());
            let service = ByHand::new(Duration::from_millis(5), Duration::from_secs(1), hanging);
            assert_eq!(service.oneshot(7).await, Err(Refusal::TimedOut));
        });
    }

    #[test]
    fn the_floor_ends_an_attempt_at_its_own_deadline_and_tries_again() {
        run(async {
            let calls = Arc::new(AtomicU32::new(0));
            let counter = calls.clone();
            let hanging_once = service_fn(move |request: u64| {
                let first = counter.fetch_add(1, Relaxed) == 0;
                async move { if first { future::pending().await } else { Ok::<u64, Fault>(request) } }
            });
            let service = ByHand::new(Duration::from_secs(10), Duration::from_millis(5), hanging_once);
            assert_eq!(service.clone().oneshot(7).await, Ok(7));
            assert_eq!(calls.load(Relaxed), 2);
            assert_eq!(service.shared.in_flight.0.load(Relaxed), 0);
        });
    }

    #[test]
    fn the_floor_retries_within_its_budget_and_opens_its_circuit() {
        run(async {
            let calls = Arc::new(AtomicU32::new(0));
            let counter = calls.clone();
            let failing = service_fn(move |_: u64| {
                counter.fetch_add(1, Relaxed);
                future::ready(Err::<u64, Fault>(Fault))
            });
            let service = ByHand::new(Duration::from_secs(10), Duration::from_secs(1), failing);
            assert_eq!(service.clone().oneshot(7).await, Err(Refusal::Service(Fault)));
            assert_eq!(calls.load(Relaxed), ATTEMPTS);

            service.shared.budget.store(0, Relaxed);
            for _ in ATTEMPTS..20 {
                assert_eq!(service.clone().oneshot(7).await, Err(Refusal::Service(Fault)));
            }
            assert_eq!(calls.load(Relaxed), 20);
            assert_eq!(service.oneshot(7).await, Err(Refusal::CircuitOpen));
        });
    }
}
