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
    /// The body of a response, and what is held until its end: places, the verdict of a circuit breaker, the deadline.
    ///
    /// It is the body of the service, frame by frame. All is given back when the body is read to its end, fails, or is
    /// dropped, whichever comes first. The service's body is dropped before its permits are settled.
    ///
    /// At its deadline a body ends. A gRPC body ends with trailers that say `DEADLINE_EXCEEDED`; any other fails with a
    /// [`Rejection`], which leads hyper to close the connection or to reset the stream, so that the client learns that
    /// the body is not whole. It ends then even where its next frame is there, unless that makes the body whole: a
    /// reader that is slow does not hold a place for longer. A service whose reader is late is not to blame, so that
    /// such an end proves nothing. With a deadline, each frame of data costs a reading of the clock.
    pub struct WholeBody<B>
    where
        B: Body,
    {
        // `None` once it has ended.
        #[pin]
        body: Option<B>,
        // During a poll they are on the stack, so that a panic settles them.
        permits: HeldPermits,
        // Boxed, so that the body is `Unpin` where that of the service is.
        timer: Option<Pin<Box<Timer>>>,
        deadline: Option<BodyDeadline>,
        // The reader waits for the service: the last poll brought no frame.
        waits: bool,
        // What the head announced, less what has come.
        left: Option<u64>,
        // How the trailers of a gRPC answer are judged, where they decide.
        judge: Option<Verdict>,
        is_grpc: bool,
    }

    impl<B: Body> PinnedDrop for WholeBody<B> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let Some(body) = this.body.as_mut().as_pin_mut() else { return };
            let end = match this.judge {
                // No trailers come.
                Some(_) if body.is_end_stream() => BodyEnd::Failed,
                // A reader that has had what it asked for wants no more, and the service is as good as its head.
                None if !*this.waits || is_whole(&*body, *this.left) => BodyEnd::Complete,
                _ => BodyEnd::Cancelled,
            };
            this.body.set(None);
            this.permits.settle(end);
        }
    }
}

/// Whether no data is still to come.
fn is_whole(body: &impl Body, left: Option<u64>) -> bool {
    body.is_end_stream() || body.size_hint().upper() == Some(0) || left == Some(0)
}

/// Settles permits as of a body that panicked, unless they are taken from it.
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
    /// The response, with what is held for it in its body.
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
                        // Nothing comes after trailers.
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
                // The timer has fired: poll the body again, at a later time.
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

/// The timer, made when it is first needed.
fn timer(timer: &mut Option<Pin<Box<Timer>>>) -> Pin<&mut Timer> {
    timer.get_or_insert_with(|| Box::pin(Timer::new())).as_mut()
}

/// The end of a body as far as the service is to blame. One that gives up by itself at a deadline that it sees is
/// judged as one whose time was up then.
fn at_deadline(end: BodyEnd, deadline: Option<BodyDeadline>) -> BodyEnd {
    match deadline {
        Some(deadline) if matches!(end, BodyEnd::Failed | BodyEnd::Judged(Outcome::Failure)) => {
            let now = Instant::now();
            if deadline.at <= now && !deadline.had_patience(now) { BodyEnd::CutShort } else { end }
        }
        _ => end,
    }
}

/// How a body ends at its deadline.
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
