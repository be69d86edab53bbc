//! A future that a test polls by hand, with a count of its wake-ups.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    ptr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, RawWaker, RawWakerVTable, Wake, Waker},
    time::Duration,
};

/// A future under test.
pub struct Task<F: Future + Unpin> {
    future: F,
    wakes: Arc<Wakes>,
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl<F: Future + Unpin> Task<F> {
    pub fn new(future: F) -> Self {
        Self { future, wakes: Arc::default() }
    }

    /// Polls once.
    pub fn poll(&mut self) -> Poll<F::Output> {
        let waker = Waker::from(self.wakes.clone());
        Pin::new(&mut self.future).poll(&mut Context::from_waker(&waker))
    }

    /// Polls once, and expects a panic.
    pub fn poll_panics(&mut self) {
        let polled = catch_unwind(AssertUnwindSafe(|| self.poll().is_ready()));
        assert!(polled.is_err(), "the poll should have panicked, but was {polled:?}");
    }

    /// Polls until the future is ready; the paused clock jumps from timer to timer.
    pub async fn resolve(&mut self) -> F::Output {
        Pin::new(&mut self.future).await
    }

    /// Returns the number of wake-ups so far.
    pub fn wakes(&self) -> usize {
        self.wakes.0.load(Ordering::Relaxed)
    }

    /// Gives the task another waker, with its own count. Returns the count of the old one.
    pub fn change_waker(&mut self) -> impl Fn() -> usize + use<F> {
        let old = std::mem::take(&mut self.wakes);
        move || old.0.load(Ordering::Relaxed)
    }
}

/// Fails the test if nothing happens any more. The paused clock then jumps to the end of this timeout.
pub async fn in_finite_time<T>(future: impl Future<Output = T>) -> T {
    let ended = tokio::time::timeout(Duration::from_secs(7 * 24 * 60 * 60), future).await;
    ended.expect("the test waits for something that never comes")
}

/// Lets all other tasks of the runtime do what they can.
pub async fn settle() {
    for _ in 0..16 {
        tokio::task::yield_now().await;
    }
}

/// Advances the clock, and lets all other tasks run.
pub async fn pass(duration: Duration) {
    tokio::time::advance(duration).await;
    settle().await;
}

/// Advances the clock without waiting, as if user code took this time.
pub fn advance_within(duration: Duration) {
    // tokio advances the clock in the first poll of this future.
    let _ = pin!(tokio::time::advance(duration)).poll(&mut Context::from_waker(Waker::noop()));
}

/// A waker that runs this function whenever it is cloned, woken or dropped.
pub fn waker_that(act: &'static fn()) -> Waker {
    const TABLE: RawWakerVTable = RawWakerVTable::new(clone, run, run, run);
    fn clone(act: *const ()) -> RawWaker {
        run(act);
        RawWaker::new(act, &TABLE)
    }
    fn run(act: *const ()) {
        // SAFETY: `act` is the `&'static fn()` that `waker_that` received.
        unsafe { (*act.cast::<fn()>())() }
    }
    // SAFETY: nothing is owned, and the functions of the table may run on any thread.
    unsafe { Waker::from_raw(clone(ptr::from_ref(act).cast())) }
}

/// Polls all futures in each poll of one task, so that its coop budget is not enough for them.
pub async fn all<F: Future + Unpin>(futures: Vec<F>) -> Vec<F::Output> {
    let mut slots: Vec<Result<F::Output, F>> = futures.into_iter().map(Err).collect();
    std::future::poll_fn(|cx| {
        let mut pending = false;
        for slot in &mut slots {
            if let Err(future) = slot {
                match Pin::new(future).poll(cx) {
                    Poll::Ready(output) => *slot = Ok(output),
                    Poll::Pending => pending = true,
                }
            }
        }
        if pending { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    slots.into_iter().filter_map(Result::ok).collect()
}
