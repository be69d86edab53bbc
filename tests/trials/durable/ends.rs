//! The end of a delivery: another try, a dead letter, or success.

use crate::durable_fixture::{
    Calls, Running, append, builder, decode, millis, noting, queue, readings, succeed, until, until_done, worker,
};
use crate::{server::RedisServer, trial::trials};
use std::{convert::Infallible, str::Utf8Error, time::Duration};
use steadfast::{
    Error, Rejection,
    error::Overloaded,
    load_level::durable::{AppendError, Delivery},
};
use tokio::time::sleep;
use tower::service_fn;

trials![
    a_panic_payload_that_panics_when_dropped_ends_no_worker,
    a_failed_message_is_redelivered_with_a_growing_delay,
    poison_becomes_a_dead_letter_with_its_reason,
    an_undecodable_message_becomes_a_dead_letter_at_once,
    a_dead_letter_can_be_revived,
    the_oldest_dead_letters_are_removed_first,
    a_message_older_than_max_age_is_dropped,
    a_panic_fails_only_its_own_message,
    a_rejection_does_not_count_as_a_try,
    the_instance_that_was_polled_ready_is_called,
    a_worker_keeps_its_concurrency_and_its_pace,
    a_shutdown_ends_the_calls_and_gives_back_the_waiting_messages,
];

async fn a_failed_message_is_redelivered_with_a_growing_delay() {
    let (_server, queue) = queue().await;
    let calls = Calls::default();
    let third_time = async |delivery: Delivery| if delivery.attempt < 4 { Err("not yet") } else { Ok(()) };
    let running = Running::start(worker(&queue, noting(&calls, third_time)));
    let receipt = append(&queue, "hard").await;
    until_done(&queue, 1).await;
    let deliveries = calls.all();
    assert_eq!(deliveries.iter().map(|delivery| delivery.attempt).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert!(deliveries.iter().all(|delivery| delivery.id == receipt.id));
    assert!(deliveries[3].age >= millis(700), "since its first append: {:?}", deliveries[3].age);
    // A worker looks every 100 ms for messages that are due.
    for (times, delay) in calls.times().windows(2).zip([100, 200, 400]) {
        let waited = times[1] - times[0];
        assert!(waited >= millis(delay) && waited < millis(delay + 200), "{waited:?} for {delay} ms");
    }
    assert_eq!(readings(&queue).await.redelivered, 3);
    let report = running.stop().await;
    assert_eq!((report.failed, report.succeeded), (3, 1));
}

async fn poison_becomes_a_dead_letter_with_its_reason() {
    let (_server, queue) = queue().await;
    let calls = Calls::default();
    let fail = async |_| Err::<(), _>(Error::Service(std::fmt::Error));
    let running = Running::start(worker(&queue, noting(&calls, fail)).max_tries(3));
    let receipt = append(&queue, "poison").await;
    until("it is dead", async || readings(&queue).await.dead == 1).await;
    let now = readings(&queue).await;
    assert_eq!((calls.count(), now.backlog(), now.dead_letters, now.acknowledged), (3, 0, 1, 0));
    let letters = queue.dead_letters(10).await.expect("a server that answers");
    assert_eq!((letters.len(), &letters[0].message_id, letters[0].attempts), (1, &receipt.id, 3));
    assert_eq!(letters[0].payload, b"poison");
    assert!(letters[0].reason.starts_with("the service failed: an error occurred"), "{}", letters[0].reason);
    assert_eq!(running.stop().await.dead, 1);
}

async fn an_undecodable_message_becomes_a_dead_letter_at_once() {
    let (_server, queue) = queue().await;
    let text = |delivery: Delivery| Ok::<_, Utf8Error>(std::str::from_utf8(&delivery.payload)?.to_owned());
    let service = service_fn(async |_: String| Ok::<(), Infallible>(()));
    let running = Running::start_built(queue.worker(text, service).build().expect("valid settings"));
    let mut producer = queue.producer(|bytes: &'static [u8]| Ok::<_, Infallible>(bytes));
    tower::Service::call(&mut producer, b"\xff").await.expect("room");
    tower::Service::call(&mut producer, b"text").await.expect("room");
    until("one is done, one is dead", async || {
        let now = readings(&queue).await;
        (now.acknowledged, now.dead) == (1, 1)
    })
    .await;
    let letters = queue.dead_letters(10).await.expect("a server that answers");
    assert_eq!((&letters[0].payload[..], letters[0].attempts), (&b"\xff"[..], 1));
    assert!(letters[0].reason.starts_with("undecodable: invalid utf-8"), "{}", letters[0].reason);
    running.stop().await;
}

async fn a_dead_letter_can_be_revived() {
    let server = RedisServer::start().await;
    let queue = builder(&server).depth(2).connect().await.expect("a working server");
    let calls = Calls::default();
    let fail = async |_| Err::<(), _>("no");
    let running = Running::start(worker(&queue, noting(&calls, fail)).max_tries(1));
    append(&queue, "one").await;
    until("it is dead", async || readings(&queue).await.dead == 1).await;
    running.stop().await;
    let letter = queue.dead_letters(1).await.expect("a server that answers").remove(0);
    append(&queue, "two").await;
    append(&queue, "three").await;
    let error = queue.revive(&letter.id).await.expect_err("there is no room");
    assert!(matches!(error, AppendError::Rejected(Rejection::QueueFull(_))), "{error:?}");
    assert_eq!(readings(&queue).await.dead_letters, 1);
    let running = Running::start(worker(&queue, noting(&calls, succeed)).concurrency(1));
    until_done(&queue, 2).await;
    let receipt = queue.revive(&letter.id).await.expect("room").expect("the letter");
    until_done(&queue, 3).await;
    let last = calls.all().pop().expect("calls");
    assert_eq!((last.id, &last.payload[..], last.attempt), (receipt.id, &b"one"[..], 1));
    assert_eq!(queue.revive(&letter.id).await.expect("room"), None, "it is gone");
    assert_eq!(readings(&queue).await.dead_letters, 0);
    running.stop().await;
}

async fn the_oldest_dead_letters_are_removed_first() {
    let server = RedisServer::start().await;
    let queue = builder(&server).dead_letters(3).connect().await.expect("a working server");
    for number in 0..8 {
        append(&queue, &number.to_string()).await;
    }
    let calls = Calls::default();
    let fail = async |_| Err::<(), _>("no");
    let running = Running::start(worker(&queue, noting(&calls, fail)).max_tries(1).concurrency(1));
    until("all are dead", async || readings(&queue).await.dead == 8).await;
    let now = readings(&queue).await;
    assert_eq!((now.dead_letters, now.dead_letters_trimmed), (3, 5));
    let letters = queue.dead_letters(10).await.expect("a server that answers");
    let left: Vec<_> = letters.iter().map(|letter| String::from_utf8_lossy(&letter.payload)).collect();
    assert_eq!(left, ["5", "6", "7"]);
    running.stop().await;
}

async fn a_message_older_than_max_age_is_dropped() {
    let (_server, queue) = queue().await;
    append(&queue, "old").await;
    append(&queue, "old too").await;
    sleep(millis(400)).await;
    append(&queue, "new").await;
    let calls = Calls::default();
    let running = Running::start(worker(&queue, noting(&calls, succeed)).max_age(millis(300)));
    until_done(&queue, 1).await;
    assert_eq!(calls.texts(), ["new"]);
    let now = readings(&queue).await;
    assert_eq!((now.acknowledged, now.dropped_for_age, now.dead), (1, 2, 0));
    assert_eq!(running.stop().await.dropped_for_age, 2);
}

async fn a_panic_fails_only_its_own_message() {
    let (_server, queue) = queue().await;
    let calls = Calls::default();
    let panicking = async |delivery: Delivery| match &*delivery.payload {
        b"bad" => panic!("what a pity"),
        _ => Ok::<(), Infallible>(()),
    };
    let running = Running::start(worker(&queue, noting(&calls, panicking)).max_tries(2).concurrency(2));
    append(&queue, "bad").await;
    for _ in 0..5 {
        append(&queue, "good").await;
    }
    until("it is dead", async || readings(&queue).await.dead == 1).await;
    append(&queue, "later").await;
    until_done(&queue, 6).await;
    assert_eq!(calls.by_text()["bad"], 2);
    let letters = queue.dead_letters(1).await.expect("a server that answers");
    assert_eq!(letters[0].reason, "panicked: what a pity");
    running.stop().await;
    // A panic before the service returns a future counts too.
    let before = service_fn(|_: Delivery| -> std::future::Ready<Result<(), Infallible>> { panic!("at once") });
    let running = Running::start(worker(&queue, before).max_tries(1));
    append(&queue, "worse").await;
    until("it is dead", async || readings(&queue).await.dead == 2).await;
    running.stop().await;
}

async fn a_rejection_does_not_count_as_a_try() {
    let (_server, queue) = queue().await;
    let calls = Calls::default();
    let seen = calls.clone();
    let overloaded = move |_| {
        let count = seen.count();
        async move {
            match count {
                0..=4 => Err(Error::<Infallible>::Rejected(Overloaded::new(1, Some(millis(50))).into())),
                _ => Ok(()),
            }
        }
    };
    let running = Running::start(worker(&queue, noting(&calls, overloaded)).max_tries(1));
    append(&queue, "patient").await;
    until_done(&queue, 1).await;
    assert!(calls.all().iter().all(|delivery| delivery.attempt == 1));
    let report = running.stop().await;
    assert_eq!((report.rejected, report.failed, report.dead, report.succeeded), (4, 0, 0, 1));
}

/// A service that is ready after a while. Only the instance that was polled becomes ready.
struct Slow {
    calls: Calls,
    ready: bool,
    timer: std::pin::Pin<Box<tokio::time::Sleep>>,
}

impl Clone for Slow {
    fn clone(&self) -> Self {
        Self { calls: self.calls.clone(), ready: false, timer: Box::pin(sleep(millis(30))) }
    }
}

impl tower::Service<Delivery> for Slow {
    type Response = ();
    type Error = &'static str;
    type Future = std::future::Ready<Result<(), &'static str>>;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), &'static str>> {
        self.timer.as_mut().poll(cx).map(|()| {
            self.ready = true;
            Ok(())
        })
    }

    fn call(&mut self, delivery: Delivery) -> Self::Future {
        self.calls.note(&delivery);
        std::future::ready(if self.ready { Ok(()) } else { Err("called without being ready") })
    }
}

async fn the_instance_that_was_polled_ready_is_called() {
    let (_server, queue) = queue().await;
    let slow = Slow { calls: Calls::default(), ready: false, timer: Box::pin(sleep(millis(30))) };
    let running = Running::start_built(queue.worker(decode, slow).build().expect("valid settings"));
    for _ in 0..20 {
        append(&queue, "some").await;
    }
    until_done(&queue, 20).await;
    let report = running.stop().await;
    assert_eq!((report.succeeded, report.failed), (20, 0));
}

async fn a_worker_keeps_its_concurrency_and_its_pace() {
    let (_server, queue) = queue().await;
    let calls = Calls::default();
    let (now, most) = (std::sync::Arc::new(std::sync::Mutex::new(0)), std::sync::Arc::new(std::sync::Mutex::new(0)));
    let (now_in, most_in) = (now.clone(), most.clone());
    let count = move |_| {
        let (now, most) = (now_in.clone(), most_in.clone());
        async move {
            let at_once = {
                let mut now = now.lock().expect("an unpoisoned lock");
                *now += 1;
                *now
            };
            let before = *most.lock().expect("an unpoisoned lock");
            *most.lock().expect("an unpoisoned lock") = before.max(at_once);
            sleep(millis(20)).await;
            *now.lock().expect("an unpoisoned lock") -= 1;
            Ok::<(), Infallible>(())
        }
    };
    for _ in 0..100 {
        append(&queue, "some").await;
    }
    let running = Running::start(worker(&queue, noting(&calls, count.clone())).concurrency(3));
    until_done(&queue, 100).await;
    assert_eq!(*most.lock().expect("an unpoisoned lock"), 3);
    running.stop().await;
    for _ in 0..100 {
        append(&queue, "some").await;
    }
    let paced = Calls::default();
    let running = Running::start(worker(&queue, noting(&paced, count)).pace(100, Duration::from_secs(1)));
    until_done(&queue, 200).await;
    let times = paced.times();
    let took = times[99] - times[0];
    assert!(took > millis(960) && took < millis(1150), "{took:?} for 99 steps of 10 ms");
    running.stop().await;
}

async fn a_shutdown_ends_the_calls_and_gives_back_the_waiting_messages() {
    let (_server, queue) = queue().await;
    for number in 0..10 {
        append(&queue, &number.to_string()).await;
    }
    let calls = Calls::default();
    let slow = async |_| {
        sleep(millis(300)).await;
        Ok::<(), Infallible>(())
    };
    let running = Running::start(worker(&queue, noting(&calls, slow)).concurrency(2).prefetch(4));
    until("two calls and four that wait", async || {
        let now = running.monitor.readings();
        (now.in_flight, now.held) == (2, 6)
    })
    .await;
    let report = running.stop().await;
    assert_eq!((report.succeeded, report.given_back, report.unconfirmed), (2, 4, 0));
    let now = readings(&queue).await;
    assert_eq!((now.acknowledged, now.in_progress, now.backlog()), (2, 0, 8));
    let running = Running::start(worker(&queue, noting(&calls, succeed)));
    until_done(&queue, 10).await;
    running.stop().await;
    assert!(calls.by_text().values().all(|count| *count == 1), "{:?}", calls.by_text());
    assert!(calls.all().iter().all(|delivery| delivery.attempt == 1), "a message that was given back was not tried");
}

async fn a_panic_payload_that_panics_when_dropped_ends_no_worker() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("the payload of a panic panics when it is dropped");
        }
    }
    let (_server, queue) = queue().await;
    let service = service_fn(async |delivery: Delivery| {
        if delivery.payload == b"bad" {
            std::panic::panic_any(Bomb);
        }
        Ok::<(), Infallible>(())
    });
    let running = Running::start(worker(&queue, service).concurrency(1).max_tries(1));
    append(&queue, "bad").await;
    until("it is dead", async || readings(&queue).await.dead == 1).await;
    append(&queue, "good").await;
    until_done(&queue, 1).await;
    running.stop().await;
}
