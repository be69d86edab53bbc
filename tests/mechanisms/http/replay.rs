//! Replays of a streamed body after drops, above the cap, and after failures.

use super::scripted::{Read, Say, Script, Scripted, bodies, call, data, read, read_all, text};
use crate::counting::so_far;
use bytes::Bytes;
use http_body::Body;
use http_body_util::BodyExt;
use hyper::Request;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Waker},
};
use steadfast::http::ReplayError;

fn put(body: Script) -> Request<Scripted> {
    Request::put("/").body(Scripted::Script(body)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_attempt_reads_the_whole_body_wherever_the_previous_one_was_dropped() {
    let says = [data("ab"), data("c"), data("def"), Say::Trailers, Say::End];
    for dropped_after in 0..says.len() {
        let mut attempts = 0;
        call(3, 6, put(Script::of(says.clone())), |request| {
            attempts += 1;
            let mut body = request.into_body();
            if attempts < 3 {
                // The second attempt reads one frame more than the first.
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
async fn an_attempt_that_reads_beyond_the_cap_continues_and_is_the_last() {
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
async fn an_attempt_that_stays_below_the_cap_is_retried() {
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
async fn a_body_known_to_exceed_the_cap_is_sent_once_and_unchanged() {
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
async fn an_empty_body_is_replayed_with_a_cap_of_zero() {
    let mut attempts = 0;
    call(3, 0, put(Script::of([]).exact(&[])), |request| {
        attempts += 1;
        assert!(request.body().is_end_stream());
        assert_eq!(request.body().size_hint().exact(), Some(0));
        assert_eq!(matches!(request.body(), Scripted::Script(_)), attempts == 1);
    })
    .await;
    assert_eq!(attempts, 3);

    // This body turns out to be empty only when it is read.
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
async fn the_size_of_a_replayed_body_is_that_of_its_rest() {
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
async fn the_error_names_the_cap() {
    for (cap, text) in [(0, "0 bytes"), (1, "1 byte"), (2, "2 bytes")] {
        let mut bodies = bodies(2, cap, Script::of([data("abc"), Say::End])).await;
        let error = bodies.remove(0).frame().await.unwrap().unwrap_err();
        let expected = format!(
            "the request body exceeds its replay cap of {text}, and another attempt sends the rest: with a higher cap, \
             all attempts can send it"
        );
        assert_eq!(error.to_string(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_replayed_body_can_be_replayed_again() {
    let mut outer = bodies(2, 100, Script::of([data("ab"), data("c"), Say::Trailers])).await;
    assert_eq!(read(&mut outer[1], &Arc::default()), text("ab"));
    for (already_read, body) in outer.into_iter().enumerate() {
        let mut reads = Vec::new();
        let request = Request::put("/").body(body).unwrap();
        call(3, 100, request, |request| reads.push(read_all(request.into_body()))).await;
        // One frame of the second body was read before.
        let all = [text("ab"), text("c"), Read::Trailers];
        assert_eq!(reads, vec![all[already_read..].to_vec(); 3]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_allocates_three_times_plus_its_list_of_frames() {
    let mut of_calls = [0; 2];
    for (count, is_empty) in of_calls.iter_mut().zip([false, true]) {
        let says = if is_empty { vec![] } else { vec![data("ab")] };
        let request = put(Script::of(says).exact(&[]));
        let before = so_far().times;
        call(2, 3, request, drop).await;
        *count = so_far().times - before;
    }
    // A body costs three allocations, and an empty one none. The test boxes two bodies, or one if the body is empty.
    assert_eq!(of_calls[0] - of_calls[1], 3 + 1);

    let mut bodies = bodies(2, 100, Script::of(vec![Say::Frame(Bytes::from_static(b"ab")); 8])).await;
    let waker = Waker::noop();
    for expected in [2, 0] {
        let mut body = bodies.remove(0);
        let before = so_far().times;
        for _ in 0..8 {
            assert!(Pin::new(&mut body).poll_frame(&mut Context::from_waker(waker)).is_ready());
        }
        // The list of frames has room for 4 at first, and grows once, to 8.
        assert_eq!(so_far().times - before, expected);
    }
}

#[test]
fn a_replay_error_can_be_boxed_even_around_a_boxed_error() {
    type Boxed = ReplayError<tower::BoxError>;
    let body = Boxed::Body("connection reset".into()).into_boxed();
    assert_eq!(body.to_string(), "connection reset");
    assert!(Boxed::TooLarge { cap: 7 }.into_boxed().to_string().contains("7 bytes"));
    assert!(Boxed::FailedElsewhere.into_boxed().to_string().contains("another attempt"));
}
