use super::{
    answer::{self, Answer, WantedFormat},
    body::HttpBody,
    peer::Peer,
    rate_limit_fields::{self, Advertise},
    wire,
};
use crate::{
    error::{ConfigError, Error, Rejection},
    shell::{Border, Frame},
};
use http::{
    Request, Response,
    header::{ACCEPT, CONTENT_TYPE},
};

/// Turns rejections into HTTP or gRPC responses in the caller's format. On a server it also reads the deadline, the
/// attempt number and the criticality from the caller's headers.
///
/// [`ServerBuilder::http`](crate::stack::ServerBuilder::http) and
/// [`ClientBuilder::respond_http`](crate::stack::ClientBuilder::respond_http) make one from a [`Peer`], or take one.
/// The error type of the service does not change. The body of a response becomes an [`HttpBody`]. [`Answer`] describes
/// the responses.
///
/// If a retry of the call was [forbidden](crate::CallContext::forbid_retry), the response has `steadfast-retry: never`,
/// whether it is the handler's response or a rejection.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::convert::Infallible;
/// use http::{HeaderValue, Request, Response, StatusCode};
/// use steadfast::{http::{Http, Peer}, load_shed::Limiter};
/// use tower::{ServiceExt, service_fn};
///
/// let border = Http::new(Peer::External).change_with(
///     |request: &Request<String>| request.uri().path().to_owned(),
///     |_, path, answer| {
///         answer.members.insert("path".to_owned(), path.into());
///         answer.headers.insert("x-support", HeaderValue::from_static("status.example.com"));
///     },
/// );
/// let places = Limiter::fixed(1)?;
/// let service = steadfast::server()
///     .load_shed(places.clone())
///     .http(border)
///     .service(service_fn(async |_: Request<String>| Ok::<_, Infallible>(Response::new(String::new()))))?;
///
/// let _taken = places.try_acquire()?;
/// let answer = service.oneshot(Request::get("/orders").body(String::new())?).await?;
/// assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
/// assert_eq!(answer.headers()["content-type"], "application/problem+json");
/// assert_eq!(answer.headers()["steadfast-rejected"], "load_shed");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Http<C = Unchanged, L = NoLimitFields> {
    peer: Peer,
    /// `true` on a server, which reads the context from the headers of requests.
    reads_context: bool,
    change: C,
    fields: L,
}

impl Http {
    /// Makes responses for this peer.
    pub fn new(peer: Peer) -> Self {
        Self { peer, reads_context: true, change: Unchanged, fields: NoLimitFields }
    }
}

impl From<Peer> for Http {
    fn from(peer: Peer) -> Self {
        Self::new(peer)
    }
}

impl<C, L> Http<C, L> {
    pub(super) fn peer(&self) -> Peer {
        self.peer
    }

    /// The border of a client. Its callers are in its own process, so it does not read the context from headers.
    pub(super) fn of_client(self) -> Self {
        Self { reads_context: false, ..self }
    }
}

impl<L> Http<Unchanged, L> {
    /// Lets this function change the [`Answer`] to a rejection before it is written.
    pub fn change<F>(self, change: F) -> Http<ChangedBy<F>, L>
    where
        F: Fn(&Rejection, &mut Answer),
    {
        let Self { peer, reads_context, change: Unchanged, fields } = self;
        Http { peer, reads_context, change: ChangedBy(change), fields }
    }

    /// Lets the function `change` change the [`Answer`] to a rejection before it is written. `change` also gets the
    /// value that `look` took from the request. `look` runs for each request, `change` for each rejection.
    pub fn change_with<Request, Kept, K, F>(self, look: K, change: F) -> Http<ChangedWith<K, F>, L>
    where
        K: Fn(&Request) -> Kept,
        F: Fn(&Rejection, Kept, &mut Answer),
    {
        let Self { peer, reads_context, change: Unchanged, fields } = self;
        Http { peer, reads_context, change: ChangedWith { look, change }, fields }
    }
}

impl<C> Http<C, NoLimitFields> {
    /// Reports the caller's remaining quota in `RateLimit` and `RateLimit-Policy` on every response, including
    /// responses to exempt requests.
    ///
    /// The fields follow version 10 of the IETF draft "RateLimit header fields for HTTP" and may change with it, so
    /// they are off by default. `name` is the name of the policy. `limit` is the stack's own limit or any other. Each
    /// response costs one reading of the limit and two headers.
    ///
    /// # Errors
    ///
    /// The name is not 1 to 64 printable ASCII characters other than `"` and `\`.
    pub fn rate_limit_fields<L>(self, name: &'static str, limit: L) -> Result<Http<C, LimitFields<L>>, ConfigError> {
        let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
        if name.is_empty() || name.len() > 64 || !name.bytes().all(is_plain) {
            let rule = "must be 1 to 64 printable ASCII characters other than \" and \\";
            return Err(ConfigError::new("http.rate_limit_fields.name", name, rule));
        }
        let Self { peer, reads_context, change, fields: NoLimitFields } = self;
        Ok(Http { peer, reads_context, change, fields: LimitFields { name, limit } })
    }
}

/// Leaves answers unchanged.
#[derive(Clone, Copy, Debug)]
pub struct Unchanged;

/// Changes answers with a function.
#[derive(Clone, Copy, Debug)]
pub struct ChangedBy<F>(F);

/// Changes answers with a function that gets a value taken from the request by another function.
#[derive(Clone, Copy, Debug)]
pub struct ChangedWith<K, F> {
    look: K,
    change: F,
}

/// Changes the answers to rejections.
pub trait Change<Request> {
    /// The value taken from a request.
    type Kept;

    /// Takes the value from a request.
    fn look(&self, request: &Request) -> Self::Kept;

    /// Changes the answer to a rejection.
    fn change(&self, rejection: &Rejection, kept: Self::Kept, answer: &mut Answer);
}

impl<Request> Change<Request> for Unchanged {
    type Kept = ();

    #[inline]
    fn look(&self, _request: &Request) {}

    #[inline]
    fn change(&self, _rejection: &Rejection, (): (), _answer: &mut Answer) {}
}

impl<Request, F: Fn(&Rejection, &mut Answer)> Change<Request> for ChangedBy<F> {
    type Kept = ();

    #[inline]
    fn look(&self, _request: &Request) {}

    fn change(&self, rejection: &Rejection, (): (), answer: &mut Answer) {
        (self.0)(rejection, answer);
    }
}

impl<Request, Kept, K, F> Change<Request> for ChangedWith<K, F>
where
    K: Fn(&Request) -> Kept,
    F: Fn(&Rejection, Kept, &mut Answer),
{
    type Kept = Kept;

    fn look(&self, request: &Request) -> Kept {
        (self.look)(request)
    }

    fn change(&self, rejection: &Rejection, kept: Kept, answer: &mut Answer) {
        (self.change)(rejection, kept, answer);
    }
}

/// Reports no limit in responses.
#[derive(Clone, Copy, Debug)]
pub struct NoLimitFields;

/// Reports the caller's remaining quota of this limit in responses.
#[derive(Clone, Copy, Debug)]
pub struct LimitFields<L> {
    name: &'static str,
    limit: L,
}

/// Reports the remaining quota of callers.
pub trait Fields<Request> {
    /// The key of the caller.
    type Key;

    /// Returns the key of the request's caller.
    fn key(&self, request: &Request) -> Self::Key;

    /// Writes the fields to the headers of a response. `refused` is the rejection that the response reports, if any.
    fn write(&self, key: &Self::Key, refused: Option<&Rejection>, frame: &mut Frame, headers: &mut http::HeaderMap);
}

impl<Request> Fields<Request> for NoLimitFields {
    type Key = ();

    #[inline]
    fn key(&self, _request: &Request) {}

    #[inline]
    fn write(&self, (): &(), _refused: Option<&Rejection>, _frame: &mut Frame, _headers: &mut http::HeaderMap) {}
}

impl<Request, L: Advertise<Request>> Fields<Request> for LimitFields<L> {
    type Key = L::Key;

    fn key(&self, request: &Request) -> L::Key {
        self.limit.key(request)
    }

    fn write(&self, key: &L::Key, refused: Option<&Rejection>, frame: &mut Frame, headers: &mut http::HeaderMap) {
        let hint = match refused {
            Some(rejection @ Rejection::RateLimited(_)) => rejection.retry_after(),
            _ => None,
        };
        frame.user_code_runs();
        rate_limit_fields::write(headers, self.name, self.limit.standing(key, frame.now()), hint);
    }
}

/// What the border keeps of a request until its response.
pub struct SeenRequest<Kept, Key> {
    wanted: WantedFormat,
    kept: Kept,
    key: Key,
}

impl<C, L, B, ResponseBody, E> Border<Request<B>, Response<ResponseBody>, E> for Http<C, L>
where
    C: Change<Request<B>>,
    L: Fields<Request<B>>,
{
    type Response = Response<HttpBody<ResponseBody>>;
    type Error = E;
    type Seen = SeenRequest<C::Kept, L::Key>;

    #[inline]
    fn enter(&self, request: &mut Request<B>, frame: &mut Frame) -> Self::Seen {
        let kept = self.change.look(request);
        let key = self.fields.key(request);
        frame.user_code_runs();
        if self.reads_context {
            let inherited = frame.inherited();
            let read = wire::read(self.peer, request.headers(), inherited.context(), || frame.now());
            let wanted = WantedFormat::by(request.method(), read.content_type, read.accept);
            frame.set_inherited(inherited.with_context(read.context));
            return SeenRequest { wanted, kept, key };
        }
        let headers = request.headers();
        let wanted = WantedFormat::by(request.method(), headers.get(CONTENT_TYPE), headers.get(ACCEPT));
        SeenRequest { wanted, kept, key }
    }

    #[inline]
    fn exit(
        &self,
        seen: Self::Seen,
        result: Result<Response<ResponseBody>, Error<E>>,
        frame: &mut Frame,
    ) -> Result<Self::Response, E> {
        let never = frame.is_retry_forbidden();
        let SeenRequest { wanted, kept, key } = seen;
        match result {
            Ok(response) => {
                let mut response = response.map(HttpBody::of_service);
                if never {
                    answer::mark(response.headers_mut(), never, false);
                }
                self.fields.write(&key, None, frame, response.headers_mut());
                Ok(response)
            }
            Err(Error::Rejected(rejection)) => {
                let mut answer = Answer::to(&rejection, self.peer);
                self.fields.write(&key, Some(&rejection), frame, &mut answer.headers);
                self.change.change(&rejection, kept, &mut answer);
                Ok(answer.write(&rejection, &wanted, never).map(HttpBody::of_rejection))
            }
            Err(Error::Service(error)) => Err(error),
        }
    }
}
