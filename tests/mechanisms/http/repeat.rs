//! Which HTTP requests are retried, and with which head.

use super::scripted::{Answer, Say, Script, Scripted, call, data};
use crate::{
    replay::{Verdicts, as_it_says},
    support::ms,
};
use bytes::Bytes;
use http_body::Body;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, Response, Version};
use std::{
    convert::Infallible,
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};
use steadfast::{
    Outcome,
    http::{self, ReplayBody},
    retry::Backoff,
};
use tower::{ServiceExt, service_fn};

/// Returns the number of attempts for a request, at most two. Each attempt has this outcome.
async fn attempts(request: Request<&'static str>, outcome: Outcome) -> usize {
    let service = Verdicts::new([], outcome);
    let retry = http::retry(2)
        .without_budget()
        .backoff(Backoff::exponential(ms(1), ms(1)))
        .idempotent(|request: &Request<&str>| request.uri().path() == "/search");
    let client = steadfast::client().retry(retry).classify(as_it_says).service(service.clone()).unwrap();
    client.oneshot(request).await.unwrap();
    service.calls()
}

#[tokio::test(start_paused = true)]
async fn requests_are_retried_by_method_idempotency_key_and_user_function() {
    let request = |method: &str, path: &str| Request::builder().method(method).uri(path).body("").unwrap();
    let keyed = |keys: &[&str]| {
        let mut request = request("POST", "/");
        for key in keys {
            request.headers_mut().append("Idempotency-Key", key.parse().unwrap());
        }
        request
    };
    let mut table: Vec<_> =
        ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"].map(|method| (request(method, "/"), 2)).into();
    table.extend(["POST", "PATCH", "CONNECT", "get", "PROPFIND"].map(|method| (request(method, "/"), 1)));
    table.push((request("POST", "/search"), 2));
    table.extend([(keyed(&["7"]), 2), (keyed(&[""]), 1), (keyed(&["", "7"]), 2)]);
    for (request, expected) in table {
        let text = format!("{request:?}");
        assert_eq!(attempts(request.clone(), Outcome::Failure).await, expected, "{text}");
        assert_eq!(attempts(request, Outcome::Unprocessed { retry_after: None }).await, 2, "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_attempt_sends_the_whole_head() {
    for body in [Script::of([data("a"), Say::End]), Script::of([]).exact(&[])] {
        let request = Request::builder()
            .method(Method::DELETE)
            .uri("http://example.com/orders?id=7")
            .version(Version::HTTP_2)
            .header("tenant", "acme")
            .header("tenant", "more")
            .extension(17_u64)
            .body(Scripted::Script(body))
            .unwrap();
        let mut attempts = 0;
        call(3, 100, request, |request| {
            attempts += 1;
            let (head, _) = request.into_parts();
            assert_eq!((head.method, head.version), (Method::DELETE, Version::HTTP_2));
            assert_eq!(head.uri, "http://example.com/orders?id=7");
            assert!(head.headers.get_all("tenant").iter().eq(["acme", "more"]));
            assert_eq!(head.headers.len(), 2);
            assert_eq!(head.extensions.get(), Some(&17_u64));
        })
        .await;
        assert_eq!(attempts, 3);
    }
}

/// Sends this body in three attempts, and checks that the service reads all of it in each.
async fn replays<B>(body: B, wrap: impl Fn(ReplayBody<B>) -> B + Clone)
where
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Unpin,
{
    let calls = Arc::new(AtomicU32::new(0));
    let seen = calls.clone();
    let service = service_fn(move |request: Request<B>| {
        let seen = seen.clone();
        async move {
            let Ok(body) = request.into_body().collect().await else { panic!("a body that does not fail") };
            assert_eq!(body.to_bytes(), "abc");
            seen.fetch_add(1, Ordering::Relaxed);
            Answer::Ok(Response::new(()))
        }
    });
    let client = steadfast::client()
        .retry(http::retry(3).without_budget().backoff(Backoff::exponential(ms(1), ms(1))).bodies(3, wrap))
        .classify(|_: Result<&Response<()>, &Infallible>| Outcome::Failure)
        .service(service)
        .unwrap();
    client.oneshot(Request::put("/").body(body).unwrap()).await.unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn the_bodies_of_axum_tonic_and_reqwest_are_replayed() {
    let full = || Full::new(Bytes::from_static(b"abc"));
    replays(axum::body::Body::new(full()), axum::body::Body::new).await;
    replays(tonic::body::Body::new(full()), tonic::body::Body::new).await;
    replays(reqwest::Body::wrap(full()), reqwest::Body::wrap).await;
}
