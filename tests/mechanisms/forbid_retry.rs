//! In a chain of calls, only one level retries: a retry that gives up forbids outer layers to retry.

use crate::support::{ms, secs};
use futures::{FutureExt, future::join};
use std::{
    future::{pending, poll_fn},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::Poll,
};
use steadfast::{
    CallContext, Outcome,
    classify::Classify,
    retry::{Retry, RetryBudget},
    shell::{Border, Denied, Frame},
};
use tower::{BoxError, Service, ServiceExt, service_fn, util::BoxCloneSyncService};

type Boxed = BoxCloneSyncService<(), (), BoxError>;

/// A service that counts its calls and fails all of them.
fn dead() -> (Arc<AtomicUsize>, Boxed) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let service = service_fn(move |()| {
        counted.fetch_add(1, Relaxed);
        async { Err::<(), BoxError>("dead".into()) }
    });
    (calls, BoxCloneSyncService::new(service))
}

/// Wraps a service in a client that makes up to `attempts` attempts, without a budget and without waits.
fn retried(attempts: u32, service: Boxed) -> Boxed {
    let retry = Retry::new(attempts).without_budget().backoff(steadfast::retry::Backoff::none());
    BoxCloneSyncService::new(steadfast::client().retry(retry).boxed_error().service(service).unwrap())
}

/// A border that returns the result of a call, and whether a retry is forbidden when the call exits.
#[derive(Clone)]
struct Marks;

impl<Request, Response, E> Border<Request, Response, E> for Marks {
    type Response = (bool, Result<Response, steadfast::Error<E>>);
    type Error = E;
    type Seen = ();

    fn enter(&self, _: &mut Request, _: &mut Frame) {}

    fn exit(
        &self,
        (): (),
        result: Result<Response, steadfast::Error<E>>,
        frame: &mut Frame,
    ) -> Result<Self::Response, E> {
        Ok((frame.is_retry_forbidden(), result))
    }
}

#[tokio::test(start_paused = true)]
async fn three_levels_of_three_attempts_call_a_dead_leaf_three_times() {
    let (calls, leaf) = dead();
    let chain = retried(3, retried(3, retried(3, leaf)));
    assert!(chain.oneshot(()).await.is_err());
    assert_eq!(calls.load(Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn a_level_without_retries_leaves_them_to_outer_levels() {
    let (calls, leaf) = dead();
    assert!(retried(3, retried(1, leaf)).oneshot(()).await.is_err());
    assert_eq!(calls.load(Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn an_empty_inner_budget_ends_the_outer_call() {
    let (calls, leaf) = dead();
    let broke = RetryBudget::builder().ratio(0.0).no_floor().build().unwrap();
    let inner = steadfast::client().retry(Retry::new(3).budget(broke)).boxed_error().service(leaf).unwrap();
    assert!(retried(3, BoxCloneSyncService::new(inner)).oneshot(()).await.is_err());
    assert_eq!(calls.load(Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_forbidden_retry_is_denied_as_marked_and_forbidden_to_outer_levels() {
    let service = service_fn(async |()| {
        CallContext::forbid_retry();
        Err::<(), _>("no use")
    });
    let seen = Arc::new(AtomicUsize::new(0));
    let noted = seen.clone();
    let (forbidden, result) = steadfast::client()
        .retry(Retry::new(3).without_budget())
        .observe("leaf", Noted(noted))
        .border(Marks)
        .service(service)
        .unwrap()
        .oneshot(())
        .await
        .unwrap();
    assert!(forbidden && result.is_err());
    assert_eq!(seen.load(Relaxed), 1);
}

/// An observer that counts the calls that ended with [`Denied::Marked`]: without a retry, because one was forbidden.
#[derive(Clone)]
struct Noted(Arc<AtomicUsize>);

impl steadfast::shell::Observer for Noted {
    type Watch = ();

    fn begin(&self, _: &steadfast::shell::Begin) {}

    fn end(&self, (): (), end: &steadfast::shell::End<'_>) {
        if end.retries().denied() == Some(Denied::Marked) {
            self.0.fetch_add(1, Relaxed);
        }
    }
}

/// Classifies every error as a failure that forbids a retry.
#[derive(Clone)]
struct Final;

impl<Response, E> Classify<Response, E> for Final {
    fn classify(&self, result: Result<&Response, &E>) -> Outcome {
        if result.is_ok() { Outcome::Success } else { Outcome::Failure }
    }

    fn forbids_retry(&self, result: Result<&Response, &E>) -> bool {
        result.is_err()
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_forbids_a_retry_is_retried_at_no_level() {
    let (calls, leaf) = dead();
    let inner = steadfast::client()
        .retry(Retry::new(3).without_budget())
        .classify_with(Final)
        .boxed_error()
        .service(leaf)
        .unwrap();
    assert!(retried(3, BoxCloneSyncService::new(inner)).oneshot(()).await.is_err());
    assert_eq!(calls.load(Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_learns_of_a_forbidden_retry_although_its_handler_answers_polls_later() {
    let handler = service_fn(async |()| {
        let (_, leaf) = dead();
        let _ = retried(2, leaf).oneshot(()).await;
        tokio::time::sleep(ms(5)).await;
        Ok::<_, BoxError>("a page without the part that failed")
    });
    let server = steadfast::server().timeout(secs(1)).border(Marks).service(handler).unwrap();
    let (forbidden, answer) = server.oneshot(()).await.unwrap();
    assert!(forbidden);
    assert_eq!(answer.unwrap(), "a page without the part that failed");
}

#[tokio::test(start_paused = true)]
async fn a_server_learns_of_a_forbidden_retry_if_its_timeout_ends_the_call() {
    let handler = service_fn(async |()| {
        let (_, leaf) = dead();
        let _ = retried(2, leaf).oneshot(()).await;
        pending::<Result<(), BoxError>>().await
    });
    let server = steadfast::server().timeout(secs(1)).border(Marks).service(handler).unwrap();
    let (forbidden, answer) = server.oneshot(()).await.unwrap();
    assert!(forbidden && answer.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_handler_whose_calls_were_answered_forbids_nothing() {
    let handler = service_fn(async |()| {
        let up = BoxCloneSyncService::new(service_fn(async |()| Ok::<(), BoxError>(())));
        retried(3, up).oneshot(()).await
    });
    let (forbidden, answer) = steadfast::server().border(Marks).service(handler).unwrap().oneshot(()).await.unwrap();
    assert!(!forbidden && answer.is_ok());
}

#[tokio::test(start_paused = true)]
async fn calls_that_one_task_polls_side_by_side_do_not_forbid_each_other() {
    let (calls, leaf) = dead();
    let forbidding = service_fn(async |()| {
        CallContext::forbid_retry();
        Err::<(), BoxError>("no use".into())
    });
    let forbidding = retried(3, BoxCloneSyncService::new(forbidding));
    // In one order the call that forbids a retry is polled before the other call, in the other order after it.
    for swapped in [false, true] {
        calls.store(0, Relaxed);
        let (one, other) = (forbidding.clone().oneshot(()), retried(3, leaf.clone()).oneshot(()));
        if swapped {
            let _ = join(other, one).await;
        } else {
            let _ = join(one, other).await;
        }
        assert_eq!(calls.load(Relaxed), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_panics_after_it_forbade_a_retry_leaves_nothing_to_later_ones() {
    let service = service_fn(async |()| -> Result<(), BoxError> {
        CallContext::forbid_retry();
        panic!("as it should")
    });
    let mut stack = retried(3, BoxCloneSyncService::new(service));
    let call = stack.call(());
    assert!(std::panic::AssertUnwindSafe(call).catch_unwind().await.is_err());
    let (calls, leaf) = dead();
    assert!(retried(3, leaf).oneshot(()).await.is_err());
    assert_eq!(calls.load(Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn forbidding_a_retry_outside_a_call_does_nothing() {
    CallContext::forbid_retry();
    let (calls, leaf) = dead();
    assert!(retried(3, leaf).oneshot(()).await.is_err());
    assert_eq!(calls.load(Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn a_spawned_task_does_not_reach_the_call_that_spawned_it() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let service = service_fn(move |()| {
        counted.fetch_add(1, Relaxed);
        async {
            let task = CallContext::current().scope(async { CallContext::forbid_retry() });
            tokio::spawn(task).await?;
            Err::<(), BoxError>("failed".into())
        }
    });
    assert!(retried(2, BoxCloneSyncService::new(service)).oneshot(()).await.is_err());
    assert_eq!(calls.load(Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_retry_forbidden_in_a_scope_of_the_handler_stays_in_that_scope() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let service = service_fn(move |()| {
        counted.fetch_add(1, Relaxed);
        async {
            CallContext::current().scope(async { CallContext::forbid_retry() }).await;
            CallContext::current().sync_scope(CallContext::forbid_retry);
            Err::<(), BoxError>("failed".into())
        }
    });
    assert!(retried(2, BoxCloneSyncService::new(service)).oneshot(()).await.is_err());
    assert_eq!(calls.load(Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_forbids_a_retry_and_is_then_timed_out_is_the_last() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let service = service_fn(move |()| {
        counted.fetch_add(1, Relaxed);
        let mut first = true;
        poll_fn(move |_| {
            if std::mem::take(&mut first) {
                CallContext::forbid_retry();
            }
            Poll::<Result<(), BoxError>>::Pending
        })
    });
    let stack =
        steadfast::client().retry(Retry::new(3).without_budget()).attempt_timeout(ms(10)).service(service).unwrap();
    assert!(stack.oneshot(()).await.is_err());
    assert_eq!(calls.load(Relaxed), 1);
}
