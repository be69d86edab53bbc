//! Permits that last until the end of a response body, and how a breaker counts that end.

use crate::support::{ms, secs};
use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Empty};
use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};
use steadfast::{
    Rejection,
    circuit_breaker::{Breaker, BreakerState as State},
    http::{Peer, WholeBody},
    load_level::Queue,
    load_shed::Limiter,
    retry::Retry,
};
use tokio::time::{Sleep, sleep};
use tower::{BoxError, Service, ServiceExt, service_fn};

/// One step of a [`Script`].
#[derive(Clone)]
pub enum Step {
    Data(&'static str),
    Trailers(HeaderMap),
    Wait(Duration),
    Fail,
    Panic,
    Hang,
}

/// A body that follows a list of steps.
pub struct Script {
    steps: VecDeque<Step>,
    sleep: Option<Pin<Box<Sleep>>>,
    /// Runs when the body is dropped.
    pub dropped: Option<Box<dyn FnOnce() + Send>>,
}

impl Script {
    fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { steps: steps.into_iter().collect(), sleep: None, dropped: None }
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        if let Some(dropped) = self.dropped.take() {
            dropped();
        }
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            if let Some(sleep) = &mut self.sleep {
                if sleep.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.sleep = None;
            }
            let Some(step) = self.steps.pop_front() else { return Poll::Ready(None) };
            return Poll::Ready(Some(match step {
                Step::Data(data) => Ok(Frame::data(data.into())),
                Step::Trailers(trailers) => Ok(Frame::trailers(trailers)),
                Step::Fail => Err("connection reset".into()),
                Step::Panic => panic!("as it should"),
                Step::Hang => {
                    self.steps.push_front(Step::Hang);
                    return Poll::Pending;
                }
                Step::Wait(wait) => {
                    self.sleep = Some(Box::pin(sleep(wait)));
                    continue;
                }
            }));
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

pub fn trailers(status: &'static str) -> Step {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    Step::Trailers(trailers)
}

/// A response with this body.
pub fn answer(steps: impl IntoIterator<Item = Step>) -> Response<Script> {
    Response::new(Script::new(steps))
}

pub fn grpc(steps: impl IntoIterator<Item = Step>) -> Response<Script> {
    let mut response = answer(steps);
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc+proto"));
    response
}

/// A service that returns these responses, one after the other.
pub fn service(
    answers: impl IntoIterator<Item = Response<Script>>,
) -> impl Service<Request<()>, Response = Response<Script>, Error = Infallible, Future: Send> + Clone + Send {
    let answers: Arc<Mutex<VecDeque<_>>> = Arc::new(Mutex::new(answers.into_iter().collect()));
    service_fn(move |_: Request<()>| {
        let answer = answers.lock().unwrap().pop_front().unwrap();
        async { Ok(answer) }
    })
}

/// A breaker that opens at the first failure.
pub fn touchy() -> Breaker {
    Breaker::builder().consecutive_failures(1).build().unwrap()
}

/// The response body of a client with this breaker.
async fn body_behind(breaker: &Breaker, response: Response<Script>) -> WholeBody<Script> {
    let client = steadfast::client()
        .circuit_breaker(breaker.clone())
        .attempt_timeout(secs(1))
        .http(Peer::External)
        .whole_body()
        .service(service([response]))
        .unwrap();
    client.oneshot(Request::new(())).await.unwrap().into_body()
}

#[tokio::test(start_paused = true)]
async fn a_permit_is_held_until_the_body_was_read_to_its_end() {
    let places = Limiter::fixed(1).unwrap();
    let server = steadfast::server()
        .load_shed(places.clone())
        .http(Peer::External)
        .whole_body()
        .service(service([answer([Step::Data("a"), Step::Data("b")])]))
        .unwrap();
    let mut body = server.clone().oneshot(Request::new(())).await.unwrap().into_body();
    for data in ["a", "b"] {
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), data);
        assert_eq!(places.in_flight(), 1);
    }
    let refused = server.oneshot(Request::new(())).await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(body.frame().await.is_none());
    assert_eq!(places.in_flight(), 0);
    assert!(body.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_permit_is_returned_however_the_body_ends_and_after_the_body_is_dropped() {
    let endings: [(&str, Vec<Step>); 5] = [
        ("read", vec![Step::Data("a")]),
        ("dropped", vec![Step::Data("a"), Step::Data("b")]),
        ("failed", vec![Step::Fail]),
        ("with trailers", vec![trailers("0")]),
        ("timed out", vec![Step::Hang]),
    ];
    for (name, steps) in endings {
        let places = Limiter::fixed(1).unwrap();
        let (held, mut response) = (places.clone(), answer(steps));
        response.body_mut().dropped = Some(Box::new(move || assert_eq!(held.in_flight(), 1, "{name}")));
        let server = steadfast::server()
            .load_shed(places.clone())
            .timeout(secs(1))
            .http(Peer::External)
            .whole_body()
            .service(service([response]))
            .unwrap();
        let mut body = server.oneshot(Request::new(())).await.unwrap().into_body();
        if name == "dropped" {
            body.frame().await.unwrap().unwrap();
            drop(body);
        } else {
            while let Some(Ok(_)) = body.frame().await {}
            assert_eq!(places.in_flight(), 0, "{name}");
        }
        assert_eq!(places.in_flight(), 0, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_without_a_body_holds_no_permit() {
    let places = Limiter::fixed(1).unwrap();
    let client = steadfast::client()
        .load_shed(places.clone())
        .http(Peer::External)
        .whole_body()
        .service(service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))))
        .unwrap();
    let answer = client.oneshot(Request::new(())).await.unwrap();
    assert_eq!(places.in_flight(), 0);
    drop(answer);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_panics_returns_its_permit_at_once() {
    let places = Limiter::fixed(1).unwrap();
    let server = steadfast::server()
        .load_shed(places.clone())
        .http(Peer::External)
        .whole_body()
        .service(service([answer([Step::Panic])]))
        .unwrap();
    let mut body = server.oneshot(Request::new(())).await.unwrap().into_body();
    assert!(std::panic::AssertUnwindSafe(body.frame()).catch_unwind().await.is_err());
    assert_eq!(places.in_flight(), 0);
    drop(body);
    assert_eq!(places.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_call_is_admitted_when_an_earlier_body_ends() {
    let queue = Queue::builder(1, 10).build().unwrap();
    let server = steadfast::server()
        .load_level(queue.clone())
        .http(Peer::External)
        .whole_body()
        .service(service([answer([Step::Data("first")]), answer([Step::Data("second")])]))
        .unwrap();
    let first = server.clone().oneshot(Request::new(())).await.unwrap();
    let mut second = tokio::spawn(server.oneshot(Request::new(())));
    sleep(ms(10)).await;
    assert!((&mut second).now_or_never().is_none());
    drop(first);
    assert_eq!(second.await.unwrap().unwrap().into_body().collect().await.unwrap().to_bytes(), "second");
}

#[tokio::test(start_paused = true)]
async fn a_failing_status_in_trailers_opens_the_breaker() {
    for (status, state) in [("14", State::Open), ("13", State::Open), ("0", State::Closed), ("5", State::Closed)] {
        let breaker = touchy();
        let body = body_behind(&breaker, grpc([Step::Data("message"), trailers(status)])).await;
        assert_eq!(breaker.state(), State::Closed);
        body.collect().await.unwrap();
        assert_eq!(breaker.state(), state, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_grpc_response_without_a_status_is_a_failure() {
    let breaker = touchy();
    body_behind(&breaker, grpc([Step::Data("message")])).await.collect().await.unwrap();
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_failed_or_late_body_opens_the_breaker_and_a_dropped_body_does_not() {
    for (steps, state) in [
        (vec![Step::Data("a"), Step::Fail], State::Open),
        (vec![Step::Data("a"), Step::Hang], State::Open),
        (vec![Step::Data("a"), Step::Wait(ms(900))], State::Closed),
    ] {
        let breaker = touchy();
        let _ = body_behind(&breaker, answer(steps)).await.collect().await;
        assert_eq!(breaker.state(), state);
    }
    let breaker = touchy();
    let mut body = body_behind(&breaker, answer([Step::Data("a"), Step::Data("b")])).await;
    body.frame().await.unwrap().unwrap();
    drop(body);
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_failed_head_stays_a_failure_however_its_body_ends() {
    for read in [true, false] {
        let breaker = touchy();
        let mut response = answer([Step::Data("a page that says sorry")]);
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        let body = body_behind(&breaker, response).await;
        if read {
            body.collect().await.unwrap();
        } else {
            drop(body);
        }
        assert_eq!(breaker.state(), State::Open);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_read_to_its_announced_length_is_complete() {
    // A half-open breaker shows the difference: a success closes it, a cancelled probe does not.
    let breaker = Breaker::builder().consecutive_failures(1).open_for(secs(1)).probes(1).build().unwrap();
    body_behind(&breaker, answer([Step::Fail])).await.collect().await.unwrap_err();
    sleep(secs(2)).await;
    let mut response = answer([Step::Data("four"), Step::Hang]);
    response.headers_mut().insert("content-length", HeaderValue::from_static("4"));
    let mut body = body_behind(&breaker, response).await;
    body.frame().await.unwrap().unwrap();
    assert_eq!(breaker.state(), State::HalfOpen);
    drop(body);
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_drops_a_response_returns_the_permits_of_its_attempt() {
    let (places, breaker) = (Limiter::fixed(1).unwrap(), Breaker::builder().consecutive_failures(3).build().unwrap());
    let failed = || {
        let mut response = answer([Step::Data("sorry")]);
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        response
    };
    let client = steadfast::client()
        .retry(Retry::new(3).without_budget())
        .circuit_breaker(breaker.clone())
        .load_shed(places.clone())
        .http(Peer::External)
        .whole_body()
        .service(service([failed(), failed(), failed()]))
        .unwrap();
    let last = client.oneshot(Request::new(())).await.unwrap();
    assert_eq!((places.in_flight(), breaker.state()), (1, State::Open));
    drop(last);
    assert_eq!((places.in_flight(), breaker.state()), (0, State::Open));
}

#[tokio::test(start_paused = true)]
async fn at_its_deadline_an_http_body_fails_and_a_grpc_body_ends_with_a_status() {
    let breaker = touchy();
    let error = body_behind(&breaker, answer([Step::Data("a"), Step::Hang])).await.collect().await.unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(Rejection::TimedOut(_))), "{error}");

    let body = body_behind(&touchy(), grpc([Step::Data("a"), Step::Hang])).await.collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["grpc-status"], "4");
}

#[tokio::test(start_paused = true)]
async fn a_body_cut_short_by_the_callers_deadline_is_no_evidence() {
    let breaker = touchy();
    let client = steadfast::client()
        .circuit_breaker(breaker.clone())
        .timeout(secs(10))
        .http(Peer::External)
        .whole_body()
        .service(service([answer([Step::Hang])]))
        .unwrap();
    let deadline = tokio::time::Instant::now() + secs(1);
    let call = steadfast::CallContext::new().with_deadline(deadline).scope(client.oneshot(Request::new(())));
    assert!(call.await.unwrap().into_body().collect().await.is_err());
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn there_are_never_more_live_bodies_than_permits() {
    static BODIES: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);
    let handler = service_fn(async |_: Request<()>| {
        let mut response = answer([Step::Wait(ms(30)), Step::Data("a"), Step::Wait(ms(30))]);
        MOST.fetch_max(BODIES.fetch_add(1, Relaxed) + 1, Relaxed);
        response.body_mut().dropped = Some(Box::new(|| {
            BODIES.fetch_sub(1, Relaxed);
        }));
        Ok::<_, Infallible>(response)
    });
    let places = Limiter::fixed(8).unwrap();
    let server =
        steadfast::server().load_shed(places.clone()).http(Peer::External).whole_body().service(handler).unwrap();
    let mut readers = Vec::new();
    for n in 0..200_u64 {
        let answer = server.clone().oneshot(Request::new(())).await.unwrap();
        readers.push(tokio::spawn(async move {
            // Some bodies are dropped half-way.
            let _ = tokio::time::timeout(ms(n % 90), answer.into_body().collect()).await;
        }));
        sleep(ms(3)).await;
    }
    for reader in readers {
        reader.await.unwrap();
    }
    assert_eq!((MOST.load(Relaxed), BODIES.load(Relaxed), places.in_flight()), (8, 0, 0));
}
