//! User code that takes time or panics: wakers, and clones and drops of requests, answers and keys. A layer that needs
//! the time afterwards reads the clock again. A drop that panics leaks no permit.

use crate::support::{Act, Backend, Failed, ms, secs};
use std::{
    convert::Infallible,
    future::ready,
    hash::{Hash, Hasher},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    ptr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, RawWaker, RawWakerVTable, Waker},
    time::Duration,
};
use steadfast::{
    Error, Outcome, Rejection,
    circuit_breaker::{Breaker, BreakerState},
    classify::AnyError,
    load_level::{LoadLevel, LoadLevelStage, Queue},
    load_shed::Limiter,
    rate_limit::{Keyed, Quota, RateLimit, RateLimitStage, TokenBucket},
    retry::{Backoff, Retry},
    shell::{Admission, AdmissionStage, Decision, Ending, Frame, Gate, GateStage, Leaf, StackLayer, Stage, TypedError},
};
use tokio::time::{Instant, advance};
use tower::{Layer, Service, ServiceExt, service_fn};

/// Lets virtual time pass without waiting.
fn take(time: Duration) {
    // The clock is advanced in the first poll.
    let _ = pin!(advance(time)).poll(&mut Context::from_waker(Waker::noop()));
}

/// A request or a key whose clones and drops take time.
#[derive(Debug, Default)]
struct Slow {
    clone: Duration,
    drop: Duration,
}

impl Clone for Slow {
    fn clone(&self) -> Self {
        take(self.clone);
        Self { ..*self }
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        take(self.drop);
    }
}

impl Hash for Slow {
    fn hash<H: Hasher>(&self, _state: &mut H) {}
}

impl PartialEq for Slow {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_refilled_during_the_clone_of_a_request_is_available() {
    let bucket = TokenBucket::builder(20, secs(1)).burst(1).build().unwrap();
    bucket.try_acquire(1).unwrap();
    // The timeout reads the clock before the clone.
    let client = steadfast::client().timeout(secs(10)).retry(Retry::new(2)).rate_limit(bucket);
    let client = client.service(Backend::always(Act::answer(200)));
    let answer = client.unwrap().oneshot(Slow { clone: ms(60), ..Slow::default() }).await;
    assert_eq!(answer.unwrap(), 200);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_has_its_whole_timeout_after_the_clone_of_its_request() {
    for before in [vec![], vec![Act::fail().after(ms(5))]] {
        let attempts = 1 + before.len();
        let backend = Backend::script(before, Act::answer(200).after(ms(5)));
        let breaker = Breaker::builder().consecutive_failures(2).build().unwrap();
        let client = steadfast::client()
            .timeout(secs(10))
            .retry(Retry::new(3).backoff(Backoff::none()).without_budget())
            .circuit_breaker(breaker.clone())
            .attempt_timeout(ms(50))
            .service(backend.clone())
            .unwrap();
        assert_eq!(client.oneshot(Slow { clone: ms(60), ..Slow::default() }).await.unwrap(), 200);
        assert_eq!((backend.calls(), breaker.state()), (attempts, BreakerState::Closed));
    }
}

/// A gate that asserts that the time of its frame is that of the clock.
#[derive(Clone)]
struct OnTime;

impl OnTime {
    #[track_caller]
    fn check(frame: &mut Frame) {
        assert_eq!(frame.now(), Instant::now());
    }
}

impl<Request> Gate<Request> for OnTime {
    type Permit = ();

    fn admit(&self, _request: &Request, frame: &mut Frame) -> Result<(), Rejection> {
        Self::check(frame);
        Ok(())
    }

    fn under_way(&self, _permit: &mut (), frame: &mut Frame) {
        Self::check(frame);
    }

    fn settle(&self, _permit: (), _ending: Ending, frame: &mut Frame) {
        Self::check(frame);
    }
}

/// A waker whose clones, wake-ups and drops take time.
fn slow_waker() -> Waker {
    const TABLE: RawWakerVTable = RawWakerVTable::new(clone, |_| take(ms(3)), |_| take(ms(4)), |_| take(ms(5)));
    fn clone(_: *const ()) -> RawWaker {
        take(ms(2));
        RawWaker::new(ptr::null(), &TABLE)
    }
    // SAFETY: it holds nothing, and nothing is read through it.
    unsafe { Waker::from_raw(clone(ptr::null())) }
}

/// Makes three calls at once through a gate, the stage, and another gate, with slow wakers and requests. The third call
/// is dropped after its first poll. The first is answered after 10 ms. The second is answered later, or is refused.
async fn on_time<St>(stage: impl FnOnce(GateStage<OnTime, Leaf>) -> St)
where
    St: Stage<Backend, Slow>,
{
    let stages = GateStage::new(OnTime, stage(GateStage::new(OnTime, Leaf::default())));
    let mut service =
        StackLayer::from_stages(stages, TypedError).layer(Backend::always(Act::answer(200).after(ms(10))));
    let waker = slow_waker();
    let cx = &mut Context::from_waker(&waker);
    let request = || Slow { clone: ms(1), drop: ms(2) };
    let (mut first, mut second) = (Box::pin(service.call(request())), Box::pin(service.call(request())));
    let mut third = Box::pin(service.call(request()));
    assert!(first.as_mut().poll(cx).is_pending());
    let mut polled = second.as_mut().poll(cx);
    let _ = third.as_mut().poll(cx);
    drop(third);
    let mut ended = 0;
    for _ in 0..100 {
        advance(ms(10)).await;
        if ended == 0 {
            ended += usize::from(first.as_mut().poll(cx).is_ready());
        }
        if polled.is_pending() {
            polled = second.as_mut().poll(cx);
        }
    }
    assert_eq!(ended, 1);
    let Poll::Ready(answer) = polled else { panic!("it hangs") };
    assert!(matches!(answer, Ok(200) | Err(Error::Rejected(_))), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn every_waiting_stage_is_on_time_after_slow_user_code() {
    on_time(|next| next).await;
    let queue = Queue::builder(1, 1).build().unwrap();
    on_time(|next| LoadLevelStage::with(queue.into(), next)).await;
    let bucket = || TokenBucket::builder(50, secs(1)).burst(1).build().unwrap();
    on_time(|next| RateLimitStage::with(RateLimit::new(bucket()), next)).await;
    on_time(|next| RateLimitStage::with(RateLimit::new(bucket()).wait(), next)).await;
    let keyed = Keyed::<Slow>::builder(10, Quota::new(50, secs(1)).with_burst(1)).build().unwrap();
    on_time(|next| RateLimitStage::with(RateLimit::by_key(keyed, |request: &Slow| request.clone()), next)).await;
    on_time(|next| GateStage::new(Breaker::builder().build().unwrap(), next)).await;
}

#[tokio::test(start_paused = true)]
async fn the_frame_reads_the_clock_again_only_after_a_queue_ran_code_of_a_waker() {
    let level = LoadLevel::new(Queue::builder(1, 2).max_wait(secs(60)).build().unwrap());
    let admission: &dyn Fn(&mut Frame) -> Decision<_, _> =
        &|frame| Admission::<(), (), Infallible>::admit(&level, &(), frame);
    let is_as_before = |frame: &mut Frame, before: Instant| {
        take(secs(1));
        frame.now() == before
    };

    // The first call takes the only place. For this, the queue does not read the clock.
    let mut frame = Frame::new();
    let Decision::Admitted(served) = admission(&mut frame) else { panic!("the queue is empty") };
    // The second call waits, and wakes no other call. The frame keeps its time.
    let before = frame.now();
    let Decision::Waits(mut place) = admission(&mut frame) else { panic!("one is served") };
    assert!(is_as_before(&mut frame, before));
    // The poll clones the waker, which may take time. The frame therefore reads the clock again.
    let mut cx = Context::from_waker(Waker::noop());
    let polled = Admission::<(), (), Infallible>::poll(&level, &mut place, &mut cx, &mut frame);
    assert!(polled.is_pending() && !is_as_before(&mut frame, before));

    // The call in the service ends, and wakes the waiter.
    let before = frame.now();
    Admission::<(), (), Infallible>::settle(&level, served, Ending::Panicked, &mut frame);
    assert!(!is_as_before(&mut frame, before));
    let Poll::Ready(Ok(served)) = Admission::<(), (), Infallible>::poll(&level, &mut place, &mut cx, &mut frame) else {
        panic!("its turn has come")
    };
    // No call waits, so none is woken.
    let before = frame.now();
    Admission::<(), (), Infallible>::settle(&level, served, Ending::Panicked, &mut frame);
    assert!(is_as_before(&mut frame, before));
}

#[tokio::test(start_paused = true)]
async fn the_clock_is_read_again_after_a_slow_drop_of_a_refused_request() {
    let breaker = Breaker::builder().build().unwrap();
    breaker.force_open();
    let stages = GateStage::new(OnTime, GateStage::new(breaker, Leaf::<AnyError>::default()));
    let service = StackLayer::from_stages(stages, TypedError).layer(Backend::always(Act::answer(200)));
    service.oneshot(Slow { drop: ms(60), ..Slow::default() }).await.unwrap_err();
}

/// An answer whose drop takes time.
#[derive(Debug)]
struct Answer(u16);

impl Drop for Answer {
    fn drop(&mut self) {
        take(ms(60));
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_has_its_whole_timeout_after_the_drop_of_an_answer() {
    let backend = Backend::script([Act::answer(500)], Act::answer(200).after(ms(5)));
    let service = ServiceExt::<()>::map_response(backend.clone(), Answer);
    let client = steadfast::client()
        .timeout(secs(10))
        .retry(Retry::new(2).backoff(Backoff::none()).without_budget())
        .attempt_timeout(ms(50))
        .classify(|result: Result<&Answer, &Failed>| match result {
            Ok(Answer(200)) => Outcome::Success,
            _ => Outcome::Failure,
        })
        .service(service)
        .unwrap();
    assert_eq!(client.oneshot(()).await.unwrap().0, 200);
    assert_eq!(backend.calls(), 2);
}

/// A request whose copies panic when they are dropped, once they are armed.
#[derive(Debug)]
struct Explosive {
    armed: Arc<AtomicBool>,
    is_copy: bool,
}

impl Clone for Explosive {
    fn clone(&self) -> Self {
        Self { armed: self.armed.clone(), is_copy: true }
    }
}

impl Drop for Explosive {
    fn drop(&mut self) {
        if self.is_copy && self.armed.load(Ordering::Relaxed) && !std::thread::panicking() {
            panic!("a request, as the test wants it");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_kept_request_that_panics_when_dropped_leaks_no_permit() {
    for act in [Act::hang(), Act::answer(200).after(ms(5)), Act::fail().after(ms(5))] {
        let (limiter, armed) = (Limiter::fixed(1).unwrap(), Arc::new(AtomicBool::new(false)));
        let breaker = Breaker::builder().consecutive_failures(1).open_for(ms(1)).probes(1).build().unwrap();
        breaker.try_acquire().unwrap().failure();
        advance(ms(1)).await;
        let mut client = steadfast::client()
            .retry(Retry::new(2).backoff(Backoff::none()))
            .circuit_breaker(breaker.clone())
            .load_shed(limiter.clone())
            .service(Backend::always(act))
            .unwrap();
        let mut call = Box::pin(client.call(Explosive { armed: armed.clone(), is_copy: false }));
        assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert_eq!((limiter.in_flight(), breaker.free_probes()), (1, 0));
        armed.store(true, Ordering::Relaxed);
        advance(ms(5)).await;
        let ended = catch_unwind(AssertUnwindSafe(|| {
            let _ = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            drop(call);
        }));
        assert!(ended.is_err(), "it did not panic");
        assert_eq!(limiter.in_flight(), 0, "{act:?}");
        let probe_is_back = breaker.free_probes() == 1 || breaker.state() != BreakerState::HalfOpen;
        assert!(probe_is_back, "{act:?}");
    }
}

/// An admission that lets each call wait for one poll, in a place whose drop panics.
struct Turnstile(Arc<AtomicUsize>);

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("the place panics when it is dropped");
    }
}

impl<Request, Response, ServiceError> Admission<Request, Response, ServiceError> for Turnstile {
    const READS_DEADLINE: bool = false;

    type Permit = ();
    type Place = Bomb;

    fn admit(&self, _: &Request, _: &mut Frame) -> Decision<(), Bomb> {
        Decision::Waits(Bomb)
    }

    fn poll(&self, _: &mut Bomb, _: &mut Context<'_>, _: &mut Frame) -> Poll<Result<(), Rejection>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }

    fn leave(&self, _: &mut Bomb, _: &mut Frame) {}

    fn settle(&self, (): (), _: Ending, _: &mut Frame) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_place_that_panics_when_dropped_leaks_no_permit() {
    let held = Arc::new(AtomicUsize::new(0));
    let stages = AdmissionStage::with(Turnstile(held.clone()), Leaf::<AnyError>::default());
    let stack = StackLayer::from_stages(stages, TypedError).layer(service_fn(|_: u32| ready(Ok::<_, Infallible>(7))));
    assert!(tokio::spawn(stack.oneshot(5)).await.unwrap_err().is_panic());
    assert_eq!(held.load(Ordering::Relaxed), 0);
}
