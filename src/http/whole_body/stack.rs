use super::{border::ToTheEnd, deadline::BodyDeadlineStage, held::Lasting};
use crate::{
    error::ConfigError,
    stack::{
        Adapt, AdaptedClient, AdaptedServer, Adapter, ClientBuilder, Limit, LiveSlot, ServerBuilder, Slot, live::Pieces,
    },
    timeout::{Patience, TimeoutStage},
};
use std::time::Duration;

/// Makes permits and deadlines last until the end of the response body.
#[derive(Clone, Copy, Debug)]
pub struct UntilBodyEnds {
    /// Whether the deadline also bounds the body.
    deadline: bool,
}

/// A slot that was empty at [`whole_body`](ServerBuilder::whole_body). It cannot be filled later, because its permit
/// would not last until the end of the body.
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

/// A slot with a timeout. Its deadline also bounds the body, if `deadline` is `true`.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimit<P = Duration> {
    limit: Limit<P>,
    deadline: bool,
}

impl<P: Patience> Slot for BodyLimit<P> {
    type Stage<Next> = TimeoutStage<BodyDeadlineStage<Next>, P>;

    fn build<Next>(self, next: Next) -> Result<Self::Stage<Next>, ConfigError> {
        self.limit.build(BodyDeadlineStage { next, ends_body: self.deadline })
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
    /// Extends the permits of load shed and queue, and the deadline, to the end of the response body. Without it, a
    /// call ends with the head of its response.
    ///
    /// A body ends when it is read to its end, fails, or is dropped, for example by hyper when the client disconnects.
    /// A body that is read slowly holds its permit until its deadline, or until tower-http's `ResponseBodyTimeout` ends
    /// it because no frame came in time. The deadline and that timeout act only when the body is polled. hyper does not
    /// poll the body while the client reads nothing at all. The permit then returns when the connection ends, so bound
    /// the connection, for example with `TCP_USER_TIMEOUT`.
    ///
    /// Call it last: slots cannot be filled after it, because their permits would not last. The response body becomes
    /// an [`HttpBody`](crate::http::HttpBody) around a [`WholeBody`](crate::http::WholeBody). A call with two gates and
    /// a timeout allocates eight times; each additional gate adds one allocation.
    ///
    /// A response with [`NoBodyDeadline`](crate::http::NoBodyDeadline) in its extensions has no deadline for its body.
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

    /// Does what [`whole_body`](Self::whole_body) does, except that the deadline bounds only the head of the response.
    /// For servers that send streams.
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
    /// Extends the permit of load shed, the result for the circuit breaker, and the deadlines of an attempt to the end
    /// of the response body. Without it, an attempt ends with the head of its response.
    ///
    /// | the body | counts for the circuit breaker as |
    /// |---|---|
    /// | is read to its end | the result of the head; for gRPC, of the trailers |
    /// | fails or panics | a failure |
    /// | is dropped while its reader waits for more data | a cancelled call |
    /// | is dropped otherwise | the result of the head; for gRPC, a cancelled call, or a failure if the body has ended without trailers |
    /// | is incomplete at the deadline, its reader waits for it, and the attempt had half of its [full time](crate::shell::Ending::CutShort) | a timeout |
    /// | is incomplete at the deadline otherwise | nothing, unless the call was slow |
    ///
    /// A body may fail at or after the deadline, or its trailers may report a failure then. Such a failure does not
    /// count if the attempt had less than half of its full time. A response whose head is not a success counts by its
    /// head at once, however its body ends.
    ///
    /// A retry decides by the head. Before another attempt it drops the body, which returns the permits of the attempt
    /// that failed.
    ///
    /// Call it last: slots cannot be filled after it, because their permits would not last. The response body becomes a
    /// [`WholeBody`](crate::http::WholeBody), or with `respond_http` an [`HttpBody`](crate::http::HttpBody) around one.
    /// An attempt with two gates and a timeout allocates eight times; each additional gate adds one allocation.
    pub fn whole_body(self) -> AdaptedClient<O, T, R, B, Q, L, A, F, ToTheEnd<X>, UntilBodyEnds> {
        self.adapt(&UntilBodyEnds { deadline: true }).fill_border(ToTheEnd::new)
    }

    /// Does what [`whole_body`](Self::whole_body) does, except that the deadlines bound only the head of the response.
    /// For streams.
    ///
    /// A gRPC server still receives the deadline of the attempt and may end the stream at that time. For long streams,
    /// use a stack without timeouts.
    pub fn whole_body_without_deadline(self) -> AdaptedClient<O, T, R, B, Q, L, A, F, ToTheEnd<X>, UntilBodyEnds> {
        self.adapt(&UntilBodyEnds { deadline: false }).fill_border(ToTheEnd::new)
    }
}
