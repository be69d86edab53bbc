//! `peek` copies the status of a gRPC call without messages from the trailers into the head of the response.

use super::scripted::Failure;
use crate::probes::poll;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::{HeaderMap, Request, Response};
use std::{
    collections::VecDeque,
    convert::Infallible,
    future::ready,
    pin::Pin,
    task::{Context, Poll},
};
use steadfast::http::{PeekBody, PeekService, peek};
use tower::{ServiceBuilder, ServiceExt, service_fn};

/// A body of these frames. Each `None` makes one poll pending.
struct Frames(VecDeque<Option<Result<Frame<Bytes>, Failure>>>);

impl Body for Frames {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        match self.0.pop_front() {
            Some(None) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            next => Poll::Ready(next.flatten()),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let frames = self.0.iter().flatten().flatten();
        SizeHint::with_exact(frames.map(|frame| frame.data_ref().map_or(0, Bytes::len) as u64).sum())
    }
}

fn map(fields: &[(&str, &str)]) -> HeaderMap {
    fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

fn trailers(fields: &[(&str, &str)]) -> Option<Result<Frame<Bytes>, Failure>> {
    Some(Ok(Frame::trailers(map(fields))))
}

fn data(text: &'static str) -> Option<Result<Frame<Bytes>, Failure>> {
    Some(Ok(Frame::data(Bytes::from_static(text.as_bytes()))))
}

/// Returns the response that passes through `peek`, and the number of polls until it came.
async fn answer(
    head: &[(&str, &str)],
    frames: impl IntoIterator<Item = Option<Result<Frame<Bytes>, Failure>>>,
) -> (Response<PeekBody<Frames>>, usize) {
    let mut answer = Response::new(Frames(frames.into_iter().collect()));
    *answer.headers_mut() = map(head);
    if let Some(status) = answer.headers_mut().remove("status") {
        *answer.status_mut() = status.to_str().unwrap().parse().unwrap();
    }
    let mut answer = Some(answer);
    let service = service_fn(|_: Request<()>| ready(Ok::<_, Infallible>(answer.take().unwrap())));
    let mut call = Box::pin(ServiceBuilder::new().layer(peek()).service(service).oneshot(Request::new(())));
    for polls in 1.. {
        if let Poll::Ready(answer) = poll(&mut call) {
            return (answer.unwrap(), polls);
        }
    }
    unreachable!()
}

const GRPC: (&str, &str) = ("content-type", "application/grpc");

#[tokio::test]
async fn the_status_of_a_call_without_messages_is_copied_into_the_head() {
    let fields = [
        ("grpc-status", "14"),
        ("grpc-message", "not now"),
        ("grpc-retry-pushback-ms", "250"),
        ("grpc-status-details-bin", "CA4"),
        ("tenant", "acme"),
        ("tenant", "more"),
        ("server", "b"),
        ("content-length", "7"),
        ("steadfast-retry", "unprocessed"),
    ];
    for content_type in ["application/grpc", "application/grpc+proto", "Application/gRPC; charset=x"] {
        let head = [("content-type", content_type), ("server", "a"), ("grpc-message", "none")];
        let (answer, polls) = answer(&head, [None, None, trailers(&fields)]).await;
        assert_eq!(polls, 3);
        let expected = [&[("content-type", content_type), ("server", "a")][..], &fields[..6]].concat();
        assert_eq!(answer.headers(), &map(&expected));
        assert!(!answer.body().is_end_stream());
        let body = answer.into_body().collect().await.unwrap();
        assert_eq!(body.trailers(), Some(&map(&fields)));
        assert!(body.to_bytes().is_empty());
    }
}

#[tokio::test]
async fn a_success_and_a_stream_are_unchanged() {
    for zero in ["0", "00", " 0 "] {
        let status = trailers(&[("grpc-status", zero), ("tenant", "acme")]);
        let (ok, _) = answer(&[GRPC], [status]).await;
        assert_eq!(ok.headers(), &map(&[GRPC]));
        assert_eq!(ok.into_body().collect().await.unwrap().trailers().unwrap()["tenant"], "acme");
    }

    let frames = [None, data("ab"), None, data("c"), trailers(&[("grpc-status", "14")])];
    let (stream, polls) = answer(&[GRPC], frames).await;
    assert_eq!(polls, 2);
    assert_eq!(stream.headers(), &map(&[GRPC]));
    assert_eq!(stream.body().size_hint().exact(), Some(3));
    let body = stream.into_body().collect().await.unwrap();
    assert_eq!(body.trailers(), Some(&map(&[("grpc-status", "14")])));
    assert_eq!(body.to_bytes(), "abc");

    let (unknown, _) = answer(&[GRPC], [trailers(&[("grpc-message", "no status")])]).await;
    assert_eq!(unknown.headers(), &map(&[GRPC]));
}

#[tokio::test]
async fn a_body_that_fails_or_ends_at_once_is_unchanged() {
    let (failed, _) = answer(&[GRPC], [None, Some(Err(Failure::Scripted)), data("a")]).await;
    let mut body = failed.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap_err(), Failure::Scripted);
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "a");

    let (ended, polls) = answer(&[GRPC], [None]).await;
    assert_eq!(polls, 2);
    assert!(ended.body().is_end_stream());
    assert!(ended.into_body().frame().await.is_none());
}

#[tokio::test]
async fn other_responses_pass_at_once() {
    let heads: [&[_]; 7] = [
        &[],
        &[("content-type", "application/json")],
        &[("content-type", "application/grpc-web")],
        &[("content-type", "application/grpcx")],
        &[("content-type", "application/grp")],
        &[GRPC, ("status", "503")],
        &[GRPC, ("grpc-status", "8")],
    ];
    for head in heads {
        let (answer, polls) = answer(head, [None, trailers(&[("grpc-status", "14")])]).await;
        assert_eq!(polls, 1, "{head:?}");
        let status = answer.headers().get("grpc-status").map(|status| status.to_str().unwrap().to_owned());
        assert_ne!(status.as_deref(), Some("14"));
        assert_eq!(answer.into_body().collect().await.unwrap().trailers().unwrap()["grpc-status"], "14");
    }
}

/// A tonic client accepts the service around its channel.
#[expect(dead_code, reason = "it compiles")]
async fn tonic_accepts_it(service: PeekService<tonic::transport::Channel>) {
    let request = tonic_health::pb::HealthCheckRequest::default();
    let _ = tonic_health::pb::health_client::HealthClient::new(service).check(request).await;
}
