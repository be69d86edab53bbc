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
    /// reaches its deadline or is dropped, whichever comes first. An empty body returns them at once. The service's
    /// body is dropped before the permits are settled, unless it panicked.
    ///
    /// The body ends at its deadline. A gRPC body ends with trailers that say `DEADLINE_EXCEEDED`. Any other body fails
    /// with a [`Rejection`]. hyper then closes the connection or resets the stream, so the client learns that the body
    /// is incomplete.
    ///
    /// The deadline applies even if the next frame is ready, so that a slow reader cannot hold a permit for longer.
    /// Only a frame that completes the body is still passed on. A body that ends at its deadline counts against the
    /// service only under two conditions. The reader was waiting for the next frame, and the attempt had at least half
    /// of its [full time](crate::shell::Ending::CutShort). With a deadline, each data frame costs a reading of the
    /// clock.
    pub struct WholeBody<B>
    where
        B: Body,
    {
        // `None` once it has ended.
        #[pin]
        body: Option<B>,
        // `poll_frame` moves them to a local `SettleOnPanic`, so that a panic of the body settles them.
        permits: HeldPermits,
        // Boxed, so that this body is `Unpin` if the service's body is.
        timer: Option<Pin<Box<Timer>>>,
        deadline: Option<BodyDeadline>,
        // Whether the last poll was pending. If so, the reader has been waiting for the service since that poll.
        reader_waits: bool,
        // The bytes left of the announced `Content-Length`.
        content_left: Option<u64>,
        // Classifies the trailers, if this is a gRPC response whose status comes in the trailers.
        judge: Option<Verdict>,
        is_grpc: bool,
    }

    impl<B: Body> PinnedDrop for WholeBody<B> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let Some(body) = this.body.as_mut().as_pin_mut() else { return };
            let end = match this.judge {
                // The body has ended without the trailers that carry the status: a failed gRPC call.
                Some(_) if body.is_end_stream() => BodyEnd::Failed,
                // The reader was not waiting for the service, or has the whole body: the head decides.
                None if !*this.reader_waits || is_whole(&*body, *this.content_left) => BodyEnd::Complete,
                _ => BodyEnd::Cancelled,
            };
            this.body.set(None);
            this.permits.settle(end);
        }
    }
}

/// Returns whether the body has no more data.
fn is_whole(body: &impl Body, content_left: Option<u64>) -> bool {
    body.is_end_stream() || body.size_hint().upper() == Some(0) || content_left == Some(0)
}

/// Settles permits as [`BodyEnd::Panicked`] when dropped, unless `end` or `keep` took them.
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
        let content_left = length.and_then(|length| length.parse().ok());
        let (head, body) = response.into_parts();
        let has_ended = body.is_end_stream();
        let body = if has_ended {
            drop(body);
            permits.settle(if judge.is_some() { BodyEnd::Failed } else { BodyEnd::Complete });
            None
        } else {
            Some(body)
        };
        let (timer, reader_waits) = (None, false);
        Response::from_parts(head, Self { body, permits, timer, deadline, reader_waits, content_left, judge, is_grpc })
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
        let mut reader_waited = mem::take(this.reader_waits);
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
                        permits.end(excuse_if_cut_short(end, *this.deadline));
                    } else {
                        if let (Some(left), Some(data)) = (this.content_left.as_mut(), frame.data_ref()) {
                            *left = left.saturating_sub(bytes::Buf::remaining(data) as u64);
                        }
                        let is_late =
                            this.deadline.is_some_and(|deadline| deadline.ends_body && deadline.at <= Instant::now());
                        if is_late && !is_whole(&*body, *this.content_left) {
                            drop(frame);
                            this.body.set(None);
                            permits.end(BodyEnd::CutShort);
                            return Poll::Ready(Some(deadline_item(*this.is_grpc)));
                        }
                        *this.permits = permits.keep();
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                Poll::Ready(Some(Err(error))) => {
                    this.body.set(None);
                    permits.end(excuse_if_cut_short(BodyEnd::Failed, *this.deadline));
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
            // Each admission may read the clock, for example to count the call as slow, and ask for another poll.
            let mut frame = CallFrame::new();
            frame.service_was_reached();
            permits.0.under_way(&mut frame);
            if let Some(deadline) = this.deadline.filter(|deadline| deadline.ends_body) {
                let now = frame.now();
                if deadline.at <= now {
                    let counts_against_service = reader_waited && deadline.had_half_time(now);
                    this.body.set(None);
                    permits.end(if counts_against_service { BodyEnd::TimedOut } else { BodyEnd::CutShort });
                    return Poll::Ready(Some(deadline_item(*this.is_grpc)));
                }
                frame.wake_at(deadline.at);
            }
            match frame.take_wake() {
                // The timer has already fired: poll again. The reader has waited, because the body was pending.
                Some(wake) if timer(this.timer).poll_until(wake, cx).is_ready() => reader_waited = true,
                wake => {
                    *this.reader_waits = true;
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

/// Turns a failure at or after the deadline into [`BodyEnd::CutShort`] if the attempt has not had half of its full
/// time. Such a failure may come from the deadline: a service that received the deadline may end the body itself.
fn excuse_if_cut_short(end: BodyEnd, deadline: Option<BodyDeadline>) -> BodyEnd {
    match deadline {
        Some(deadline) if matches!(end, BodyEnd::Failed | BodyEnd::Judged(Outcome::Failure)) => {
            let now = Instant::now();
            if deadline.at <= now && !deadline.had_half_time(now) { BodyEnd::CutShort } else { end }
        }
        _ => end,
    }
}

/// Returns the last item of a body that ends at its deadline.
fn deadline_item<D>(is_grpc: bool) -> Result<Frame<D>, BoxError> {
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
