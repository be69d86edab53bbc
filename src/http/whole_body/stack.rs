use super::{border::ToTheEnd, deadline::BodyDeadlineStage, held::Lasting};
use crate::{
    error::ConfigError,
    stack::{
        Adapt, AdaptedClient, AdaptedServer, Adapter, ClientBuilder, Limit, LiveSlot, ServerBuilder, Slot, live::Pieces,
    },
    timeout::{Patience, TimeoutStage},
};
use std::time::Duration;

/// Lets permits and deadlines last until the end of a body.
#[derive(Clone, Copy, Debug)]
pub struct UntilBodyEnds {
    deadline: bool,
}

/// A slot that was not filled before [`whole_body`](ServerBuilder::whole_body), and cannot be after it: what would fill
/// it would not last.
#[derive(Clone, Copy, Debug)]
pub struct Shut;

impl Slot for Shut {
    type Stage<Next> = Next;

    fn build<Next>(self, next: Next) -> Result<Next, ConfigError> {
        Ok(next)
    }
}

impl LiveSlot for Shut {
    fn add_to(self, _pieces: &mut Pieces) -> Result<Self, ConfigError> {
        Ok(self)
    }
}

impl<W: Adapter> Adapt<W> for Shut {
    type Adapted = Self;

    fn adapt(self, _by: &W) -> Self {
        self
    }
}

/// A slot with a timeout whose deadline bounds the body, too.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimit<P = Duration> {
    limit: Limit<P>,
    deadline: bool,
}

impl<P: Patience> Slot for BodyLimit<P> {
    type Stage<Next> = TimeoutStage<BodyDeadlineStage<Next>, P>;

    fn build<Next>(self, next: Next) -> Result<Self::Stage<Next>, ConfigError> {
        self.limit.build(BodyDeadlineStage { next, is_on: self.deadline })
    }
}

impl<P: Patience> LiveSlot for BodyLimit<P> {
    fn add_to(self, pieces: &mut Pieces) -> Result<Self, ConfigError> {
        Ok(Self { limit: self.limit.add_to(pieces)?, ..self })
    }
}

impl Adapter for UntilBodyEnds {
    type Admission<A> = Lasting<A>;
    type Empty = Shut;
    type Timeout<P: Patience> = BodyLimit<P>;

    fn admission<A>(&self, admission: A) -> Lasting<A> {
        Lasting::new(admission)
    }

    fn empty(&self) -> Shut {
        Shut
    }

    fn timeout<P: Patience>(&self, limit: Limit<P>) -> BodyLimit<P> {
        BodyLimit { limit, deadline: self.deadline }
    }
}

impl<O, Q, L, V, T, F, X> ServerBuilder<O, Q, L, V, T, F, X>
where
    Q: Adapt<UntilBodyEnds>,
    L: Adapt<UntilBodyEnds>,
    V: Adapt<UntilBodyEnds>,
    T: Adapt<UntilBodyEnds>,
{
    /// Lets what is taken for a call last until the end of the response's body: places of the load shed and of the
    /// queue, and the deadline. Without it a call ends with the head of its response.
    ///
    /// A body ends when it was read to its end, fails, or is dropped, as by hyper where the client has gone. A body
    /// that is read slowly holds its place until its deadline, or until tower-http's `ResponseBodyTimeout` ends it
    /// where no frame comes for a while. Both act when the body is polled. hyper does not poll it while the client
    /// reads nothing at all: then the place comes back when the connection ends, so bound that, by `TCP_USER_TIMEOUT`
    /// say.
    ///
    /// Comes last: slots can be filled before it only, since what fills one later would not last. The body of a
    /// response is an [`HttpBody`](crate::http::HttpBody) around a [`WholeBody`](crate::http::WholeBody) then. A call
    /// with two gates and a timeout allocates eight times; each further gate adds one.
    ///
    /// Responses with [`NoBodyDeadline`](crate::http::NoBodyDeadline) in their extensions are not bounded in time.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::{convert::Infallible, time::Duration};
    /// use bytes::Bytes;
    /// use http::{Request, Response, StatusCode};
    /// use http_body_util::{BodyExt, Full};
    /// use steadfast::{http::Peer, load_shed::Limiter};
    /// use tower::{ServiceExt, service_fn};
    ///
    /// let places = Limiter::fixed(1)?;
    /// let service = steadfast::server()
    ///     .load_shed(places.clone())
    ///     .timeout(Duration::from_secs(5))
    ///     .http(Peer::External)
    ///     .whole_body()
    ///     .service(service_fn(async |_: Request<()>| {
    ///         Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("a long answer"))))
    ///     }))?;
    ///
    /// let answer = service.clone().oneshot(Request::new(())).await?;
    /// assert_eq!(places.in_flight(), 1); // the body is not read yet
    /// let refused = service.oneshot(Request::new(())).await?;
    /// assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    ///
    /// assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "a long answer");
    /// assert_eq!(places.in_flight(), 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn whole_body(self) -> AdaptedServer<O, Q, L, V, T, F, ToTheEnd<X>, UntilBodyEnds> {
        self.adapt(&UntilBodyEnds { deadline: true }).fill_border(ToTheEnd::new)
    }

    /// As [`whole_body`](Self::whole_body), but the deadline ends with the head of the response: for servers that send
    /// streams.
    pub fn whole_body_without_deadline(self) -> AdaptedServer<O, Q, L, V, T, F, ToTheEnd<X>, UntilBodyEnds> {
        self.adapt(&UntilBodyEnds { deadline: false }).fill_border(ToTheEnd::new)
    }
}

impl<O, T, R, B, Q, L, A, F, X> ClientBuilder<O, T, R, B, Q, L, A, F, X>
where
    T: Adapt<UntilBodyEnds>,
    R: Adapt<UntilBodyEnds>,
    B: Adapt<UntilBodyEnds>,
    Q: Adapt<UntilBodyEnds>,
    L: Adapt<UntilBodyEnds>,
    A: Adapt<UntilBodyEnds>,
{
    /// Lets what is taken for an attempt last until the end of the response's body: the place of the load shed, the
    /// verdict of the circuit breaker, and the deadlines. Without it an attempt ends with the head of its response.
    ///
    /// | the body | is for the circuit breaker |
    /// |---|---|
    /// | is read to its end | what the head said; for gRPC, what its trailers say |
    /// | fails | a failure |
    /// | is dropped while its reader waits for it | a call that was cancelled |
    /// | is dropped otherwise | what the head said; for gRPC, a call that was cancelled |
    /// | is not complete at the deadline, and its reader waits for it | a timeout |
    /// | is not complete at the deadline, and its reader is late | nothing |
    ///
    /// An answer whose head is a failure is one at once, however its body ends. A retry decides by the head: it drops
    /// the body, and what was taken for the attempt is given back.
    ///
    /// Comes last: slots can be filled before it only, since what fills one later would not last. The body of a
    /// response is a [`WholeBody`](crate::http::WholeBody) then, with `respond_http` an
    /// [`HttpBody`](crate::http::HttpBody) around one. An attempt with two gates and a timeout allocates eight times;
    /// each further gate adds one.
    pub fn whole_body(self) -> AdaptedClient<O, T, R, B, Q, L, A, F, ToTheEnd<X>, UntilBodyEnds> {
        self.adapt(&UntilBodyEnds { deadline: true }).fill_border(ToTheEnd::new)
    }

    /// As [`whole_body`](Self::whole_body), but the deadlines end with the head of the response: for streams.
    ///
    /// A gRPC server is still told the deadline of the attempt, and may end the stream by it. Give streams that last a
    /// stack without timeouts.
    pub fn whole_body_without_deadline(self) -> AdaptedClient<O, T, R, B, Q, L, A, F, ToTheEnd<X>, UntilBodyEnds> {
        self.adapt(&UntilBodyEnds { deadline: false }).fill_border(ToTheEnd::new)
    }
}
