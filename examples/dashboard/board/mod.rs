//! A live page of the stacks of a server: their current numbers, and switches for live stacks.
//!
//! Copy this folder into your own server. It needs `axum` (with `http1` and `tokio`), `futures`, `serde_json`, `tokio`,
//! and the features `metrics` and `serde` of `steadfast`. To use it:
//!
//! ```ignore
//! let metrics = Metrics::new();
//! let (layer, control) = steadfast::client().observe("payments", metrics.clone()) /* .. */ .live()?;
//! let token = env::var("BOARD_TOKEN").unwrap_or_default();
//! let board = Board::new(metrics).stack("payments", control).token(token);
//! let listener = TcpListener::bind("127.0.0.1:9900").await?;
//! tokio::spawn(async { axum::serve(listener, board.router()).await });
//! ```
//!
//! # Access
//!
//! Everyone who can reach the page sees names, numbers and configurations. Serve it only to operators: on a separate
//! port, as above, or behind your own authentication. To serve it under a path, use `nest_service("/board",
//! board.router())`. Its address then ends with a slash: `/board/`.
//!
//! The switches need the token. Without a configured token, the page has no switches, and the server has no route for
//! them.
//!
//! # Cost
//!
//! One task reads the metrics once a second for all viewers, and only while there are viewers. A slow viewer skips
//! messages. A graceful shutdown waits for open streams: bound it in time, or abort the streams.

mod assets;
mod events;
mod patch;

use self::events::Events;
use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{
            AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, WWW_AUTHENTICATE,
            X_CONTENT_TYPE_OPTIONS,
        },
    },
    middleware::map_response,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use std::{
    hint::black_box,
    sync::{Arc, Mutex, PoisonError},
};
use steadfast::{stack::live::Control, telemetry::Metrics};

/// The longest patch. A configuration has a few hundred bytes.
const MOST_BYTES: usize = 64 * 1024;

/// Sent with every response. The page loads nothing from other hosts, runs no inline script, and cannot be framed.
const HEADERS: [(HeaderName, &str); 4] = [
    (CACHE_CONTROL, "no-store"),
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (REFERRER_POLICY, "no-referrer"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
];

/// A page that shows stacks. See the [module](self).
pub struct Board {
    metrics: Metrics,
    stacks: Vec<(String, Control)>,
    token: Option<String>,
    note: Option<Note>,
}

type Note = Box<dyn Fn() -> String + Send + Sync>;

/// The state shared by the routes.
struct Shared {
    board: Board,
    events: Events,
    /// Serializes changes, so that none is lost: each reads the current configuration, changes a part, and applies it.
    change: Mutex<()>,
}

impl Board {
    /// Creates a board of all stacks that these metrics observe.
    pub fn new(metrics: Metrics) -> Self {
        Self { metrics, stacks: Vec::new(), token: None, note: None }
    }

    /// Shows the configuration of the stack with this name, and its switches if there is a [`token`](Self::token).
    /// Stacks are shown in this order, before the stacks without a control.
    pub fn stack(mut self, name: impl Into<String>, control: Control) -> Self {
        self.stacks.push((name.into(), control));
        self
    }

    /// Sets the token that operators need for the switches: at least 128 bits from a cryptographic random generator.
    /// Without a token, or with an empty one, the page has no switches.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into()).filter(|token| !token.is_empty());
        self
    }

    /// Sets a function for a line of text above the cards, called once a second: a version, a region. Default: none.
    #[allow(dead_code, reason = "a server that copies this folder may need no note")]
    pub fn note(mut self, note: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.note = Some(Box::new(note));
        self
    }

    /// Returns the routes: `GET /` is the page, and `GET /events` is its event stream. `POST /stacks/{name}` changes a
    /// configuration, if there is a token.
    pub fn router(self) -> Router {
        let mut router = Router::new().route("/events", get(events));
        for asset in &assets::ALL {
            router = router.route(asset.path, get(async move || asset.response()));
        }
        if self.token.is_some() {
            router = router.route("/stacks/{name}", post(change));
        }
        let shared = Shared { board: self, events: Events::default(), change: Mutex::default() };
        router
            .layer(DefaultBodyLimit::max(MOST_BYTES))
            .layer(map_response(async |mut response: Response| {
                for (name, value) in HEADERS {
                    response.headers_mut().insert(name, HeaderValue::from_static(value));
                }
                response
            }))
            .with_state(Arc::new(shared))
    }
}

async fn events(State(shared): State<Arc<Shared>>) -> Response {
    match events::listen(shared) {
        Ok(stream) => stream.into_response(),
        Err(full) => full.into_response(),
    }
}

async fn change(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if !shared.board.admits(&headers) {
        let wanted = [(WWW_AUTHENTICATE, "Bearer")];
        return (StatusCode::UNAUTHORIZED, wanted, "the token is missing or wrong\n").into_response();
    }
    let Some((_, control)) = shared.board.stacks.iter().find(|(stack, _)| *stack == name) else {
        return (StatusCode::NOT_FOUND, "no stack of this name has switches\n").into_response();
    };
    let _alone = shared.change.lock().unwrap_or_else(PoisonError::into_inner);
    match patch::apply(control, &body) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(refusal) => (StatusCode::UNPROCESSABLE_ENTITY, format!("{refusal}\n")).into_response(),
    }
}

impl Board {
    fn admits(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        match (&self.token, given) {
            (Some(token), Some(given)) => are_the_same(token.as_bytes(), given),
            _ => false,
        }
    }
}

/// Compares tokens in constant time. The time may reveal the length of the token.
fn are_the_same(token: &[u8], given: &[u8]) -> bool {
    let differences = token.iter().zip(given).fold(0, |seen, (one, other)| black_box(seen | (one ^ other)));
    token.len() == given.len() && differences == 0
}
