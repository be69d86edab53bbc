use super::*;
use crate::load_level::durable::{
    entry::Entry,
    worker::{call::Target, memory::Memory},
};
use std::{convert::Infallible, future::pending, marker::PhantomData, sync::mpsc, task::Poll};
use tokio::time::timeout;
use tower::service_fn;

fn jobs(payloads: &[&str]) -> Vec<Job> {
    let job = |(number, payload): (usize, &&str)| {
        let entry = Entry::parse(format!("1-{number}").as_bytes()).expect("an identity");
        let ticket = Ticket { entry, memory: Memory::of(entry, None) };
        let payload = payload.as_bytes().to_vec();
        let delivery =
            Delivery { id: entry.to_string(), payload, attempt: 1, may_have_begun: false, age: Duration::ZERO };
        Job { ticket, delivery }
    };
    payloads.iter().enumerate().map(job).collect()
}

/// Begins calls of a service with messages of these payloads.
fn begin<F, R>(calls: &mut Calls, payloads: &[&str], service: F)
where
    F: Fn(String) -> R + Clone + Send + 'static,
    R: Future<Output = Result<(), Infallible>> + Send,
{
    let decode = |delivery: Delivery| String::from_utf8(delivery.payload);
    let service = Arc::new(Mutex::new(service_fn(service)));
    calls.begin(jobs(payloads), &Arc::new(Target { decode: Arc::new(decode), service, decodes_to: PhantomData }));
}

/// Returns the verdicts of the next calls that end, in the order of their messages.
async fn ends(calls: &mut Calls, count: usize) -> Vec<String> {
    let mut all = Vec::new();
    while all.len() < count {
        let mut ended = Vec::new();
        let some = poll_fn(|cx| if calls.poll_ended(&mut ended, cx) { Poll::Ready(()) } else { Poll::Pending });
        timeout(Duration::from_secs(10), some).await.expect("an end in time");
        all.append(&mut ended);
    }
    all.sort_by_key(|(ticket, _)| ticket.entry);
    let text = |(_, verdict)| match verdict {
        Verdict::Succeeded => "succeeded".to_owned(),
        Verdict::Failed { reason } | Verdict::Undecodable { reason } => reason,
        Verdict::Rejected { .. } => "rejected".to_owned(),
    };
    all.into_iter().map(text).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_blocks_its_thread_delays_no_other_call() {
    let mut calls = Calls::new();
    let (other_ends, other_ended) = mpsc::channel();
    let other_ended = Arc::new(Mutex::new(other_ended));
    begin(&mut calls, &["blocks", "ends"], move |payload| {
        let (other_ends, other_ended) = (other_ends.clone(), other_ended.clone());
        async move {
            match &*payload {
                "blocks" => lock(&other_ended).recv_timeout(Duration::from_secs(5)).expect("the other call"),
                _ => other_ends.send(()).expect("the call that blocks still waits"),
            }
            Ok(())
        }
    });
    assert_eq!(ends(&mut calls, 2).await, ["succeeded", "succeeded"]);
    assert_eq!(calls.in_flight(), 0);
}

#[tokio::test]
async fn one_task_makes_all_calls_that_come_one_after_the_other() {
    let mut calls = Calls::new();
    for _ in 0..100 {
        begin(&mut calls, &["one"], async |_| Ok(()));
        assert_eq!(ends(&mut calls, 1).await, ["succeeded"]);
    }
    assert_eq!(calls.tasks.len(), 1);
}

#[tokio::test]
async fn a_panic_ends_its_own_call_only() {
    let mut calls = Calls::new();
    for _ in 0..3 {
        begin(&mut calls, &["bad", "good"], async |payload| match &*payload {
            "bad" => panic!("what a pity"),
            _ => Ok(()),
        });
        assert_eq!(ends(&mut calls, 2).await, ["panicked: what a pity", "succeeded"]);
    }
    assert_eq!(calls.tasks.len(), 2);
}

#[tokio::test]
async fn a_call_whose_task_ends_counts_as_failed() {
    let mut calls = Calls::new();
    begin(&mut calls, &["one", "another"], async |_| pending().await);
    yield_now().await;
    calls.tasks.abort_all();
    assert_eq!(ends(&mut calls, 2).await, ["the task of the call has ended", "the task of the call has ended"]);
}

#[tokio::test]
async fn calls_stop_when_they_are_dropped() {
    let mut calls = Calls::new();
    let token = Arc::new(());
    let held = token.clone();
    begin(&mut calls, &["one", "another"], move |_| {
        let held = held.clone();
        async move {
            pending::<()>().await;
            drop(held);
            Ok(())
        }
    });
    yield_now().await;
    drop(calls);
    yield_now().await;
    assert_eq!(Arc::strong_count(&token), 1);
}

#[tokio::test]
async fn a_task_that_has_ended_is_replaced() {
    let mut calls = Calls::new();
    begin(&mut calls, &["one"], async |_| pending().await);
    yield_now().await;
    calls.tasks.abort_all();
    assert_eq!(ends(&mut calls, 1).await, ["the task of the call has ended"]);
    begin(&mut calls, &["another"], async |_| Ok(()));
    assert_eq!(ends(&mut calls, 1).await, ["succeeded"]);
}

#[tokio::test]
async fn a_panic_payload_that_panics_when_dropped_ends_only_its_call() {
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("the payload panics when it is dropped");
        }
    }

    let mut calls = Calls::new();
    begin(&mut calls, &["one", "another"], async |payload| match &*payload {
        "one" => std::panic::panic_any(Bomb),
        _ => Ok(()),
    });
    assert_eq!(ends(&mut calls, 2).await, ["panicked: without a message", "succeeded"]);
    assert_eq!(calls.tasks.len(), 2);
    assert!(calls.tasks.try_join_next().is_none(), "a task has ended");
}
