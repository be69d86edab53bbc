//! HTTP and gRPC for hyper, axum, tonic, reqwest, and any other service of `http::Request`.
//!
//! A service has to decide which responses are failures, how to answer a rejected call, and when callers may retry. A
//! chain of services has to propagate its deadlines and keep its retries from multiplying. This module does all of this
//! by the standards of HTTP and gRPC. It needs no framework.
//!
//! This module needs the feature `http`.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::{convert::Infallible, time::Duration};
//! use http::{Request, Response, StatusCode};
//! use steadfast::{http::Peer, load_shed::Limiter};
//! use tower::{ServiceExt, service_fn};
//!
//! // The service of a server. For hyper, axum and tonic it is built in the same way.
//! let places = Limiter::fixed(32)?;
//! let orders = steadfast::server()
//!     .load_shed(places.clone())
//!     .timeout(Duration::from_secs(1))
//!     .http(Peer::Internal)
//!     .service(service_fn(async |_: Request<String>| Ok::<_, Infallible>(Response::new("two apples".to_owned()))))?;
//!
//! // A client of that server. For hyper-util, reqwest and a tonic channel it is built in the same way.
//! let client = steadfast::client()
//!     .timeout(Duration::from_secs(2))
//!     .retry(steadfast::http::retry(3))
//!     .attempt_timeout(Duration::from_millis(600))
//!     .http(Peer::Internal)
//!     .service(orders)?;
//! let request = || Request::get("http://orders.example/7").body(String::new());
//! assert_eq!(client.clone().oneshot(request()?).await?.status(), StatusCode::OK);
//!
//! // A server at its limit answers 503. The answer does not say when to come back, so the client does not retry.
//! let _taken: Vec<_> = (0..32).map(|_| places.try_acquire()).collect();
//! assert_eq!(client.oneshot(request()?).await?.status(), StatusCode::SERVICE_UNAVAILABLE);
//! # Ok(())
//! # }
//! ```
//!
//! # Contents
//!
//! | | for a client | for a server |
//! |---|---|---|
//! | everything below that most services need | [`http(peer)`](crate::stack::ClientBuilder::http) | [`http(peer)`](crate::stack::ServerBuilder::http) |
//! | classification of responses | [`Verdict`] | [`Verdict`] |
//! | deadline, attempt, criticality | [`Wire`] writes them | [`Http`] reads them |
//! | rejections as responses | [`respond_http`](crate::stack::ClientBuilder::respond_http) | [`Http`], [`Answer`] |
//! | which requests may be retried | [`retry`], [`Repeatable`] | |
//! | replay of request bodies | [`bodies`](crate::retry::Retry::bodies), [`ReplayBody`] | |
//! | failures in gRPC trailers | [`peek`], [`whole_body`](crate::stack::ClientBuilder::whole_body) | |
//! | permits held until the end of the body | [`whole_body`](crate::stack::ClientBuilder::whole_body) | [`whole_body`](crate::stack::ServerBuilder::whole_body) |
//! | keys for limits and breakers | [`authority`] | [`ClientAddress`]; [`header`] with a `Keyed<[u8]>` by [`by_key_ref`](crate::rate_limit::RateLimit::by_key_ref) |
//! | requests exempt from all limits | [`exempt`](crate::stack::ClientBuilder::exempt) | [`exempt`](crate::stack::ServerBuilder::exempt) |
//!
//! # Trust
//!
//! [`Peer`] says how far to trust the other end: which of its headers count, and which headers it receives. Any peer
//! may ask for less: a shorter deadline, or a lower criticality. Only an internal peer may ask for more. An external
//! peer receives no criticality, and a deadline and an attempt number only in gRPC. Responses to it do not reveal the
//! settings of limits, unless [`rate_limit_fields`](Http::rate_limit_fields) reports them.
//!
//! # A chain of services
//!
//! Each hop reads the time left and runs its handler with that deadline. Each attempt of a call that the handler makes
//! sends the time that is then left. Deadlines therefore shrink from hop to hop. After a caller has given up, a service
//! with a timeout works on the call for at most the time in transit.
//!
//! A hop whose retry gives up marks its response with `steadfast-retry: never`. The callers above then do not retry the
//! call: see [`CallContext::forbid_retry`](crate::CallContext::forbid_retry). The example `chain` runs a client, two
//! services and a broken last service, in four processes. The last service receives 1.1 calls for each call of the
//! client; plain retries would send 27.
//!
//! This works only for calls that the handler makes in its own task. For calls in another task, carry the context there
//! with [`CallContext::scope`](crate::CallContext::scope). These calls then have the deadline. A retry that gives up in
//! the other task does not mark the response.
//!
//! # Frameworks
//!
//! | | how |
//! |---|---|
//! | axum | `Router::layer(stack)`, without a `HandleErrorLayer` |
//! | hyper server | `TowerToHyperService::new(stack)` |
//! | hyper-util client | unchanged, with `retry_canceled_requests(false)` |
//! | tonic server | `Server::builder().layer(stack)` |
//! | tonic client | `GreeterClient::new(stack)` around a `Channel`, with `respond_http` |
//! | reqwest | `service_fn`: `client.execute(request.try_into()?)`, then `http::Response::from`; with reqwest's own `retry::never()` |
//!
//! The examples `axum_server`, `hyper_server`, `hyper_client`, `tonic_server`, `tonic_client` and `reqwest_client` are
//! templates. For timeouts between two frames of a body, use tower-http's `RequestBodyTimeoutLayer` and
//! `ResponseBodyTimeoutLayer`, around or inside the stack.
//!
//! tonic's server and channel run a timer of their own for each `grpc-timeout`. It cannot be switched off, and it fires
//! at the same time as the stack's timer. If tonic's timer fires first on a client, the channel fails with
//! `TimeoutExpired`, and the call with `CANCELLED`. The example `tonic_client` shows the remedy: its attempt drops that
//! error and stays pending until the stack's timer ends it. On a server, tonic answers a few late calls with
//! `CANCELLED` instead of `DEADLINE_EXCEEDED`. Leave all other timeouts of these frameworks unset. Without
//! `respond_http`, a generated client reports each rejection as `UNKNOWN`.
//!
//! If you import this module as `http`, name the crate `http` as `::http`.
//!
//! # Cancellation
//!
//! A call that its caller drops returns its permits at once. With `whole_body`, a dropped response body does so, too. A
//! hyper server drops the call when the connection is closed or the stream is reset.
//!
//! # Cost
//!
//! A call through `http(peer)` makes one pass over the headers of its request. On a server it allocates only for the
//! response to a rejection. A client's [`Wire`] writes up to three headers for each attempt, and up to five in gRPC. It
//! allocates twice for each number. The pages of `whole_body` and [`ReplayBody`] state their allocations. The feature
//! adds the dependencies `http`, `http-body`, `http-body-util`, `httpdate` and `serde_json`, which most users of HTTP
//! already have.
//!
//! # Differences from other crates
//!
//! - tower-http answers a timeout with 408 by default, which browsers retry; this crate answers 504. tower-http's
//!   classifiers read gRPC trailers but serve only its traces. No layer of tower-http or tower follows a `Retry-After`.
//! - reqwest's own retries have no backoff, ignore `Retry-After`, and replay no body. reqwest-retry ignores
//!   `Retry-After`, and fails on streaming bodies.
//! - Clients generated by tonic send the timeout of the request, not the rest of the caller's deadline.

mod answer;
mod body;
mod border;
mod grpc;
mod key;
mod peek;
mod peer;
mod rate_limit_fields;
mod repeat;
mod replay_body;
mod retry_after;
mod stack;
mod verdict;
mod whole_body;
mod wire;

pub use answer::Answer;
pub use body::HttpBody;
pub use border::Http;
#[doc(hidden)]
pub use border::{ChangedBy, ChangedWith, LimitFields, NoLimitFields, Unchanged};
pub use key::{AuthorityKey, ClientAddress, authority, header};
#[doc(hidden)]
pub use key::{InExtensions, PeerAddress};
pub use peek::{Peek, PeekBody, PeekFuture, PeekService, peek};
pub use peer::Peer;
pub use rate_limit_fields::{Advertise, ByKey, Standing};
pub use repeat::{DEFAULT_REPLAY_CAP, Repeatable, retry};
#[doc(hidden)]
pub use repeat::{Idempotent, IsIdempotent, KeptBody, ReplayBodies, SendClones, StandardOnly};
pub use replay_body::{ReplayBody, ReplayError};
pub use verdict::Verdict;
#[doc(hidden)]
pub use whole_body::ToTheEnd;
pub use whole_body::{NoBodyDeadline, WholeBody};
pub use wire::{IgnoredHeaders, Wire, ignored_headers};
