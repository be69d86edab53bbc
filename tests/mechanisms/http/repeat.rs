//! Which HTTP requests are sent again, and with which head.

use super::scripted::{Say, call};
use super::scripted::{Script, data};
use crate::{
    replay::{Verdicts, as_it_says},
    support::ms,
};
use hyper::{Method, Request, Version};
use steadfast::{Outcome, http, retry::Backoff};
use tower::ServiceExt;

/// The attempts that a request gets of two.
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
async fn requests_are_repeated_by_method_and_key_and_by_what_the_user_says() {
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
async fn every_attempt_has_the_whole_head() {
    for body in [Script::of([data("a"), Say::End]), Script::of([]).exact(&[])] {
        let request = Request::builder()
            .method(Method::DELETE)
            .uri("http://example.com/orders?id=7")
            .version(Version::HTTP_2)
            .header("tenant", "acme")
            .header("tenant", "more")
            .extension(17_u64)
            .body(super::scripted::Scripted::Script(body))
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
