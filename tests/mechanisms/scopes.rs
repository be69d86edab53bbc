//! Nested scopes of a call context: no deadline moves later.

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
async fn in_nested_scopes_the_earlier_deadline_counts_and_the_inner_scope_sets_the_rest() {
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
async fn an_inner_scope_leaves_the_outer_scope_unchanged() {
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
async fn a_scope_takes_the_deadline_of_the_scope_that_polls_it_and_not_of_the_one_that_made_it() {
    let now = Instant::now();
    let (soon, late) = (now + secs(1), now + secs(9));
    let looks = || async {
        let first = current();
        tokio::task::yield_now().await;
        (first, current())
    };
    // Made outside the scope that polls it.
    let made_outside = by(late).scope(looks());
    assert_eq!(by(soon).scope(made_outside).await, (Some(soon), Some(soon)));
    // Made inside a scope, and polled after it has ended.
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
    let inherited = async { context::spawn(async { current() }).await.unwrap() };
    assert_eq!(by(soon).scope(by(late).scope(inherited)).await, Some(soon));
    let escaped = async { tokio::spawn(by(late).scope(async { current() })).await.unwrap() };
    assert_eq!(by(soon).scope(escaped).await, Some(late), "`tokio::spawn` runs outside of all scopes");
}

#[tokio::test(start_paused = true)]
async fn a_client_in_an_inner_scope_ends_at_the_deadline_of_the_outer_scope() {
    let begin = Instant::now();
    let client = steadfast::client().timeout(secs(30)).service(Backend::always(Act::hang())).unwrap();
    by(begin + secs(2)).scope(by(begin + secs(20)).scope(client.oneshot(()))).await.unwrap_err();
    assert_eq!(Instant::now() - begin, secs(2));
}

#[tokio::test(start_paused = true)]
async fn a_future_is_dropped_in_its_scope_even_if_it_has_not_ended() {
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
async fn polling_a_scope_after_its_end_panics() {
    let mut scope = Box::pin(CallContext::new().scope(async {}));
    scope.as_mut().await;
    scope.await;
}
