//! What further attempts read of a body that is streamed: after drops, above the cap, after failures, and at once.

use super::scripted::{Read, Say, Script, Scripted, Woken, bodies, call, data, read, trailers};
use http_body::{Body, SizeHint};
use http_body_util::BodyExt;
use hyper::Request;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    thread,
};

fn put(body: Script) -> Request<Scripted> {
    Request::put("/").body(Scripted::Script(body)).unwrap()
}

/// All that is left of a body, if none of it has to be waited for.
fn read_all(mut body: Scripted) -> Vec<Read> {
    let mut all = Vec::new();
    loop {
        match read(&mut body, &Arc::default()) {
            Read::End => return all,
            Read::Pending => panic!("not all is there: {all:?}"),
            next => all.push(next),
        }
    }
}

fn text(text: &str) -> Read {
    Read::Data(text.as_bytes().to_vec())
}

#[tokio::test(start_paused = true)]
async fn an_attempt_reads_all_wherever_the_one_before_was_dropped() {
    let says = [data("ab"), data("c"), data("def"), Say::Trailers, Say::End];
    for dropped_after in 0..says.len() {
        let mut attempts = 0;
        call(3, 6, put(Script::of(says.clone())), |request| {
            attempts += 1;
            let mut body = request.into_body();
            if attempts < 3 {
                // The second attempt gets one frame further than the first one.
                for _ in 0..dropped_after + attempts - 1 {
                    read(&mut body, &Arc::default());
                }
            } else {
                assert_eq!(read_all(body), [text("ab"), text("c"), text("def"), Read::Trailers]);
            }
        })
        .await;
        assert_eq!(attempts, 3);
    }
}

#[tokio::test(start_paused = true)]
async fn above_the_cap_the_attempt_goes_on_and_is_the_last() {
    for cap in [0, 3, 5] {
        let mut attempts = 0;
        call(3, cap, put(Script::of([data("ab"), data("cdef"), data("g"), Say::Trailers, Say::End])), |request| {
            attempts += 1;
            let all = [text("ab"), text("cdef"), text("g"), Read::Trailers];
            assert_eq!(read_all(request.into_body()), all);
        })
        .await;
        assert_eq!(attempts, 1, "with a cap of {cap} bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_has_not_read_beyond_the_cap_is_followed_by_another() {
    let mut attempts = 0;
    call(3, 3, put(Script::of([data("ab"), data("cdef"), Say::End])), |request| {
        attempts += 1;
        let mut body = request.into_body();
        if attempts == 1 {
            assert_eq!(read(&mut body, &Arc::default()), text("ab"));
        } else {
            assert_eq!(read_all(body), [text("ab"), text("cdef")]);
        }
    })
    .await;
    assert_eq!(attempts, 2);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_too_large_from_the_beginning_is_sent_as_it_is_and_once() {
    let says = [data("abcd"), Say::End];
    for (cap, expected) in [(3, 1), (4, 3)] {
        let mut attempts = 0;
        call(3, cap, put(Script::of(says.clone()).exact(&[])), |request| {
            attempts += 1;
            assert_eq!(matches!(request.body(), Scripted::Script(_)), expected == 1);
            assert_eq!(read_all(request.into_body()), [text("abcd")]);
        })
        .await;
        assert_eq!(attempts, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_body_is_replayed_without_a_cap() {
    let mut attempts = 0;
    call(3, 0, put(Script::of([]).exact(&[])), |request| {
        attempts += 1;
        assert!(request.body().is_end_stream());
        assert_eq!(request.body().size_hint().exact(), Some(0));
        assert_eq!(matches!(request.body(), Scripted::Script(_)), attempts == 1);
    })
    .await;
    assert_eq!(attempts, 3);

    // One that turns out to be empty.
    let mut attempts = 0;
    call(3, 0, put(Script::of([data(""), Say::End])), |request| {
        attempts += 1;
        let expected = if attempts == 1 { vec![text("")] } else { vec![] };
        assert_eq!(read_all(request.into_body()), expected);
    })
    .await;
    assert_eq!(attempts, 3);
}

#[tokio::test(start_paused = true)]
async fn the_error_of_a_body_reaches_the_attempt_and_ends_the_retries() {
    let mut attempts = 0;
    call(3, 100, put(Script::of([data("ab"), Say::Error])), |request| {
        attempts += 1;
        assert_eq!(read_all(request.into_body()), [text("ab"), Read::Scripted]);
    })
    .await;
    assert_eq!(attempts, 1);
}

#[tokio::test(start_paused = true)]
async fn the_sizes_of_a_replayed_body_are_those_of_what_is_left() {
    let script = Script::of([data("ab"), data("c"), Say::End]).exact(&[]);
    let mut bodies = bodies(2, 3, script).await;
    let sizes = |bodies: &[Scripted]| -> Vec<_> {
        bodies.iter().map(|body| (body.size_hint().exact(), body.is_end_stream())).collect()
    };
    assert_eq!(sizes(&bodies), [(Some(3), false), (Some(3), false)]);
    assert_eq!(read(&mut bodies[0], &Arc::default()), text("ab"));
    assert_eq!(sizes(&bodies), [(Some(1), false), (Some(3), false)]);
    assert_eq!(read(&mut bodies[0], &Arc::default()), text("c"));
    assert_eq!(sizes(&bodies), [(Some(0), true), (Some(3), false)]);
    assert_eq!(read(&mut bodies[1], &Arc::default()), text("ab"));
    assert_eq!(read(&mut bodies[1], &Arc::default()), text("c"));
    assert_eq!(sizes(&bodies), [(Some(0), true), (Some(0), true)]);
}

#[tokio::test(start_paused = true)]
async fn trailers_keep_a_body_open_until_they_are_read() {
    let script = Script::of([data("ab"), Say::Trailers]).exact(&[]);
    let mut bodies = bodies(2, 3, script).await;
    for body in &mut bodies {
        assert_eq!(read(body, &Arc::default()), text("ab"));
        assert!(!body.is_end_stream());
        assert_eq!(read(body, &Arc::default()), Read::Trailers);
        assert!(body.is_end_stream());
        assert_eq!(read(body, &Arc::default()), Read::End);
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_attempts_the_newest_goes_beyond_the_cap_and_the_other_is_told() {
    // Whichever comes to the cap first.
    for first in [0, 1] {
        let mut bodies = bodies(2, 3, Script::of([data("abc"), data("d"), data("e"), Say::End])).await;
        assert_eq!(read(&mut bodies[first], &Arc::default()), text("abc"));
        let expected = [Read::TooLarge, text("d")];
        assert_eq!(read(&mut bodies[first], &Arc::default()), expected[first]);
        let other = 1 - first;
        // Nothing is kept any more once the newest has gone beyond the cap.
        if first == 0 {
            assert_eq!(read(&mut bodies[other], &Arc::default()), text("abc"));
        }
        assert_eq!(read(&mut bodies[other], &Arc::default()), expected[other]);
        assert_eq!(read(&mut bodies[0], &Arc::default()), Read::End);
        assert_eq!(read(&mut bodies[1], &Arc::default()), text("e"));
        assert_eq!(bodies[1].size_hint().lower(), SizeHint::default().lower());
    }
}

#[tokio::test(start_paused = true)]
async fn an_older_attempt_goes_beyond_the_cap_once_the_newer_one_is_gone() {
    let mut bodies = bodies(3, 3, Script::of([data("abc"), data("d"), Say::End])).await;
    for body in &mut bodies {
        assert_eq!(read(body, &Arc::default()), text("abc"));
    }
    assert_eq!(read(&mut bodies[1], &Arc::default()), Read::TooLarge);
    bodies.truncate(2);
    // The second has failed already.
    assert_eq!(read(&mut bodies[1], &Arc::default()), Read::End);
    assert_eq!(read(&mut bodies[0], &Arc::default()), text("d"));
    assert_eq!(read(&mut bodies[0], &Arc::default()), Read::End);
}

#[tokio::test(start_paused = true)]
async fn the_message_names_the_cap() {
    let mut bodies = bodies(2, 1, Script::of([data("ab"), Say::End])).await;
    let error = bodies.remove(0).frame().await.unwrap().unwrap_err();
    assert_eq!(
        error.to_string(),
        "the request body is larger than the cap of 1 bytes on what is kept for further attempts, and another attempt \
         sends the rest: a higher cap lets both send all of it"
    );
}

#[tokio::test(start_paused = true)]
async fn those_that_wait_are_woken_once_for_each_frame_and_keep_no_waker() {
    let script = Script::default();
    let mut bodies = bodies(2, 100, script.clone()).await;
    let wakers: [Arc<Woken>; 2] = Default::default();
    for round in 0..5 {
        for (body, waker) in bodies.iter_mut().zip(&wakers) {
            // Again and again, as a task does that waits for something else, too.
            for _ in 0..3 {
                assert_eq!(read(body, waker), Read::Pending);
            }
            assert_eq!(waker.times(), round);
        }
        script.say(data("a"));
        for (body, waker) in bodies.iter_mut().zip(&wakers) {
            assert_eq!(waker.times(), round + 1);
            assert_eq!(read(body, waker), text("a"));
        }
    }
    bodies.clear();
    for waker in wakers {
        assert_eq!(Arc::strong_count(&waker), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stalled_or_dropped_attempt_holds_no_other_up() {
    let script = Script::default();
    let mut bodies = bodies(3, 100, script.clone()).await;
    let wakers: [Arc<Woken>; 3] = Default::default();
    for (body, waker) in bodies.iter_mut().zip(&wakers) {
        assert_eq!(read(body, waker), Read::Pending);
    }
    // The last that has polled the script goes away, and the first one is woken, and does nothing.
    bodies.truncate(2);
    script.say(data("a"));
    assert_eq!([wakers[0].times(), wakers[1].times()], [1, 1]);
    assert_eq!(read(&mut bodies[1], &wakers[1]), text("a"));
    assert_eq!(read(&mut bodies[1], &wakers[1]), Read::Pending);
    script.say(Say::End);
    assert_eq!(wakers[1].times(), 2);
    assert_eq!(read(&mut bodies[1], &wakers[1]), Read::End);
    assert_eq!(read_all(bodies.remove(0)), [text("a")]);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_asks_while_another_polls_is_woken_when_that_is_over() {
    for is_there in [false, true] {
        let script = Script::default();
        let mut bodies = bodies(2, 100, script.clone()).await;
        let (second, mut first) = (bodies.pop().unwrap(), bodies.pop().unwrap());
        let (woken, woken_first) = (Arc::<Woken>::default(), Arc::<Woken>::default());
        let (seen, waker) = (Arc::new(Mutex::new(None)), woken.clone());
        let (asked, second) = (seen.clone(), Arc::new(Mutex::new(second)));
        let asks = second.clone();
        if is_there {
            script.say(data("a"));
        }
        script.0.lock().unwrap().hook = Some(Box::new(move || {
            *asked.lock().unwrap() = Some(read(&mut *asks.lock().unwrap(), &waker));
        }));
        let expected = if is_there { text("a") } else { Read::Pending };
        assert_eq!(read(&mut first, &woken_first), expected);
        assert_eq!(*seen.lock().unwrap(), Some(Read::Pending));
        // Its own poll may have come after the wake-up that the first one has seen.
        assert_eq!((woken_first.times(), woken.times()), (0, 1));
        assert_eq!(read(&mut *second.lock().unwrap(), &woken), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_body_fails_the_other_attempts_and_wakes_them() {
    let script = Script::of([data("a")]);
    let mut bodies = bodies(2, 100, script.clone()).await;
    let woken = Arc::<Woken>::default();
    assert_eq!(read(&mut bodies[0], &woken), text("a"));
    assert_eq!(read(&mut bodies[0], &woken), Read::Pending);
    script.0.lock().unwrap().says_next(Say::Panic);
    assert_eq!(read(&mut bodies[1], &Arc::default()), text("a"));
    let panicked = catch_unwind(AssertUnwindSafe(|| read(&mut bodies[1], &Arc::default())));
    assert!(panicked.is_err());
    assert_eq!(woken.times(), 1);
    for body in &mut bodies {
        assert_eq!(read(body, &woken), Read::FailedElsewhere);
        assert_eq!(read(body, &woken), Read::End);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_replayed_already_is_replayed_again() {
    let mut outer = bodies(2, 100, Script::of([data("ab"), data("c"), Say::Trailers])).await;
    assert_eq!(read(&mut outer[1], &Arc::default()), text("ab"));
    for (already_read, body) in outer.into_iter().enumerate() {
        let mut reads = Vec::new();
        let request = Request::put("/").body(body).unwrap();
        call(3, 100, request, |request| reads.push(read_all(request.into_body()))).await;
        // The second one has read the beginning before.
        let all = [text("ab"), text("c"), Read::Trailers];
        assert_eq!(reads, vec![all[already_read..].to_vec(); 3]);
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_on_several_threads_read_the_same() {
    for _ in 0..50 {
        let script = Script::default();
        let bodies = bodies(3, 10_000, script.clone()).await;
        let readers: Vec<_> = bodies
            .into_iter()
            .map(|body| {
                thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    let all = runtime.block_on(body.collect()).unwrap();
                    (all.trailers().cloned(), all.to_bytes())
                })
            })
            .collect();
        let frames: Vec<Vec<u8>> = (0..100).map(|byte| vec![byte; 3]).collect();
        for frame in &frames {
            script.say(Say::Data(frame.clone()));
        }
        script.say(Say::Trailers);
        for reader in readers {
            assert_eq!(reader.join().unwrap(), (Some(trailers()), frames.concat().into()));
        }
    }
}
