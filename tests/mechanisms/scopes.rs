//! Scopes of a call context inside each other: no deadline moves away.

use crate::support::{Act, Backend, ms, secs};
use futures::poll;
use std::{cell::Cell, rc::Rc};
use steadfast::{CallContext, context, context::Criticality};
use tokio::time::{Instant, sleep};
use tower::ServiceExt;

fn by(deadline: Instant) -> CallContext {
    CallContext::new().with_deadline(deadline)
}

fn current() -> Option<Instant> {
    CallContext::current().deadline()
}

#[tokio::test(start_paused = true)]
async fn of_nested_scopes_the_earlier_deadline_counts_and_the_rest_is_that_of_the_inner_one() {
    let now = Instant::now();
    let (soon, late) = (now + secs(1), now + secs(9));
    let seen = async { current() };
    assert_eq!(by(soon).scope(by(late).scope(seen)).await, Some(soon));
    assert_eq!(by(late).scope(by(soon).scope(async { current() })).await, Some(soon));
    assert_eq!(by(soon).scope(CallContext::new().scope(async { current() })).await, Some(soon));
    assert_eq!(CallContext::new().scope(by(soon).scope(async { current() })).await, Some(soon));
    assert_eq!(by(soon).sync_scope(|| by(late).sync_scope(current)), Some(soon));
    assert_eq!(by(soon).scope(async { by(late).sync_scope(current) }).await, Some(soon));

    let outer = by(soon).with_criticality(Criticality::Sheddable).with_attempt(3);
    let inner = by(late).with_criticality(Criticality::CriticalPlus).with_attempt(1);
    let seen = outer.scope(inner.scope(async { CallContext::current() })).await;
    assert_eq!(seen, inner.with_deadline(soon));
    assert_eq!(current(), None);
}

#[tokio::test(start_paused = true)]
async fn after_an_inner_scope_the_outer_one_is_as_it_was() {
    let now = Instant::now();
    let (soon, late) = (now + secs(1), now + secs(9));
    let outer = async {
        by(soon).scope(sleep(ms(1))).await;
        let between = current();
        by(soon).sync_scope(|| ());
        (between, current())
    };
    assert_eq!(by(late).scope(outer).await, (Some(late), Some(late)));
}

#[tokio::test(start_paused = true)]
async fn a_scope_is_narrowed_by_the_one_in_which_it_is_polled_and_not_by_the_one_in_which_it_was_made() {
    let now = Instant::now();
    let (soon, late) = (now + secs(1), now + secs(9));
    let looks = || async {
        let first = current();
        tokio::task::yield_now().await;
        (first, current())
    };
    // Made outside of the scope that polls it.
    let made_outside = by(late).scope(looks());
    assert_eq!(by(soon).scope(made_outside).await, (Some(soon), Some(soon)));
    // Made inside of a scope, and polled after it.
    let made_inside = by(soon).sync_scope(|| by(late).scope(looks()));
    assert_eq!(made_inside.await, (Some(late), Some(late)));
    // Polled once inside and once outside.
    let mut moves = Box::pin(by(late).scope(looks()));
    assert!(poll!(Box::pin(by(soon).scope(moves.as_mut()))).is_pending());
    assert_eq!(moves.await, (Some(soon), Some(late)));
}

#[tokio::test(start_paused = true)]
async fn a_task_spawned_in_nested_scopes_inherits_the_earlier_deadline_and_keeps_it() {
    let now = Instant::now();
    let (soon, late) = (now + secs(1), now + secs(9));
    let task = by(soon).scope(by(late).scope(async { context::spawn(async { current() }) })).await;
    assert_eq!(task.await.unwrap(), Some(soon));
    let task = by(soon).scope(async { tokio::spawn(by(late).scope(async { current() })) }).await;
    assert_eq!(task.await.unwrap(), Some(late), "a task that is spawned by hand has the context it is given");
}

#[tokio::test(start_paused = true)]
async fn a_client_in_a_scope_of_its_own_ends_by_the_deadline_of_the_scope_around_it() {
    let begin = Instant::now();
    let client = steadfast::client().timeout(secs(30)).service(Backend::always(Act::hang())).unwrap();
    by(begin + secs(2)).scope(by(begin + secs(20)).scope(client.oneshot(()))).await.unwrap_err();
    assert_eq!(begin.elapsed(), secs(2));
}

#[tokio::test(start_paused = true)]
async fn what_a_future_drops_at_its_end_or_unended_is_dropped_in_its_scope() {
    struct Looks(Rc<Cell<Option<Instant>>>);
    impl Drop for Looks {
        fn drop(&mut self) {
            self.0.set(current());
        }
    }

    let (seen, soon) = (Rc::new(Cell::new(None)), Instant::now() + secs(1));
    let looks = || Looks(seen.clone());
    let held = looks();
    by(soon).scope(async move { drop(held) }).await;
    assert_eq!(seen.take(), Some(soon));

    let held = looks();
    let mut unended = Box::pin(by(soon).scope(async move {
        sleep(secs(9)).await;
        drop(held);
    }));
    assert!(poll!(unended.as_mut()).is_pending());
    drop(unended);
    assert_eq!(seen.take(), Some(soon));
    drop(by(soon).scope(std::future::pending::<Looks>()));
    let held = looks();
    drop(by(soon).scope(async move { drop(held) }));
    assert_eq!(seen.take(), Some(soon));
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "polled after it had ended")]
async fn a_scope_that_has_ended_does_not_wait_for_ever_when_it_is_polled_again() {
    let mut scope = Box::pin(CallContext::new().scope(async {}));
    scope.as_mut().await;
    scope.await;
}
