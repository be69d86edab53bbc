//! Clients of Redis outlive the runtime that created them, and work in several runtimes at a time.

use crate::{
    durable_fixture::{
        Calls, Running, append, builder, encode, millis, noting, readings, succeed, until, until_done, worker,
    },
    server::{RedisCluster, RedisServer},
    trial::trials,
};
use futures::FutureExt;
use std::{future::Future, sync::mpsc, thread, time::Duration};
use steadfast::{
    constant_work::{RedisSink, RedisSource, Sink, Source},
    load_level::durable::{DurableQueue, Message},
    rate_limit::{
        Quota,
        distributed::{Charge, Exact, Hint, Redis, RedisError, Store, StoreErrorKind},
    },
};
use tokio::{
    runtime::{Builder, Runtime},
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tower::ServiceExt;

trials![
    limits_share_their_tokens_in_the_next_runtime,
    limits_in_many_runtimes_share_their_tokens,
    a_limit_continues_with_another_flusher,
    the_first_call_in_the_next_runtime_is_answered,
    a_runtime_may_end_while_it_connects,
    a_runtime_may_end_while_it_checks_a_connection,
    a_runtime_may_end_while_another_uses_its_connection,
    a_runtime_may_stop_running_without_being_dropped,
    a_store_created_outside_of_a_runtime_connects_at_its_first_call,
    a_cluster_continues_in_the_next_runtime,
    the_slots_of_a_cluster_are_read_again_in_the_next_runtime,
    a_queue_continues_in_the_next_runtime,
    a_queue_created_outside_of_a_runtime_connects_at_its_first_call,
    a_runtime_may_end_with_the_messages_of_another,
    a_runtime_may_stop_running_with_the_messages_of_another,
    a_producer_needs_no_runtime_to_be_called,
    sources_and_sinks_continue_in_the_next_runtime,
];

const SECOND: Duration = Duration::from_secs(1);

fn single() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn multi() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

const KINDS: [fn() -> Runtime; 2] = [single, multi];

/// Runs a future in a new runtime, which has ended when this returns.
async fn in_runtime_that_ends<T, Work>(kind: fn() -> Runtime, work: impl FnOnce() -> Work + Send + 'static) -> T
where
    T: Send + 'static,
    Work: Future<Output = T>,
{
    spawn_blocking(move || kind().block_on(work())).await.expect("it does not panic")
}

/// Runs a future in a single-threaded runtime that is kept but not run afterwards.
fn in_runtime_left_idle<T: Send + 'static, Work: Future<Output = T>>(
    work: impl FnOnce() -> Work + Send + 'static,
) -> (T, IdleRuntime) {
    let (done, result) = mpsc::channel();
    let (end, ended) = mpsc::channel::<()>();
    let thread = thread::spawn(move || {
        let runtime = single();
        done.send(runtime.block_on(work())).expect("the test waits for it");
        // Runs until the other end is dropped.
        let _ = ended.recv();
    });
    (result.recv().expect("it does not panic"), IdleRuntime { end: Some(end), thread: Some(thread) })
}

/// A runtime that is not run. Dropping this ends it.
struct IdleRuntime {
    end: Option<mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for IdleRuntime {
    fn drop(&mut self) {
        self.end = None;
        self.thread.take().map(thread::JoinHandle::join);
    }
}

async fn ask(store: &Redis) -> Result<(), StoreErrorKind> {
    let quota = Quota::new(1, 10_000 * SECOND).with_burst(5);
    let (client, sequence, spent, late, max_debt, refund, want, least) = (1, 0, 0, 0, 0, 0, 0, 0);
    let (refund_of, hint) = (Duration::ZERO, Hint::default());
    let key = b"any".as_slice().into();
    let charge = Charge { key, quota, client, sequence, spent, late, max_debt, refund, refund_of, want, least, hint };
    store.charge(&[charge]).await.map(drop).map_err(|error| error.kind())
}

/// Asks the store, with the timeout of a limit, until it answers. After that it must always answer.
async fn until_it_answers(store: &Redis) -> Duration {
    let took = until("the store answers", async || matches!(timeout(millis(50), ask(store)).await, Ok(Ok(())))).await;
    for _ in 0..50 {
        assert_eq!(ask(store).await, Ok(()));
    }
    took
}

async fn connected(url: String) -> Redis {
    let store = Redis::builder(url).connect().await.expect("a usable server");
    assert_eq!(ask(&store).await, Ok(()));
    store
}

/// A limit with five tokens.
fn limit(store: &Redis) -> Exact {
    let quota = Quota::new(1, 10_000 * SECOND).with_burst(5);
    let (limit, flusher) = Exact::builder(store.clone(), quota).processes(1).deadline(SECOND).build().expect("a limit");
    tokio::spawn(flusher.run());
    limit
}

async fn admitted(limits: &[Exact]) -> usize {
    let mut admitted = 0;
    for _ in 0..5 {
        for limit in limits {
            admitted += usize::from(limit.acquire(b"tenant", 1).await.is_ok());
        }
    }
    admitted
}

async fn limits_share_their_tokens_in_the_next_runtime() {
    for kind in KINDS {
        let server = RedisServer::start().await;
        let url = server.url();
        let store = in_runtime_that_ends(kind, move || connected(url)).await;
        assert_eq!(admitted(&[limit(&store), limit(&store)]).await, 5);
    }
}

async fn limits_in_many_runtimes_share_their_tokens() {
    let server = RedisServer::start().await;
    let store = Redis::builder(server.url()).connect_lazily().expect("a valid URL");
    until_it_answers(&store).await;
    let count =
        |store: Redis, kind| in_runtime_that_ends(kind, move || async move { admitted(&[limit(&store)]).await });
    let here = [limit(&store), limit(&store)];
    let (one, two, three) = (store.clone(), store.clone(), store.clone());
    let counts = futures::join!(count(one, single), count(two, multi), count(three, single), admitted(&here));
    assert_eq!(counts.0 + counts.1 + counts.2 + counts.3, 5, "{counts:?}");
}

async fn a_limit_continues_with_another_flusher() {
    for kind in KINDS {
        let server = RedisServer::start().await;
        let url = server.url();
        let made = in_runtime_that_ends(kind, move || async move {
            let store = connected(url).await;
            let limit = limit(&store);
            limit.acquire(b"tenant", 1).await.expect("the first of five");
            (limit, store)
        });
        let (old, store) = made.await;
        assert!(!old.readings().store.is_up);
        tokio::spawn(old.flusher().run());
        until("the store decides", async || old.readings().store.is_up).await;
        assert_eq!(admitted(&[old, limit(&store)]).await, 4);
    }
}

async fn the_first_call_in_the_next_runtime_is_answered() {
    for kind in KINDS {
        let server = RedisServer::start().await;
        let url = server.url();
        let mut store = in_runtime_that_ends(kind, move || connected(url)).await;
        for _ in 0..5 {
            let asked = in_runtime_that_ends(kind, move || async move {
                let answers = futures::join!(ask(&store), ask(&store), ask(&store));
                (answers, store)
            });
            let (answers, back) = asked.await;
            assert_eq!(answers, (Ok(()), Ok(()), Ok(())));
            store = back;
        }
    }
}

async fn a_runtime_may_end_while_it_connects() {
    for kind in KINDS {
        let mut server = RedisServer::start().await;
        server.kill();
        let url = server.url();
        let store = in_runtime_that_ends(kind, move || async move {
            let store = Redis::builder(url).connect_lazily().expect("a valid URL");
            until("an attempt fails", async || ask(&store).await == Err(StoreErrorKind::Unreachable)).await;
            store
        });
        let store = store.await;
        assert_eq!(ask(&store).await, Err(StoreErrorKind::Unreachable), "a call must find that the server is down");
        server.restart().await;
        let took = until_it_answers(&store).await;
        assert!(took < 5 * SECOND, "{took:?}");
    }
}

async fn a_runtime_may_end_while_it_checks_a_connection() {
    let server = RedisServer::start().await;
    let url = server.url();
    let store = in_runtime_that_ends(multi, move || connected(url)).await;
    assert_eq!(ask(&store).await, Ok(()), "the connection now belongs to this runtime");
    server.stop();
    let store = in_runtime_that_ends(single, move || async move {
        for _ in 0..3 {
            assert!(timeout(millis(5), ask(&store)).await.is_err(), "a stopped server answers");
        }
        store
    });
    let store = store.await;
    // A stopped server does not close connections, so only a check can find out.
    let took = until("the connection is closed", async || {
        matches!(timeout(millis(5), ask(&store)).await, Ok(Err(StoreErrorKind::Unreachable)))
    });
    let took = took.await;
    assert!(took < 5 * SECOND, "{took:?}");
    server.cont();
    until_it_answers(&store).await;
}

async fn a_runtime_may_end_while_another_uses_its_connection() {
    for kind in [multi as fn() -> Runtime, single] {
        let server = RedisServer::start().await;
        let url = server.url();
        let (made, store) = tokio::sync::oneshot::channel();
        let ending = tokio::spawn(in_runtime_that_ends(kind, move || async move {
            let store = connected(url).await;
            made.send(store.clone()).expect("the test waits for it");
            for _ in 0..100 {
                assert_eq!(ask(&store).await, Ok(()));
                sleep(millis(1)).await;
            }
        }));
        let store = store.await.expect("a store");
        while !ending.is_finished() {
            // A call in progress when the runtime ends has no answer.
            let _ = ask(&store).await;
        }
        ending.await.expect("it does not panic");
        let took = until_it_answers(&store).await;
        assert!(took < 5 * SECOND, "{took:?}");
    }
}

async fn a_runtime_may_stop_running_without_being_dropped() {
    let server = RedisServer::start().await;
    let url = server.url();
    let (store, _left) = in_runtime_left_idle(move || connected(url));
    let took = until_it_answers(&store).await;
    assert!(took < 5 * SECOND, "{took:?}");
    // The runtime may also stop running while it connects.
    let url = server.url();
    let (store, _left) = in_runtime_left_idle(move || async move { Redis::builder(url).connect_lazily() });
    let took = until_it_answers(&store.expect("a valid URL")).await;
    assert!(took < 10 * SECOND, "{took:?}");
}

async fn a_store_created_outside_of_a_runtime_connects_at_its_first_call() {
    let server = RedisServer::start().await;
    let url = server.url();
    let (store, refused) = thread::spawn(move || {
        let store = Redis::builder(&url).connect_lazily().expect("a valid URL");
        assert_eq!(ask(&store).now_or_never(), Some(Err(StoreErrorKind::Unreachable)), "nobody can connect");
        (store, Redis::builder(&url).connect().now_or_never())
    })
    .join()
    .expect("it does not panic");
    assert!(matches!(refused, Some(Err(RedisError::NoRuntime))), "{refused:?}");
    assert_eq!(ask(&store).await, Ok(()));
}

async fn a_cluster_continues_in_the_next_runtime() {
    let cluster = RedisCluster::start(3).await;
    let url = cluster.url();
    let store = in_runtime_that_ends(multi, move || async move {
        let store = Redis::builder(url).cluster(true).connect().await.expect("a cluster that is right");
        assert_eq!(ask(&store).await, Ok(()));
        store
    });
    let store = store.await;
    assert_eq!(ask(&store).await, Ok(()));
    assert_eq!(admitted(&[limit(&store), limit(&store)]).await, 5);
}

async fn the_slots_of_a_cluster_are_read_again_in_the_next_runtime() {
    let cluster = RedisCluster::start(3).await;
    let url = cluster.url();
    cluster.servers.iter().for_each(RedisServer::stop);
    let store = in_runtime_that_ends(multi, move || async move {
        let store = Redis::builder(url).cluster(true).connect_lazily().expect("a valid URL");
        sleep(millis(50)).await;
        store
    });
    let store = store.await;
    cluster.servers.iter().for_each(RedisServer::cont);
    let took = until_it_answers(&store).await;
    assert!(took < 5 * SECOND, "{took:?}");
}

/// Checks that a worker in this runtime processes all appended messages.
async fn work_on(queue: &DurableQueue, messages: u64) {
    let running = Running::start(worker(queue, noting(&Calls::default(), succeed)));
    until_done(queue, messages).await;
    running.stop().await;
}

async fn a_queue_continues_in_the_next_runtime() {
    for kind in KINDS {
        let server = RedisServer::start().await;
        let builder = builder(&server);
        let queue = in_runtime_that_ends(kind, move || async move {
            let queue = builder.connect().await.expect("a usable server");
            append(&queue, "one").await;
            queue
        });
        let queue = queue.await;
        append(&queue, "two").await;
        let queue = in_runtime_that_ends(kind, move || async move {
            append(&queue, "three").await;
            work_on(&queue, 3).await;
            queue
        });
        let queue = queue.await;
        append(&queue, "four").await;
        work_on(&queue, 4).await;
        assert_eq!(readings(&queue).await.appended, 4);
    }
}

async fn a_queue_created_outside_of_a_runtime_connects_at_its_first_call() {
    let server = RedisServer::start().await;
    let builder = builder(&server);
    let queue = thread::spawn(move || builder.connect_lazily()).join().expect("it does not panic");
    append(&queue.expect("a valid URL"), "one").await;
}

/// Starts an append, and waits until Redis has received it.
async fn begin(queue: &DurableQueue, text: &str) -> tokio::task::JoinHandle<bool> {
    let append = queue.producer(encode).oneshot(Message::new(text));
    let task = tokio::spawn(async move { append.await.is_ok() });
    sleep(millis(50)).await;
    task
}

async fn a_runtime_may_end_with_the_messages_of_another() {
    for kind in KINDS {
        let server = RedisServer::start().await;
        let queue = builder(&server).answer_timeout(20 * SECOND).connect().await.expect("a usable server");
        append(&queue, "zero").await;
        server.stop();
        let ended = queue.clone();
        let (waiting, wait) = tokio::sync::oneshot::channel();
        let (end, may_end) = tokio::sync::oneshot::channel::<()>();
        let ending = tokio::spawn(in_runtime_that_ends(kind, move || async move {
            let first = begin(&ended, "one").await;
            waiting.send(()).expect("the test waits for it");
            may_end.await.expect("the test lets the call end");
            drop(first);
        }));
        wait.await.expect("it does not panic");
        // The runtime that sends has two batches under way, and a message that waits for its turn.
        let second = begin(&queue, "two").await;
        let third = begin(&queue, "three").await;
        end.send(()).expect("the runtime waits");
        ending.await.expect("it does not panic");
        sleep(millis(50)).await;
        server.cont();
        assert!(!second.await.expect("no panic"), "it was in flight, and its result is unknown");
        assert!(third.await.expect("no panic"), "it was not sent yet, and its own runtime sends it");
        append(&queue, "four").await;
    }
}

async fn a_runtime_may_stop_running_with_the_messages_of_another() {
    let server = RedisServer::start().await;
    let queue = builder(&server).answer_timeout(SECOND / 2).connect().await.expect("a usable server");
    append(&queue, "zero").await;
    server.stop();
    let left = queue.clone();
    let (_, _left) = in_runtime_left_idle(move || async move {
        let append = left.producer(encode).oneshot(Message::new("one"));
        assert!(timeout(millis(20), append).await.is_err(), "a stopped server answers");
    });
    server.cont();
    let took = until("messages are sent again", async || {
        let append = queue.producer(encode).oneshot(Message::new("two"));
        matches!(timeout(millis(200), append).await, Ok(Ok(_)))
    });
    let took = took.await;
    assert!(took < 10 * SECOND, "{took:?}");
}

async fn a_producer_needs_no_runtime_to_be_called() {
    let server = RedisServer::start().await;
    let queue = builder(&server).connect().await.expect("a usable server");
    let producer = queue.producer(encode);
    let append = thread::spawn(move || {
        let mut producer = producer;
        let alone = tower::Service::call(&mut producer, Message::new("alone"));
        let refused = alone.now_or_never().expect("no waiting").expect_err("nobody can send it");
        assert!(!refused.may_be_appended(), "{refused}");
        tower::Service::call(&mut producer, Message::new("one"))
    });
    let append = append.join().expect("it does not panic");
    assert!(append.await.is_ok());
    assert_eq!(readings(&queue).await.appended, 1);
}

async fn sources_and_sinks_continue_in_the_next_runtime() {
    for kind in KINDS {
        let server = RedisServer::start().await;
        let url = server.url();
        let both = in_runtime_that_ends(kind, move || async move {
            let mut sink = RedisSink::builder(&url, "limits").connect().await.expect("a usable server");
            let source = RedisSource::builder(&url, "limits").connect().await.expect("a usable server");
            sink.publish(b"one").await.expect("a server");
            (sink, source)
        });
        let (mut sink, mut source) = both.await;
        let mut bytes = Vec::new();
        source.fetch(&mut bytes, 100).await.expect("a server");
        assert_eq!(bytes, b"one");
        sink.publish(b"two").await.expect("a server");
        source.fetch(&mut bytes, 100).await.expect("a server");
        assert_eq!(bytes, b"two");
    }
}
