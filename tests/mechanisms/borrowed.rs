//! Requests that borrow: a stack accepts requests of every lifetime, also if its layers have closures that read the
//! request.

use std::{convert::Infallible, future::Ready, task, time::Duration};
use steadfast::{
    Criticality, Error, Random,
    load_level::{LoadLevel, Queue},
    rate_limit::{
        Keyed, Quota, RateLimit, TokenBucket,
        distributed::{Embedded, Exact},
    },
    retry::{Backoff, Retry},
};
use tower::{Service, ServiceExt};

/// A service that answers with the length of a borrowed text.
#[derive(Clone)]
struct Length;

impl<'text> Service<&'text str> for Length {
    type Response = usize;
    type Error = Infallible;
    type Future = Ready<Result<usize, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut task::Context<'_>) -> task::Poll<Result<(), Infallible>> {
        task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, text: &'text str) -> Self::Future {
        std::future::ready(Ok(text.len()))
    }
}

/// Calls the service with a text that does not outlive the call, so the service must accept all lifetimes.
async fn ask<S>(service: &S, text: String) -> Result<usize, Error<Infallible>>
where
    S: for<'text> Service<&'text str, Response = usize, Error = Error<Infallible>> + Clone,
{
    service.clone().oneshot(text.as_str()).await
}

fn bucket() -> TokenBucket {
    TokenBucket::builder(10, Duration::from_secs(10)).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_closure_returns_the_cost_of_a_borrowing_request() {
    let limit = RateLimit::new(bucket()).cost(|text: &&str| text.len() as u64);
    let service = steadfast::client().rate_limit(limit).service(Length).unwrap();
    assert_eq!(ask(&service, "seven..".to_owned()).await.unwrap(), 7);
    assert!(ask(&service, "four".to_owned()).await.is_err());
    assert_eq!(ask(&service, "two".to_owned()).await.unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_closure_returns_the_key_of_a_borrowing_request() {
    let keyed = || Keyed::<str>::builder(100, Quota::new(1, Duration::from_secs(1))).build().unwrap();
    let by_key = RateLimit::by_key(keyed(), |text: &&str| text.to_uppercase());
    let service = steadfast::client().rate_limit(by_key).service(Length).unwrap();
    assert!(ask(&service, "one".to_owned()).await.is_ok());
    assert!(ask(&service, "One".to_owned()).await.is_err());
    assert!(ask(&service, "two".to_owned()).await.is_ok());

    fn whole<'request>(text: &'request &str) -> &'request str {
        text
    }
    let by_key = RateLimit::by_key_ref(keyed(), whole);
    let service = steadfast::client().rate_limit(by_key).service(Length).unwrap();
    assert!(ask(&service, "one".to_owned()).await.is_ok());
    assert!(ask(&service, "one".to_owned()).await.is_err());

    let (limit, flusher) = Exact::builder(Embedded::new(), Quota::new(1, Duration::from_secs(1))).build().unwrap();
    tokio::spawn(flusher.run());
    let limit = RateLimit::distributed(limit, |text: &&str| text.len().to_be_bytes());
    let service = steadfast::client().rate_limit(limit).service(Length).unwrap();
    assert!(ask(&service, "one".to_owned()).await.is_ok());
    assert!(ask(&service, "two".to_owned()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn closures_return_the_weight_and_the_criticality_of_a_borrowing_request() {
    let queue = Queue::builder(1, 10).by_criticality().build().unwrap();
    let level = LoadLevel::new(queue)
        .weight(|text: &&str| text.len() as u64)
        .criticality(|text: &&str| if text.starts_with('!') { Criticality::Critical } else { Criticality::Sheddable });
    let service = steadfast::server().load_level(level).service(Length).unwrap();
    assert_eq!(ask(&service, "!one".to_owned()).await.unwrap(), 4);
}

#[tokio::test(start_paused = true)]
async fn functions_decide_whether_and_how_a_borrowing_request_is_repeated() {
    fn copy<'text>(text: &&'text str) -> Option<&'text str> {
        Some(text)
    }
    let retry = || Retry::new(3).backoff(Backoff::none()).random(Random::seeded(1));
    let if_short = retry().replay_if(|text: &&str| text.len() < 5);
    let service = steadfast::client().retry(if_short).service(Length).unwrap();
    assert_eq!(ask(&service, "four".to_owned()).await.unwrap(), 4);
    let service = steadfast::client().retry(retry().replay_with(copy)).service(Length).unwrap();
    assert_eq!(ask(&service, "four".to_owned()).await.unwrap(), 4);
}
