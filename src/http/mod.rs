//! At home in HTTP and gRPC: hyper, axum, tonic, reqwest and all that speaks `http::Request`.
//!
//! Every service has to say which answers are failures, what a refusal looks like, and when callers may come back.
//! Every chain of services has to pass its deadlines on and keep its retries from multiplying. This module does both,
//! by the standards of HTTP and gRPC, and without a framework.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::{convert::Infallible, time::Duration};
//! use http::{Request, Response, StatusCode};
//! use steadfast::{http::Peer, load_shed::Limiter};
//! use tower::{ServiceExt, service_fn};
//!
//! // The service of a server: for hyper, axum and tonic it is one like this.
//! let places = Limiter::fixed(32)?;
//! let orders = steadfast::server()
//!     .load_shed(places.clone())
//!     .timeout(Duration::from_secs(1))
//!     .http(Peer::Internal)
//!     .service(service_fn(async |_: Request<String>| Ok::<_, Infallible>(Response::new("two apples".to_owned()))))?;
//!
//! // A client of it: for hyper-util, reqwest and a channel of tonic it is one like this.
//! let client = steadfast::client()
//!     .timeout(Duration::from_secs(2))
//!     .retry(steadfast::http::retry(3))
//!     .attempt_timeout(Duration::from_millis(600))
//!     .http(Peer::Internal)
//!     .service(orders)?;
//! let request = || Request::get("http://orders.example/7").body(String::new());
//! assert_eq!(client.clone().oneshot(request()?).await?.status(), StatusCode::OK);
//!
//! // A server that is full says so, and its clients do not make it worse.
//! let _taken: Vec<_> = (0..32).map(|_| places.try_acquire()).collect();
//! assert_eq!(client.oneshot(request()?).await?.status(), StatusCode::SERVICE_UNAVAILABLE);
//! # Ok(())
//! # }
//! ```
//!
//! # What there is
//!
//! | | for a client | for a server |
//! |---|---|---|
//! | in one call | [`http(peer)`](crate::stack::ClientBuilder::http) | [`http(peer)`](crate::stack::ServerBuilder::http) |
//! | what an answer means | [`Verdict`] | [`Verdict`] |
//! | deadline, attempt, criticality | [`Wire`] writes them | [`Http`] reads them |
//! | rejections as responses | [`respond_http`](crate::stack::ClientBuilder::respond_http) | [`Http`], [`Answer`] |
//! | which requests may be sent again | [`retry`], [`Repeatable`] | |
//! | bodies that are sent again | [`bodies`](crate::retry::Retry::bodies), [`ReplayBody`] | |
//! | failures in gRPC trailers | [`peek`], [`whole_body`](crate::stack::ClientBuilder::whole_body) | |
//! | permits until the end of a body | [`whole_body`](crate::stack::ClientBuilder::whole_body) | [`whole_body`](crate::stack::ServerBuilder::whole_body) |
//! | keys | [`authority`] | [`ClientAddress`], [`header`] |
//! | requests that pass all limits | [`exempt`](crate::stack::ClientBuilder::exempt) | [`exempt`](crate::stack::ServerBuilder::exempt) |
//!
//! # Whom to believe
//!
//! [`Peer`] is one word for both directions. Anyone may ask for less: a shorter deadline, a lower criticality. For
//! more, only a service of your own may ask. Others are not sent attempts and criticalities,
//! and answers to them do not name the settings of limits.
//!
//! # A chain of services
//!
//! Each hop reads the time left, runs its handler with it, and sends what is left of it with each attempt of a call
//! that the handler makes. So deadlines shrink from hop to hop, and no service works on what its caller has given up. A
//! hop whose retry gives up marks its answer, and those above do not retry it again: see
//! [`CallContext::forbid_retry`](crate::CallContext::forbid_retry). The example `chain` shows four processes in front
//! of a broken leaf: 1.1 calls of the leaf for each call at the top, where plain retries make 27.
//!
//! The handler must call in the task that it runs in, or carry the context to another one by
//! [`CallContext::scope`](crate::CallContext::scope).
//!
//! # Neighbours
//!
//! | | how |
//! |---|---|
//! | axum | `Router::layer(stack)`, without a `HandleErrorLayer` |
//! | hyper server | `TowerToHyperService::new(stack)` |
//! | hyper-util client | as it is, with `retry_canceled_requests(false)` |
//! | tonic server | `Server::builder().layer(stack)` |
//! | tonic client | `GreeterClient::new(stack)` around a `Channel`, with `respond_http` |
//! | reqwest | `service_fn`: `client.execute(request.try_into()?)`, then `http::Response::from`; with `retry::never()` |
//!
//! The examples of these names are templates. Timeouts between two frames of a body are those of tower-http:
//! `RequestBodyTimeoutLayer` and `ResponseBodyTimeoutLayer`, around or inside the stack. tonic's server and channel run
//! a timer of their own for each `grpc-timeout`, which cannot be switched off and fires together with that of the
//! stack. On a client let an attempt wait where the channel fails by `TimeoutExpired`, as the example `tonic_client`
//! does; else some late calls fail with `CANCELLED`. On a server tonic answers a few late calls with `CANCELLED` in
//! place of `DEADLINE_EXCEEDED`. Leave all other timeouts of theirs unset. Without `respond_http` a generated client
//! reports each rejection as `UNKNOWN`.
//!
//! Where you import this module by its name, the crate `http` is `::http`.
//!
//! # Cancellation
//!
//! A call that its caller drops gives back everything at once, and so does a body. A server of hyper drops the call
//! when the connection is closed, or the stream reset.
//!
//! # Cost
//!
//! A call through `http(peer)` makes one pass over the headers of its request. On a server it allocates nothing. A
//! client's [`Wire`] writes up to three headers for each attempt, and allocates twice for each number. `whole_body` and
//! `bodies` allocate, as their pages say. The feature adds `http`, `http-body`, `http-body-util`, `httpdate` and
//! `serde_json` to the dependencies, which users of HTTP mostly have.
//!
//! # Differences from neighbours
//!
//! - tower-http answers a timeout with 408 by default, which browsers send again; here it is 504. Its classifiers,
//!   which know gRPC's trailers, serve its traces; no layer of it or of tower takes a hint.
//! - reqwest's own retries have no backoff, take no hint, and replay no body. reqwest-retry takes no hint, and fails on
//!   streams.
//! - Generated clients of tonic send the timeout of a request, and not what is left of the caller's.

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
pub use border::{AsItIs, Changed, ChangedBy, NotSaid, Said};
pub use key::{AuthorityKey, ClientAddress, authority, header};
#[doc(hidden)]
pub use key::{InExtensions, PeerAddress};
pub use peek::{Peek, PeekBody, PeekFuture, PeekService, peek};
pub use peer::Peer;
pub use rate_limit_fields::{Advertise, ByKey, Standing};
pub use repeat::{DEFAULT_REPLAY_CAP, Repeatable, retry};
#[doc(hidden)]
pub use repeat::{Idempotent, KeptBody, ReplayBodies, SaysIdempotent, SendClones, StandardOnly};
pub use replay_body::{ReplayBody, ReplayError};
pub use verdict::Verdict;
#[doc(hidden)]
pub use whole_body::ToTheEnd;
pub use whole_body::{NoBodyDeadline, WholeBody};
pub use wire::{IgnoredHeaders, Wire, ignored_headers};
