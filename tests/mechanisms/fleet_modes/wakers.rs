//! Wakers of callers that wait for the store. A waker may call the limit that wakes it, and may panic.

use crate::support::{ms, secs};
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    task::{Context, Wake, Waker},
    thread,
};
use steadfast::rate_limit::{
    Quota,
    distributed::{Embedded, Exact, Flusher, Leased},
};
use tokio::{runtime, time::sleep};

/// A waker that calls a function once.
struct Does<F>(F, AtomicBool);

impl<F: Fn() + Send + Sync + 'static> Wake for Does<F> {
    fn wake(self: Arc<Self>) {
        if !self.1.swap(true, Ordering::SeqCst) {
            (self.0)();
        }
    }
}

fn waker(act: impl Fn() + Send + Sync + 'static) -> Waker {
    Waker::from(Arc::new(Does(act, AtomicBool::new(false))))
}

fn poll_once<F: Future>(future: F) {
    let _ = Box::pin(future).as_mut().poll(&mut Context::from_waker(Waker::noop()));
}

type Asking = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Polls a call, so that it waits with its waker, and passes the flusher to `then`. The call must end within 2 s of
/// tokio's paused time. All of this runs on a thread of its own: a deadlock fails the test, and does not hang it.
fn on_a_thread_of_its_own(then: fn(Flusher), limit: fn() -> (Asking, Waker, Flusher)) {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let clock = runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        clock.block_on(async {
            let (mut asking, waker, flusher) = limit();
            assert!(asking.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            then(flusher);
            for _ in 0..20 {
                sleep(ms(100)).await;
            }
            assert!(asking.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
        });
        sender.send(()).unwrap();
    });
    receiver.recv_timeout(secs(20)).expect("a caller was woken with a lock held");
}

fn run(flusher: Flusher) {
    tokio::spawn(flusher.run());
}

/// Returns a call of this limit, a waker for it, and the flusher. The waker reads the limit, and calls it again for the
/// key that the first call waits for.
macro_rules! asks_again {
    ($limit:expr) => {{
        let (limit, flusher) = $limit;
        let again = limit.clone();
        let waker = waker(move || {
            let _ = again.readings();
            poll_once(again.acquire(b"key", 1));
        });
        let asking: Asking = Box::pin(async move { drop(limit.acquire(b"key", 1).await) });
        (asking, waker, flusher)
    }};
}

fn exact() -> (Asking, Waker, Flusher) {
    asks_again!(Exact::builder(Embedded::new(), Quota::new(1_000, secs(1))).build().unwrap())
}

fn leased() -> (Asking, Waker, Flusher) {
    asks_again!(Leased::builder(Embedded::new(), 1_000, secs(1)).build().unwrap())
}

#[test]
fn a_waker_may_ask_the_limit_that_answers() {
    on_a_thread_of_its_own(run, exact);
    on_a_thread_of_its_own(run, leased);
}

#[test]
fn a_waker_may_ask_the_limit_whose_flusher_is_dropped() {
    on_a_thread_of_its_own(drop, exact);
    on_a_thread_of_its_own(drop, leased);
}

/// Asserts that the flusher continues although each waker panics.
async fn answers_the_next(mut asking: Vec<Asking>, flusher: Flusher) {
    for asking in &mut asking {
        let waker = waker(|| panic!("a waker, as the test wants it"));
        assert!(asking.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    let running = tokio::spawn(flusher.run());
    sleep(secs(3)).await;
    assert!(!running.is_finished());
    for asking in &mut asking {
        assert!(asking.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
    }
}

#[tokio::test(start_paused = true)]
async fn a_waker_that_panics_costs_the_limit_neither_its_flusher_nor_an_answer() {
    let (limit, flusher) = Exact::builder(Embedded::new(), Quota::new(1_000, secs(1))).build().unwrap();
    let asking = |key: &'static [u8]| -> Asking {
        let limit = limit.clone();
        Box::pin(async move { drop(limit.acquire(key, 1).await.unwrap()) })
    };
    answers_the_next(vec![asking(b"one"), asking(b"one"), asking(b"another")], flusher).await;
    assert!(limit.readings().store.is_up);

    let (limit, flusher) = Leased::builder(Embedded::new(), 1_000, secs(1)).build().unwrap();
    let asking = |key: &'static [u8]| -> Asking {
        let limit = limit.clone();
        Box::pin(async move { drop(limit.acquire(key, 1).await) })
    };
    answers_the_next(vec![asking(b"one"), asking(b"one"), asking(b"another")], flusher).await;
}

/// The waker of the first caller drops the second caller, which has a grant. The token must be available again.
#[tokio::test(start_paused = true)]
async fn a_grant_to_a_caller_that_leaves_during_the_wakeups_is_returned() {
    let (limit, flusher) = Exact::builder(Embedded::new(), Quota::new(2, secs(1_000))).build().unwrap();
    let asking = || -> Asking {
        let limit = limit.clone();
        Box::pin(async move { drop(limit.acquire(b"key", 1).await.unwrap()) })
    };
    let (mut first, mut second) = (asking(), asking());
    let goes = Arc::new(std::sync::Mutex::new(None::<Asking>));
    let last = goes.clone();
    let waker = waker(move || drop(last.lock().unwrap().take()));
    assert!(first.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    assert!(second.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    *goes.lock().unwrap() = Some(second);
    tokio::spawn(flusher.run());
    sleep(secs(1)).await;
    assert!(goes.lock().unwrap().is_none());
    assert!(limit.acquire(b"key", 1).await.is_ok(), "the token of the dropped caller is lost");
    assert!(limit.acquire(b"key", 1).await.is_err());
}
