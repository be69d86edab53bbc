use super::{
    deadline::BodyDeadline,
    held::{BodyEnd, HeldPermits},
};
use crate::{
    classify::Outcome,
    error::{Rejection, TimedOut},
    http::{
        answer::write_status,
        grpc::{self, GrpcCode},
        verdict::{self, Verdict},
    },
    shell::{Frame as CallFrame, Timer},
};
use http::{HeaderMap, Response, header::CONTENT_LENGTH};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::{
    fmt, mem,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::time::Instant;
use tower::BoxError;

pin_project! {
    /// A response body that holds the permits of its call until its end, and enforces the deadline.
    ///
    /// It passes on the frames of the service's body. The permits are returned when the body is read to its end, fails,
    /// or is dropped, whichever comes first. The service's body is dropped before its permits are settled.
    ///
    /// The body ends at its deadline. A gRPC body ends with trailers that say `DEADLINE_EXCEEDED`. Any other body fails
    /// with a [`Rejection`]. hyper then closes the connection or resets the stream, so the client learns that the body
    /// is incomplete.
    ///
    /// The deadline applies even if the next frame is ready, so that a slow reader cannot hold a permit for longer.
    /// Only a frame that completes the body is still passed on. If the reader was late, the end at the deadline says
    /// nothing about the service. With a deadline, each data frame costs a reading of the clock.
    pub struct WholeBody<B>
    where
        B: Body,
    {
        // `None` once it has ended.
        #[pin]
        body: Option<B>,
        // On the stack during a poll, so that a panic settles them.
        permits: HeldPermits,
        // Boxed, so that this body is `Unpin` if the service's body is.
        timer: Option<Pin<Box<Timer>>>,
        deadline: Option<BodyDeadline>,
        // `true` if the last poll returned no frame: the reader waits for the service.
        waits: bool,
        // The bytes left of the announced `Content-Length`.
        left: Option<u64>,
        // Classifies the trailers of a gRPC response whose status they carry.
        judge: Option<Verdict>,
        is_grpc: bool,
    }

    impl<B: Body> PinnedDrop for WholeBody<B> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let Some(body) = this.body.as_mut().as_pin_mut() else { return };
            let end = match this.judge {
                // The body has ended without trailers.
                Some(_) if body.is_end_stream() => BodyEnd::Failed,
                // The reader does not wait for the service, which did what its head said.
                None if !*this.waits || is_whole(&*body, *this.left) => BodyEnd::Complete,
                _ => BodyEnd::Cancelled,
            };
            this.body.set(None);
            this.permits.settle(end);
        }
    }
}

/// Whether the body has no more data.
fn is_whole(body: &impl Body, left: Option<u64>) -> bool {
    body.is_end_stream() || body.size_hint().upper() == Some(0) || left == Some(0)
}

/// Settles permits as [`BodyEnd::Panicked`] when dropped, unless they were taken.
struct SettleOnPanic(HeldPermits);

impl Drop for SettleOnPanic {
    fn drop(&mut self) {
        self.0.settle(BodyEnd::Panicked);
    }
}

impl SettleOnPanic {
    fn end(mut self, end: BodyEnd) {
        self.0.settle(end);
    }

    fn keep(mut self) -> HeldPermits {
        mem::take(&mut self.0)
    }
}

impl<B: Body> WholeBody<B> {
    /// Moves the permits and the deadline of a response into its body.
    pub(super) fn of(
        response: Response<B>,
        mut permits: HeldPermits,
        deadline: Option<BodyDeadline>,
        judge: &Verdict,
    ) -> Response<Self> {
        let is_grpc = grpc::is_grpc(response.headers());
        let judge = verdict::awaits_trailers(&response).then_some(*judge);
        let length = response.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        let left = length.and_then(|length| length.parse().ok());
        let (head, body) = response.into_parts();
        let has_ended = body.is_end_stream();
        let body = if has_ended {
            drop(body);
            permits.settle(if judge.is_some() { BodyEnd::Failed } else { BodyEnd::Complete });
            None
        } else {
            Some(body)
        };
        Response::from_parts(head, Self { body, permits, timer: None, deadline, waits: false, left, judge, is_grpc })
    }
}

impl<B> Body for WholeBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let mut this = self.project();
        let mut permits = SettleOnPanic(mem::take(this.permits));
        let mut waited = mem::take(this.waits);
        loop {
            let Some(mut body) = this.body.as_mut().as_pin_mut() else {
                permits.end(BodyEnd::Complete);
                return Poll::Ready(None);
            };
            match body.as_mut().poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Some(trailers) = frame.trailers_ref() {
                        let end = match &this.judge {
                            Some(judge) => BodyEnd::Judged(judge.of_trailers(Some(trailers)).0),
                            None => BodyEnd::Complete,
                        };
                        // Trailers are the last frame.
                        this.body.set(None);
                        permits.end(at_deadline(end, *this.deadline));
                    } else {
                        if let (Some(left), Some(data)) = (this.left.as_mut(), frame.data_ref()) {
                            *left = left.saturating_sub(bytes::Buf::remaining(data) as u64);
                        }
                        let is_late =
                            this.deadline.is_some_and(|deadline| deadline.ends_body && deadline.at <= Instant::now());
                        if is_late && !is_whole(&*body, *this.left) {
                            drop(frame);
                            this.body.set(None);
                            permits.end(BodyEnd::CutShort);
                            return Poll::Ready(Some(time_is_up(*this.is_grpc)));
                        }
                        *this.permits = permits.keep();
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                Poll::Ready(Some(Err(error))) => {
                    this.body.set(None);
                    permits.end(at_deadline(BodyEnd::Failed, *this.deadline));
                    return Poll::Ready(Some(Err(error.into())));
                }
                Poll::Ready(None) => {
                    this.body.set(None);
                    permits.end(match &this.judge {
                        Some(judge) => BodyEnd::Judged(judge.of_trailers(None).0),
                        None => BodyEnd::Complete,
                    });
                    return Poll::Ready(None);
                }
                Poll::Pending => {}
            }
            let mut frame = CallFrame::new();
            frame.service_was_reached();
            permits.0.under_way(&mut frame);
            if let Some(deadline) = this.deadline.filter(|deadline| deadline.ends_body) {
                let now = frame.now();
                if deadline.at <= now {
                    let is_to_blame = waited && deadline.had_patience(now);
                    this.body.set(None);
                    permits.end(if is_to_blame { BodyEnd::TimedOut } else { BodyEnd::CutShort });
                    return Poll::Ready(Some(time_is_up(*this.is_grpc)));
                }
                frame.wake_at(deadline.at);
            }
            match frame.take_wake() {
                // The timer has fired already: poll the body again.
                Some(wake) if timer(this.timer).poll_until(wake, cx).is_ready() => waited = true,
                wake => {
                    *this.waits = true;
                    if wake.is_none() {
                        *this.timer = None;
                    }
                    *this.permits = permits.keep();
                    return Poll::Pending;
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

/// Returns the timer, and makes it if needed.
fn timer(timer: &mut Option<Pin<Box<Timer>>>) -> Pin<&mut Timer> {
    timer.get_or_insert_with(|| Box::pin(Timer::new())).as_mut()
}

/// Turns a failure at or after the deadline into [`BodyEnd::CutShort`] if the service has not had half of its patience.
/// A service that sees the deadline may end the body itself.
fn at_deadline(end: BodyEnd, deadline: Option<BodyDeadline>) -> BodyEnd {
    match deadline {
        Some(deadline) if matches!(end, BodyEnd::Failed | BodyEnd::Judged(Outcome::Failure)) => {
            let now = Instant::now();
            if deadline.at <= now && !deadline.had_patience(now) { BodyEnd::CutShort } else { end }
        }
        _ => end,
    }
}

/// The last item of a body at its deadline.
fn time_is_up<D>(is_grpc: bool) -> Result<Frame<D>, BoxError> {
    let rejection = Rejection::from(TimedOut::new(None, true));
    if !is_grpc {
        return Err(rejection.into());
    }
    let mut trailers = HeaderMap::new();
    write_status(&mut trailers, GrpcCode::DEADLINE_EXCEEDED.number(), &rejection.to_string());
    Ok(Frame::trailers(trailers))
}

impl<B: Body> fmt::Debug for WholeBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WholeBody").field("holds", &!self.permits.is_empty()).finish_non_exhaustive()
    }
}
