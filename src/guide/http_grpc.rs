//! What does a stack do with HTTP and gRPC?
//!
//! This page needs the feature `http`. An HTTP service has to say which answers are failures, how a refusal looks, when
//! callers may come back, and how much time is left. `.http(peer)` says all of this for hyper, axum, tonic, reqwest and
//! every other service of `http::Request`. The module [`http`](crate::http) has the details.
//!
//! # Client and server
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::{convert::Infallible, time::Duration};
//! use hyper::{Request, Response, StatusCode};
//! use steadfast::{http::Peer, rate_limit::TokenBucket, retry::RetryBudget};
//! use tokio::time::Instant;
//! use tower::{ServiceExt, service_fn};
//!
//! // One call per second.
//! let handler = service_fn(async |_: Request<String>| Ok::<_, Infallible>(Response::new("two apples".to_owned())));
//! let server = steadfast::server()
//!     .rate_limit(TokenBucket::builder(1, Duration::from_secs(1)).build()?)
//!     .timeout(Duration::from_secs(5))
//!     .http(Peer::Internal)
//!     .service(handler)?;
//! let get = || Request::get("http://orders.example/7").body(String::new());
//!
//! let client = steadfast::client()
//!     .timeout(Duration::from_secs(5))
//!     .retry(steadfast::http::retry(3).budget(RetryBudget::builder().initial(1).build()?))
//!     .http(Peer::Internal)
//!     .service(server.clone())?;
//! assert_eq!(client.clone().oneshot(get()?).await?.status(), StatusCode::OK);
//!
//! // The server refuses the next request. The refusal is a response, and says when to come back.
//! let refused = server.oneshot(get()?).await?;
//! assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
//! assert_eq!(refused.headers()["retry-after"], "1");
//! assert_eq!(refused.headers()["content-type"], "application/problem+json");
//!
//! // The client waits for that time and sends the request again.
//! let start = Instant::now();
//! assert_eq!(client.oneshot(get()?).await?.status(), StatusCode::OK);
//! assert!(start.elapsed() >= Duration::from_secs(1));
//! # Ok(())
//! # }
//! ```
//!
//! # Whom to believe
//!
//! [`Peer::Internal`](crate::http::Peer::Internal) is a service of your own. It may ask for more: a higher criticality,
//! or with `steadfast-retry` that a call is not retried. [`Peer::External`](crate::http::Peer::External) is everyone
//! else. It may ask only for less, such as a lower criticality. By default, answers to it do not name the settings of
//! your limits.
//!
//! # What an answer means
//!
//! [`Verdict`](crate::http::Verdict) classifies answers. In short:
//!
//! | answer | outcome |
//! |---|---|
//! | 1xx to 3xx, gRPC 0 | success |
//! | 429; 503 with `Retry-After`; gRPC 8; any failed answer with a `steadfast-rejected` other than `timeout` | overloaded: retried after the hint; without a hint, not retried. A 429 without a hint gets a hint of 1 s, unless it has `steadfast-rejected` |
//! | 408, 425, other 5xx but 501 and 505; gRPC 1, 2, 4, 13, 14, 15 | failure: retried after the backoff |
//! | other 4xx, 501, 505; other gRPC codes | permanent: not retried, and no failure of the service |
//! | an error of the connection | failure; with [`unsent`](crate::http::Verdict::unsent), unprocessed where the request was not sent |
//!
//! # What callers get
//!
//! [`Answer`](crate::http::Answer) has the status for each rejection: 429 for a rate limit, 504 for a timeout, and 503
//! for the others. The body is a problem of RFC 9457. A gRPC request gets a code of gRPC instead, and no body. The
//! header `steadfast-rejected` names the mechanism.
//!
//! # Which requests are sent again
//!
//! [`http::retry`](crate::http::retry) repeats GET, HEAD, OPTIONS, TRACE, PUT, DELETE and requests with an
//! `Idempotency-Key` after every failure. It repeats all others, which includes all of gRPC, only if the server did not
//! process them. [`idempotent`](crate::retry::Retry::idempotent) adds requests of yours.
//! [`bodies`](crate::retry::Retry::bodies) keeps bodies that are not `Clone`, up to a cap, and replays them.
//!
//! # Deadlines, attempts and criticality in headers
//!
//! A client sends the time left with each attempt; a server reads it. gRPC uses `grpc-timeout`. HTTP between internal
//! peers uses `steadfast-deadline-ms`. Over HTTP without gRPC, an external peer receives no time left. See
//! [`Wire`](crate::http::Wire) for all headers, and [`deadlines`](super::deadlines) for the way through a process.
//!
//! # Bodies
//!
//! By default, a call ends with the head of its response. [`whole_body`](crate::stack::ServerBuilder::whole_body)
//! extends the places and the deadline of a call to the end of the body. If a gRPC call fails before its first message,
//! [`peek`](crate::http::peek) in the client copies the status from the trailers into the head.
//!
//! # Keys
//!
//! | one for each | key |
//! |---|---|
//! | host that a client calls | [`authority`](crate::http::authority), in a [`PerKey`](crate::per_key::PerKey) |
//! | address that calls a server | [`ClientAddress`](crate::http::ClientAddress), in a [`Keyed`](crate::rate_limit::Keyed) |
//! | value of a header, such as an API key | [`header`](crate::http::header), in a `Keyed<[u8]>` |
//!
//! [`header`](crate::http::header) borrows from the request. Use it with
//! [`by_key_ref`](crate::rate_limit::RateLimit::by_key_ref). A [`tenant`](crate::load_shed::LoadShed::tenant) and the
//! key of a `PerKey` must be owned. Write a closure for them:
//! `|request: &Request<B>| request.headers().get("api-key").cloned()`, where `B` is the type of your bodies.
//!
//! # Frameworks
//!
//! | | how | example |
//! |---|---|---|
//! | axum | `Router::layer(stack)`, without a `HandleErrorLayer` | `axum_server` |
//! | hyper server | `TowerToHyperService::new(stack)` | `hyper_server` |
//! | hyper-util client | as it is, with `retry_canceled_requests(false)` | `hyper_client` |
//! | tonic server | `Server::builder().layer(stack)` | `tonic_server` |
//! | tonic client | `GreeterClient::new(stack)`, with [`respond_http`](crate::stack::ClientBuilder::respond_http) | `tonic_client` |
//! | reqwest | a `service_fn` around `execute`, with reqwest's own `retry::never()` | `reqwest_client` |
//! | a proxy | a stack on each side | `proxy` |
//!
//! Frameworks have timers and retries of their own; [this section](crate::http#frameworks) says which to switch off.
