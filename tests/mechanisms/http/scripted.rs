//! Request bodies that follow a script, and attempts that a test controls.

use crate::support::ms;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::{HeaderMap, Request, Response};
use std::{
    collections::VecDeque,
    convert::Infallible,
    future::ready,
    mem,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};
use steadfast::{
    Outcome,
    http::{self, ReplayBody, ReplayError},
    retry::Backoff,
};
use thiserror::Error;
use tower::{ServiceExt, service_fn};

/// The result of one poll of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Say {
    Data(Vec<u8>),
    /// Data whose memory the test has made.
    Frame(Bytes),
    Trailers,
    Error,
    Panic,
    End,
}

impl Say {
    pub fn bytes(&self) -> usize {
        if let Self::Data(data) = self { data.len() } else { 0 }
    }
}

#[derive(Debug, PartialEq, Eq, Error)]
pub enum Failure {
    #[error("the script fails here")]
    Scripted,
    #[error(transparent)]
    Replay(Box<ReplayError<Failure>>),
}

/// Runs once, in the next poll of the script, before the script returns its result.
pub type Hook = Box<dyn FnOnce() + Send>;

#[derive(Default)]
pub struct State {
    says: VecDeque<Say>,
    /// Results that the test will add.
    promised: Vec<Say>,
    /// Whether the size of the body is known.
    is_exact: bool,
    waker: Option<Waker>,
    pub hook: Option<Hook>,
}

impl State {
    /// Adds a result without waking a reader.
    pub fn says_next(&mut self, say: Say) {
        self.says.push_back(say);
    }
}

/// A body that a test extends while it is read.
#[derive(Clone, Default)]
pub struct Script(pub Arc<Mutex<State>>);

impl Script {
    /// A body with these results.
    pub fn of(says: impl IntoIterator<Item = Say>) -> Self {
        let script = Self::default();
        script.0.lock().unwrap().says = says.into_iter().collect();
        script
    }

    /// Makes the size and the end of the body known. The test will add `promised`.
    pub fn exact(self, promised: &[Say]) -> Self {
        let mut state = self.0.lock().unwrap();
        (state.is_exact, state.promised) = (true, promised.to_vec());
        drop(state);
        self
    }

    pub fn say(&self, say: Say) {
        let mut state = self.0.lock().unwrap();
        if !state.promised.is_empty() {
            state.promised.remove(0);
        }
        state.says.push_back(say);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

pub fn trailers() -> HeaderMap {
    HeaderMap::from_iter([("checksum".parse().unwrap(), "17".parse().unwrap())])
}

pub fn data(text: &str) -> Say {
    Say::Data(text.as_bytes().to_vec())
}

/// The body of a request: the script, or the replayed body of an attempt.
pub enum Scripted {
    Script(Script),
    Replay(Box<ReplayBody<Scripted>>),
}

impl Scripted {
    pub fn replay(body: ReplayBody<Self>) -> Self {
        Self::Replay(Box::new(body))
    }
}

impl Body for Scripted {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let script = match self.get_mut() {
            Self::Script(script) => script,
            Self::Replay(body) => {
                return Pin::new(body).poll_frame(cx).map_err(|error| match error {
                    ReplayError::Body(error) => error,
                    error => Failure::Replay(Box::new(error)),
                });
            }
        };
        let hook = script.0.lock().unwrap().hook.take();
        if let Some(hook) = hook {
            hook();
        }
        let mut state = script.0.lock().unwrap();
        let Some(say) = state.says.pop_front() else {
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        drop(state);
        Poll::Ready(match say {
            Say::Data(data) => Some(Ok(Frame::data(data.into()))),
            Say::Frame(data) => Some(Ok(Frame::data(data))),
            Say::Trailers => Some(Ok(Frame::trailers(trailers()))),
            Say::Error => Some(Err(Failure::Scripted)),
            Say::Panic => panic!("the script fails here"),
            Say::End => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Script(script) => {
                let state = script.0.lock().unwrap();
                state.is_exact && state.says.iter().chain(&state.promised).all(|say| *say == Say::End)
            }
            Self::Replay(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Script(script) => {
                let state = script.0.lock().unwrap();
                let size = state.says.iter().chain(&state.promised).map(Say::bytes).sum::<usize>();
                if state.is_exact { SizeHint::with_exact(size as u64) } else { SizeHint::default() }
            }
            Self::Replay(body) => body.size_hint(),
        }
    }
}

/// Counts its wake-ups.
#[derive(Default)]
pub struct Woken(AtomicUsize);

impl Woken {
    pub fn times(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The result of one poll of a body, as its reader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    Pending,
    Data(Vec<u8>),
    Trailers,
    End,
    Scripted,
    TooLarge,
    FailedElsewhere,
}

pub fn read<B: Body<Data = Bytes, Error = Failure> + Unpin>(body: &mut B, waker: &Arc<Woken>) -> Read {
    let waker = Waker::from(waker.clone());
    match Pin::new(body).poll_frame(&mut Context::from_waker(&waker)) {
        Poll::Pending => Read::Pending,
        Poll::Ready(None) => Read::End,
        Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
            Ok(data) => Read::Data(data.to_vec()),
            Err(frame) => {
                assert_eq!(frame.into_trailers().unwrap(), trailers());
                Read::Trailers
            }
        },
        Poll::Ready(Some(Err(Failure::Scripted))) => Read::Scripted,
        Poll::Ready(Some(Err(Failure::Replay(error)))) => match *error {
            ReplayError::TooLarge { .. } => Read::TooLarge,
            ReplayError::FailedElsewhere => Read::FailedElsewhere,
            error => unreachable!("{error}"),
        },
    }
}

/// Reads a body to its end. Panics if a frame is not ready.
pub fn read_all(mut body: Scripted) -> Vec<Read> {
    let mut all = Vec::new();
    loop {
        match read(&mut body, &Arc::default()) {
            Read::End => return all,
            Read::Pending => panic!("the body is not complete: {all:?}"),
            next => all.push(next),
        }
    }
}

pub fn text(text: &str) -> Read {
    Read::Data(text.as_bytes().to_vec())
}

/// The response of the service.
pub type Answer = Result<Response<()>, Infallible>;

/// Makes a call with `attempts` attempts that all fail. `attempt` gets the request of each.
pub async fn call(attempts: u32, cap: usize, request: Request<Scripted>, attempt: impl FnMut(Request<Scripted>)) {
    let retry = http::retry(attempts).without_budget().backoff(Backoff::exponential(ms(1), ms(1)));
    let attempt = Mutex::new(attempt);
    let service = service_fn(|request| {
        (attempt.lock().unwrap())(request);
        ready(Answer::Ok(Response::new(())))
    });
    let client = steadfast::client()
        .retry(retry.bodies(cap, Scripted::replay))
        .classify(|_: Result<&Response<()>, &Infallible>| Outcome::Failure)
        .service(service)
        .unwrap();
    client.oneshot(request).await.unwrap();
}

/// Returns the bodies of `attempts` live attempts. The newest comes last.
pub async fn bodies(attempts: u32, cap: usize, body: Script) -> Vec<Scripted> {
    let bodies = Mutex::new(Vec::new());
    let request = Request::put("/").body(Scripted::Script(body)).unwrap();
    call(attempts, cap, request, |request| bodies.lock().unwrap().push(request.into_body())).await;
    mem::take(&mut *bodies.lock().unwrap())
}
