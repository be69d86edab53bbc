//! How do I put a stack around axum, hyper, tonic or reqwest?
//!
//! This page needs the feature `http`. Each recipe shows the lines that matter and compiles as it is. The examples of
//! the repository are complete programs with a reason beside each number: `axum_server`, `hyper_server`,
//! `hyper_client`, `tonic_server`, `tonic_client`, `reqwest_client` and `proxy`.
//!
//! # An axum server
//!
//! axum applies the layer to each route that comes before it. All these routes share one state, and so one limit. No
//! `HandleErrorLayer` is needed, because `.http(..)` makes a response of each rejection.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use axum::{Router, body::Body, http::{Request, StatusCode}, routing::get};
//! use std::time::Duration;
//! use steadfast::{http::Peer, load_shed::Limiter};
//! use tower::ServiceExt;
//!
//! let places = Limiter::fixed(32)?;
//! let stack = steadfast::server()
//!     .load_shed(places.clone())
//!     .timeout(Duration::from_secs(1))
//!     .http(Peer::External)
//!     .whole_body() // a call ends with the last byte of its answer
//!     .layer()?;
//! let app = Router::new()
//!     .route("/orders", get(async || "orders 1 to 9"))
//!     .layer(stack)
//!     .route("/health", get(async || "alive")); // after the layer: without limits
//! // In a program: `axum::serve(listener, app).await?`.
//!
//! let status = async |path| {
//!     let request = Request::get(path).body(Body::empty()).unwrap();
//!     app.clone().oneshot(request).await.unwrap().status()
//! };
//! assert_eq!(status("/orders").await, StatusCode::OK);
//!
//! let _busy: Vec<_> = (0..32).map(|_| places.try_acquire()).collect();
//! assert_eq!(status("/orders").await, StatusCode::SERVICE_UNAVAILABLE);
//! assert_eq!(status("/health").await, StatusCode::OK);
//! # Ok(())
//! # }
//! ```
//!
//! # A hyper server
//!
//! Each connection gets a clone of the service. All clones share the limits. A rejection has to be a response here,
//! because hyper closes the connection on an error.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use http_body_util::{Empty, Full};
//! use hyper::{Request, Response, StatusCode, body::{Bytes, Incoming}, client::conn::http1};
//! use hyper_util::{rt::{TokioExecutor, TokioIo, TokioTimer}, server::conn::auto, service::TowerToHyperService};
//! use std::{convert::Infallible, time::Duration};
//! use steadfast::{http::Peer, load_shed::Limiter};
//! use tower::service_fn;
//!
//! let answer = async |_: Request<Incoming>| Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("hello\n")));
//! let service = steadfast::server()
//!     .load_shed(Limiter::fixed(32)?)
//!     .timeout(Duration::from_secs(1))
//!     .http(Peer::External)
//!     .whole_body()
//!     .service(service_fn(answer))?;
//!
//! // In a program: `let (stream, _) = listener.accept().await?`, in a loop.
//! let (stream, caller) = tokio::io::duplex(4096);
//! let service = TowerToHyperService::new(service.clone());
//! tokio::spawn(async move {
//!     let mut connection = auto::Builder::new(TokioExecutor::new());
//!     connection.http1().timer(TokioTimer::new()); // bounds the time for the headers of a request
//!     connection.serve_connection(TokioIo::new(stream), service).await
//! });
//!
//! let (mut sender, connection) = http1::handshake(TokioIo::new(caller)).await?;
//! tokio::spawn(connection);
//! let answer = sender.send_request(Request::get("/").body(Empty::<Bytes>::new())?).await?;
//! assert_eq!(answer.status(), StatusCode::OK);
//! # Ok(())
//! # }
//! ```
//!
//! # A hyper client
//!
//! The stack wraps the client of hyper-util as it is. Switch off the retries of that client: two layers of retries
//! multiply. `unsent` says which errors prove that the server did not receive the request, so that even a POST can be
//! sent again.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use http_body_util::{BodyExt, Full, Limited};
//! use hyper::{Request, body::Bytes};
//! use hyper_util::{client::legacy::{self, Client}, rt::TokioExecutor};
//! use std::time::Duration;
//! use steadfast::{circuit_breaker::Breaker, http, http::{Peer, Verdict}};
//! use tower::ServiceExt;
//! # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! # let address = listener.local_addr()?;
//! # tokio::spawn(axum::serve(listener, axum::Router::new().fallback(async || "two apples")).into_future());
//!
//! let client = Client::builder(TokioExecutor::new()).retry_canceled_requests(false).build_http::<Full<Bytes>>();
//! let api = steadfast::client()
//!     .timeout(Duration::from_secs(10))
//!     .retry(http::retry(3))
//!     .circuit_breaker(Breaker::builder().build()?)
//!     .attempt_timeout(Duration::from_secs(3))
//!     .http_by(Peer::External, Verdict::new(Peer::External).unsent(legacy::Error::is_connect))
//!     .whole_body()
//!     .service(client)?;
//!
//! let answer = api.oneshot(Request::get(format!("http://{address}/")).body(Full::default())?).await?;
//! // At most 1 MB: a faulty server must not fill the memory.
//! let body = Limited::new(answer.into_body(), 1 << 20).collect().await.map_err(|error| error.to_string())?;
//! assert_eq!(body.to_bytes(), "two apples");
//! # Ok(())
//! # }
//! ```
//!
//! # A tonic server
//!
//! The layer applies to the whole server, with all services and connections. A rejected call is a gRPC status: a call
//! over the limit gets `RESOURCE_EXHAUSTED` with a pushback, which says whether and when to retry. A late call gets
//! `DEADLINE_EXCEEDED`.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use steadfast::{http::Peer, load_shed::Limiter};
//! use tonic::{Code, transport::{Endpoint, Server, server::TcpIncoming}};
//! use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
//!
//! let places = Limiter::fixed(32)?;
//! let stack = steadfast::server()
//!     .load_shed(places.clone())
//!     .timeout(Duration::from_secs(10))
//!     .http(Peer::Internal)
//!     .layer()?;
//!
//! // Put your own services here.
//! let (_reporter, health) = tonic_health::server::health_reporter();
//! let incoming = TcpIncoming::bind("127.0.0.1:0".parse()?)?;
//! let address = incoming.local_addr()?;
//! tokio::spawn(Server::builder().layer(stack).add_service(health).serve_with_incoming(incoming));
//!
//! let mut caller = HealthClient::new(Endpoint::from_shared(format!("http://{address}"))?.connect_lazy());
//! assert!(caller.check(HealthCheckRequest::default()).await.is_ok());
//!
//! let _busy: Vec<_> = (0..32).map(|_| places.try_acquire()).collect();
//! let refused = caller.check(HealthCheckRequest::default()).await.unwrap_err();
//! assert_eq!(refused.code(), Code::ResourceExhausted);
//! # Ok(())
//! # }
//! ```
//!
//! # A tonic client
//!
//! The stack is between the generated client and the channel. `respond_http` turns each rejection into a `Status`.
//! `peek` lets the retry see a failure that comes in the trailers before any message. `bodies` keeps messages of up to
//! 64 KiB for another attempt. The retry repeats a gRPC call only if the server provably did not process it.
//! `idempotent` names the calls that may be processed twice.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use steadfast::{circuit_breaker::Breaker, http, http::Peer};
//! use tonic::{body::Body, codegen::http::Request, transport::Endpoint};
//! use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
//! use tower::Layer;
//! # let (_reporter, health) = tonic_health::server::health_reporter();
//! # let incoming = tonic::transport::server::TcpIncoming::bind("127.0.0.1:0".parse()?)?;
//! # let address = incoming.local_addr()?;
//! # tokio::spawn(tonic::transport::Server::builder().add_service(health).serve_with_incoming(incoming));
//!
//! let channel = http::peek().layer(Endpoint::from_shared(format!("http://{address}"))?.connect_lazy());
//! let retry = http::retry(3).bodies(http::DEFAULT_REPLAY_CAP, Body::new);
//! let stack = steadfast::client()
//!     .timeout(Duration::from_secs(10))
//!     .retry(retry.idempotent(|request: &Request<_>| request.uri().path() == "/grpc.health.v1.Health/Check"))
//!     .circuit_breaker(Breaker::builder().build()?)
//!     .attempt_timeout(Duration::from_secs(3))
//!     .http(Peer::Internal)
//!     .respond_http(Peer::Internal)
//!     .whole_body()
//!     .service(channel)?;
//!
//! let mut client = HealthClient::new(stack);
//! assert!(client.check(HealthCheckRequest::default()).await.is_ok());
//! # Ok(())
//! # }
//! ```
//!
//! The channel has a timer of its own for each deadline. This timer can end a late call before the stack does. The
//! example `tonic_client` shows how to leave such a call to the stack, and how to recognize a connection that could not
//! be made.
//!
//! # A reqwest client
//!
//! One closure makes a service of `http::Request` from a `reqwest::Client`. `retry::never()` switches off the retries
//! of reqwest itself. `bodies` keeps up to 64 KiB of each body, streams included, for another attempt.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use http_body_util::BodyExt;
//! use hyper::{Request, Response, StatusCode};
//! use reqwest::{Body, Client, retry};
//! use std::time::Duration;
//! use steadfast::{circuit_breaker::Breaker, http, http::{Peer, Verdict}};
//! use tower::{ServiceExt, service_fn};
//! # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! # let address = listener.local_addr()?;
//! # tokio::spawn(axum::serve(listener, axum::Router::new().fallback(async |body: String| body)).into_future());
//!
//! let client = Client::builder().retry(retry::never()).build()?;
//! let api = steadfast::client()
//!     .timeout(Duration::from_secs(10))
//!     .retry(http::retry(3).bodies(http::DEFAULT_REPLAY_CAP, Body::wrap))
//!     .circuit_breaker(Breaker::builder().build()?)
//!     .attempt_timeout(Duration::from_secs(3))
//!     .http_by(Peer::External, Verdict::new(Peer::External).unsent(reqwest::Error::is_connect))
//!     .whole_body()
//!     .service(service_fn(move |request: Request<Body>| {
//!         let client = client.clone();
//!         async move { client.execute(request.try_into()?).await.map(Response::<Body>::from) }
//!     }))?;
//!
//! let answer = api.oneshot(Request::put(format!("http://{address}/notes/7")).body(Body::from("milk"))?).await?;
//! assert_eq!(answer.status(), StatusCode::OK);
//! assert_eq!(answer.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes(), "milk");
//! # Ok(())
//! # }
//! ```
//!
//! # One circuit breaker for each host
//!
//! A [`PerKey`](crate::per_key::PerKey) makes a breaker for each host and port that the client calls. A host that is
//! down then opens only its own circuit. Few hosts get 20 calls in 10 s, which the default needs; failures in a row
//! open the circuit sooner.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use hyper::{Request, Response};
//! use steadfast::{circuit_breaker::{Breaker, BreakerState}, http, http::Peer, per_key::PerKey};
//! use tower::{ServiceExt, service_fn};
//!
//! // Put the client of hyper-util or reqwest here.
//! let send = service_fn(async |request: Request<String>| match request.uri().host() {
//!     Some("dead.example") => Err("connection refused"),
//!     _ => Ok(Response::new("two apples".to_owned())),
//! });
//! let breakers = PerKey::new(http::authority, Breaker::builder().consecutive_failures(5))?;
//! let api = steadfast::client().circuit_breaker(breakers.clone()).http(Peer::External).service(send)?;
//!
//! for _ in 0..5 {
//!     let get = |uri| api.clone().oneshot(Request::get(uri).body(String::new()).unwrap());
//!     assert!(get("http://dead.example/").await.is_err());
//!     assert!(get("http://living.example/").await.is_ok());
//! }
//! breakers.for_each(|host, breaker| println!("{host}: {:?}", breaker.state()));
//! assert_eq!(breakers.open(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! If the stack also has a retry, all hosts share its budget. [`most_open`](crate::per_key::PerKey::most_open) bounds
//! the share of circuits that are open at once.
//!
//! # Idempotency keys
//!
//! A POST may have had effects even if its answer is lost. `http::retry` therefore sends it again only if the server
//! provably did nothing. A request with an `Idempotency-Key` is sent again after every failure: the server recognizes
//! the key and does the work once. All attempts of a call carry the same key.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use hyper::{Request, Response, StatusCode};
//! use std::{convert::Infallible, sync::atomic::{AtomicU32, Ordering::Relaxed}};
//! use steadfast::{http, http::Peer, retry::RetryBudget};
//! use tower::{ServiceExt, service_fn};
//!
//! static CALLS: AtomicU32 = AtomicU32::new(0);
//! let bank = service_fn(async |_: Request<String>| {
//!     let mut answer = Response::new("paid".to_owned());
//!     if CALLS.fetch_add(1, Relaxed) == 0 {
//!         *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
//!     }
//!     Ok::<_, Infallible>(answer)
//! });
//! let bank = steadfast::client()
//!     .retry(http::retry(3).budget(RetryBudget::builder().initial(1).build()?))
//!     .http(Peer::External)
//!     .service(bank)?;
//!
//! let payment = Request::post("http://bank.example/payments");
//! let answer = bank.clone().oneshot(payment.body(String::new())?).await?;
//! assert_eq!((answer.status(), CALLS.swap(0, Relaxed)), (StatusCode::INTERNAL_SERVER_ERROR, 1));
//!
//! let payment = Request::post("http://bank.example/payments").header("idempotency-key", r#""7f3a""#);
//! let answer = bank.oneshot(payment.body(String::new())?).await?;
//! assert_eq!((answer.status(), CALLS.load(Relaxed)), (StatusCode::OK, 2));
//! # Ok(())
//! # }
//! ```
//!
//! This crate does not keep the answers of a server by their keys: the server, or its database, has to. Work that may
//! be done later can go into a durable queue. Of the messages with one key within `dedup_for`, the queue appends only
//! the first. See [`fleet`](crate::guide::fleet#a-queue-over-redis) for the queue, and
//! [`safe_retries`](crate::guide::safe_retries) for requests other than HTTP.
