//! The messages that a dead worker leaves, and those that a live worker keeps.

use crate::durable_fixture::{
    Calls, Running, append, millis, noting, queue, readings, succeed, until, until_done, worker,
};
use crate::{server::RedisServer, trial::trials};
use futures::future::BoxFuture;
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use steadfast::load_level::durable::{Delivery, DurableQueue};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};

trials![
    the_messages_of_a_dead_worker_are_taken_over,
    a_message_whose_workers_die_becomes_a_dead_letter,
    suspects_are_called_one_at_a_time_and_others_wait,
    a_suspect_with_a_long_call_delays_others_for_a_second,
    a_suspect_that_is_given_back_remains_a_suspect,
    messages_that_waited_beside_a_suspect_are_no_suspects,
    a_message_is_not_taken_over_during_a_long_call,
    a_call_that_blocks_its_thread_keeps_its_message,
    a_waiting_message_that_another_worker_took_over_is_not_called,
    the_consumer_of_a_dead_worker_is_removed,
];

/// A service whose calls each wait for a permit.
fn one_for_each_permit(
    permits: &Arc<Semaphore>,
) -> impl Fn(Delivery) -> BoxFuture<'static, Result<(), Infallible>> + Clone + Send + 'static {
    let permits = permits.clone();
    move |_| {
        let permits = permits.clone();
        Box::pin(async move {
            permits.acquire().await.expect("it is never closed").forget();
            Ok(())
        })
    }
}

async fn never(_: Delivery) -> Result<(), Infallible> {
    std::future::pending().await
}

async fn the_messages_of_a_dead_worker_are_taken_over() {
    let (_server, queue) = queue().await;
    for number in 0..20 {
        append(&queue, &number.to_string()).await;
    }
    let calls = Calls::default();
    let dying = Running::start(worker(&queue, noting(&calls, never)).concurrency(10).prefetch(10));
    until("it has all", async || readings(&queue).await.in_progress == 20).await;
    dying.die().await;
    let began = Instant::now();
    let after = Calls::default();
    let running = Running::start(worker(&queue, noting(&after, succeed)));
    until_done(&queue, 20).await;
    let took = Instant::now() - began;
    assert!(took > millis(500) && took < millis(2000), "taken over after 800 ms: {took:?}");
    assert_eq!(after.by_text().len(), 20);
    let is_right = |delivery: &Delivery| delivery.attempt == 1 && delivery.may_have_begun;
    assert!(after.all().iter().all(is_right), "none of them died alone: {:?}", after.all());
    assert_eq!(running.stop().await.taken_over, 20);
}

async fn a_message_whose_workers_die_becomes_a_dead_letter() {
    let (_server, queue) = queue().await;
    append(&queue, "killer").await;
    // Once possibly beside others, and twice alone.
    for attempt in [1, 1, 2] {
        let calls = Calls::default();
        let dying = Running::start(worker(&queue, noting(&calls, never)).max_tries(2));
        until("it has it", async || calls.count() == 1).await;
        assert_eq!(calls.all()[0].attempt, attempt);
        dying.die().await;
    }
    let calls = Calls::default();
    let running = Running::start(worker(&queue, noting(&calls, succeed)).max_tries(2));
    until("it is dead", async || readings(&queue).await.dead == 1).await;
    assert_eq!(calls.count(), 0);
    let letters = queue.dead_letters(1).await.expect("a server that answers");
    assert_eq!((letters[0].attempts, &*letters[0].reason), (2, "the worker died during the call"));
    running.stop().await;
}

/// A queue with messages whose worker died.
async fn queue_with_suspects(texts: &[&str]) -> (RedisServer, DurableQueue) {
    let (server, queue) = queue().await;
    for text in texts {
        append(&queue, text).await;
    }
    let calls = Calls::default();
    let dying = Running::start(worker(&queue, noting(&calls, never)));
    until("they are called", async || calls.count() == texts.len()).await;
    dying.die().await;
    // Its last request for messages may still wait at the server, and would take one more.
    sleep(millis(300)).await;
    (server, queue)
}

async fn suspects_are_called_one_at_a_time_and_others_wait() {
    let suspects = ["suspect 1", "suspect 2", "suspect 3", "suspect 4"];
    let (_server, queue) = queue_with_suspects(&suspects).await;
    let (calls, in_flight, most) = (Calls::default(), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, highest) = (in_flight.clone(), most.clone());
    let service = noting(&calls, move |delivery: Delivery| {
        let (counted, highest) = (counted.clone(), highest.clone());
        async move {
            let now = counted.fetch_add(1, Ordering::Relaxed) + 1;
            if delivery.may_have_begun {
                highest.fetch_max(now, Ordering::Relaxed);
            }
            sleep(millis(50)).await;
            counted.fetch_sub(1, Ordering::Relaxed);
            Ok::<(), Infallible>(())
        }
    });
    let running = Running::start(worker(&queue, service));
    until("the suspects are taken over", async || running.monitor.readings().held > 0).await;
    append(&queue, "other").await;
    until_done(&queue, 5).await;
    assert_eq!(most.load(Ordering::Relaxed), 1);
    assert_eq!(calls.texts(), ["suspect 1", "suspect 2", "suspect 3", "suspect 4", "other"]);
    let report = running.stop().await;
    assert_eq!((report.succeeded, report.taken_over, report.dead), (5, 4, 0));
}

async fn a_suspect_with_a_long_call_delays_others_for_a_second() {
    let (_server, queue) = queue_with_suspects(&["long 1", "long 2"]).await;
    let calls = Calls::default();
    let long = async |delivery: Delivery| {
        if delivery.may_have_begun {
            sleep(millis(4000)).await;
        }
        Ok::<(), Infallible>(())
    };
    let running = Running::start(worker(&queue, noting(&calls, long)));
    until("the suspects are taken over", async || running.monitor.readings().held > 0).await;
    append(&queue, "other").await;
    until_done(&queue, 3).await;
    assert_eq!(calls.texts(), ["long 1", "long 2", "other"]);
    for times in calls.times().windows(2) {
        let waited = times[1] - times[0];
        assert!(waited >= millis(1000) && waited < millis(2000), "each is alone for a second: {waited:?}");
    }
    running.stop().await;
}

async fn a_suspect_that_is_given_back_remains_a_suspect() {
    let (_server, queue) = queue_with_suspects(&["suspect 1", "suspect 2"]).await;
    let (calls, may_end) = (Calls::default(), Arc::new(Semaphore::new(0)));
    let wait = one_for_each_permit(&may_end);
    let running = Running::start(worker(&queue, noting(&calls, wait)));
    until("one is called", async || calls.count() == 1).await;
    let stopping = tokio::spawn(running.stop());
    sleep(millis(50)).await;
    may_end.add_permits(1);
    let report = stopping.await.expect("it ends");
    assert_eq!((report.succeeded, report.given_back, report.unconfirmed), (1, 1, 0));
    let after = Calls::default();
    let running = Running::start(worker(&queue, noting(&after, succeed)));
    until_done(&queue, 2).await;
    let delivery = &after.all()[0];
    assert_eq!((delivery.attempt, delivery.may_have_begun), (1, true), "{delivery:?}");
    running.stop().await;
}

async fn messages_that_waited_beside_a_suspect_are_no_suspects() {
    let (server, queue) = queue_with_suspects(&["killer"]).await;
    let (calls, may_end) = (Calls::default(), Arc::new(Semaphore::new(0)));
    let end = may_end.clone();
    let wait = move |delivery: Delivery| {
        let end = end.clone();
        async move {
            match delivery.may_have_begun {
                true => never(delivery).await,
                false => {
                    end.acquire().await.expect("it is never closed").forget();
                    Ok(())
                }
            }
        }
    };
    // It has messages in calls and waiting messages before it takes over the killer.
    let dying = Running::start(worker(&queue, noting(&calls, wait)).concurrency(2).prefetch(6));
    for number in 0..4 {
        append(&queue, &format!("innocent {number}")).await;
    }
    until("it has all five", async || dying.monitor.readings().held == 5).await;
    // Two calls at once, each in a task of its own.
    let mut called = calls.texts();
    called.sort();
    assert_eq!(called, ["innocent 0", "innocent 1"]);
    may_end.add_permits(2);
    until("the killer is alone", async || calls.texts().contains(&"killer".to_owned())).await;
    dying.die().await;
    let after = Calls::default();
    let running = Running::start(worker(&queue, noting(&after, succeed)));
    until_done(&queue, 5).await;
    let mut seen: Vec<_> = after.all().iter().map(text_attempt_and_suspicion).collect();
    seen.sort();
    let innocent = |number| (format!("innocent {number}"), 1, false);
    assert_eq!(seen, [innocent(2), innocent(3), ("killer".to_owned(), 2, true)]);
    running.stop().await;
    drop(server);
}

fn text_attempt_and_suspicion(delivery: &Delivery) -> (String, u32, bool) {
    let text = String::from_utf8(delivery.payload.clone()).expect("text");
    (text, delivery.attempt, delivery.may_have_begun)
}

async fn a_message_is_not_taken_over_during_a_long_call() {
    let (_server, queue) = queue().await;
    let calls = Calls::default();
    let long = async |_| {
        sleep(millis(4000)).await;
        Ok::<(), Infallible>(())
    };
    // Five times the takeover time.
    let workers: Vec<_> = (0..3).map(|_| Running::start(worker(&queue, noting(&calls, long)).concurrency(2))).collect();
    for _ in 0..3 {
        append(&queue, "long").await;
    }
    until_done(&queue, 3).await;
    assert_eq!(calls.count(), 3);
    for running in workers {
        assert_eq!(running.stop().await.taken_over, 0);
    }
    assert_eq!(readings(&queue).await.redelivered, 0);
}

async fn a_call_that_blocks_its_thread_keeps_its_message() {
    let (_server, queue) = queue().await;
    let calls = Calls::default();
    let blocking = async |_| {
        let began = std::thread::spawn(|| std::thread::park_timeout(millis(2500)));
        began.join().expect("a thread that parks");
        Ok::<(), Infallible>(())
    };
    // The other thread of the runtime runs everything else.
    let running = Running::start(worker(&queue, noting(&calls, blocking)).concurrency(1));
    append(&queue, "blocking").await;
    until("it is called", async || calls.count() == 1).await;
    let other = Running::start(worker(&queue, noting(&calls, succeed)));
    until_done(&queue, 1).await;
    assert_eq!(calls.count(), 1);
    running.stop().await;
    other.stop().await;
}

async fn a_waiting_message_that_another_worker_took_over_is_not_called() {
    let (server, queue) = queue().await;
    let mut ids = Vec::new();
    for text in ["called", "taken", "taken too", "kept"] {
        ids.push(append(&queue, text).await.id);
    }
    let (calls, may_end) = (Calls::default(), Arc::new(Semaphore::new(0)));
    let wait = one_for_each_permit(&may_end);
    // It keeps its messages alive twice per second, and takes over after two seconds.
    let slow = worker(&queue, noting(&calls, wait)).concurrency(1).prefetch(3).takeover_after(millis(2000));
    let running = Running::start(slow);
    until("it has all", async || running.monitor.readings().held == 4).await;
    let stream = "steadfast:q:{orders}:stream";
    server.command(&["XCLAIM", stream, "workers", "another", "0", &ids[0], &ids[1], &ids[2], "JUSTID"]).await;
    until("it knows", async || running.monitor.readings().held == 2).await;
    may_end.add_permits(4);
    until("it has nothing left", async || running.monitor.readings().held == 0).await;
    let report = running.stop().await;
    assert_eq!(calls.texts(), ["called", "kept"], "the call that had begun goes on");
    assert_eq!((report.succeeded, report.given_back, report.unconfirmed), (2, 0, 0));
    assert_eq!(readings(&queue).await.in_progress, 2, "another consumer has them");
}

async fn the_consumer_of_a_dead_worker_is_removed() {
    let (server, queue) = queue().await;
    let calls = Calls::default();
    let dying = Running::start(worker(&queue, noting(&calls, succeed)).takeover_after(millis(100)));
    append(&queue, "one").await;
    until_done(&queue, 1).await;
    dying.die().await;
    let running = Running::start(worker(&queue, noting(&calls, succeed)).takeover_after(millis(100)));
    let consumers =
        async || match server.command(&["XINFO", "CONSUMERS", "steadfast:q:{orders}:stream", "workers"]).await {
            redis::Value::Array(consumers) => consumers.len(),
            other => panic!("{other:?}"),
        };
    append(&queue, "two").await;
    until_done(&queue, 2).await;
    assert_eq!(consumers().await, 2);
    let took = until("only one is known", async || consumers().await == 1).await;
    assert!(took > millis(300), "ten times the takeover time: {took:?}");
    running.stop().await;
}
