use super::{
    grpc::{self, GrpcCode},
    peer::Peer,
    retry_after, verdict,
};
use crate::error::Rejection;
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER},
};
use serde_json::{Map, Value};
use std::borrow::Cow;

const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// The response to a rejection, before it is written in the caller's format.
///
/// | rejection | HTTP | gRPC |
/// |---|---|---|
/// | [`TimedOut`](Rejection::TimedOut) | 504; never 408, which browsers retry | 4, `DEADLINE_EXCEEDED` |
/// | [`RateLimited`](Rejection::RateLimited) | 429 | 8, `RESOURCE_EXHAUSTED` |
/// | [`Overloaded`](Rejection::Overloaded), [`QueueFull`](Rejection::QueueFull), [`WaitedTooLong`](Rejection::WaitedTooLong) | 503 | 8 |
/// | [`CircuitOpen`](Rejection::CircuitOpen), [`SwitchedOff`](Rejection::SwitchedOff), [`Closed`](Rejection::Closed) | 503 | 14, `UNAVAILABLE` |
///
/// Headers of the response:
///
/// | header | value |
/// |---|---|
/// | `retry-after` | for HTTP: [`Rejection::retry_after`] in whole seconds, rounded up, at least 1. Absent if that is `None` |
/// | `grpc-retry-pushback-ms` | for gRPC: [`Rejection::retry_after`] in milliseconds, rounded up; `-1` (do not retry) if that is `None` or a retry is forbidden. Absent for a timeout after the call reached the service, unless a retry is forbidden |
/// | `steadfast-rejected` | the name of the [mechanism](Rejection::mechanism) |
/// | `steadfast-retry` | `never` if a retry is [forbidden](crate::CallContext::forbid_retry); else `unprocessed` if the call did not reach the service; else absent |
///
/// An HTTP response may have both `steadfast-retry: never` and `retry-after`. `never` ends the retries of this call;
/// `retry-after` applies to later calls.
///
/// Over HTTP/1, hyper closes the connection if the request body was not read. A caller that is still sending a large
/// body may then see a broken connection instead of the response.
///
/// The body of an HTTP response is an RFC 9457 problem, `application/problem+json`. If the caller's `Accept` excludes
/// that type, the body is [`detail`](Self::detail) as text. A response to `HEAD` has no body. A gRPC response has no
/// body either: its status is in the headers, and the detail in `grpc-message`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Answer {
    /// The status of an HTTP response. A gRPC response always has 200.
    pub status: StatusCode,
    /// The gRPC code of a gRPC response, from 1 to 16.
    pub grpc_status: u8,
    /// More headers. Each replaces a header of the same name, such as one in the table.
    pub headers: HeaderMap,
    /// The `type` of the problem, a URI. `about:blank` means that the status says everything.
    pub problem_type: Cow<'static, str>,
    /// The `title` of the problem.
    pub title: Cow<'static, str>,
    /// The `detail` of the problem, the text body, or the gRPC message. For an internal peer it is the text of the
    /// rejection. For an external peer it is a general text that reveals no settings.
    pub detail: Cow<'static, str>,
    /// More members of the problem. A member named `type`, `title`, `status` or `detail` has no effect.
    pub members: Map<String, Value>,
}

impl Answer {
    pub(super) fn to(rejection: &Rejection, peer: Peer) -> Self {
        let (status, code) = match rejection {
            Rejection::TimedOut(_) => (StatusCode::GATEWAY_TIMEOUT, GrpcCode::DEADLINE_EXCEEDED),
            Rejection::RateLimited(_) => (StatusCode::TOO_MANY_REQUESTS, GrpcCode::RESOURCE_EXHAUSTED),
            Rejection::Overloaded(_) | Rejection::QueueFull(_) | Rejection::WaitedTooLong(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, GrpcCode::RESOURCE_EXHAUSTED)
            }
            Rejection::CircuitOpen(_) | Rejection::Closed(_) | Rejection::SwitchedOff(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, GrpcCode::UNAVAILABLE)
            }
        };
        let detail = match (peer, rejection) {
            (Peer::Internal, rejection) => rejection.to_string().into(),
            (Peer::External, Rejection::TimedOut(_)) => "The request was not answered in time.".into(),
            (Peer::External, Rejection::RateLimited(_)) => "There were too many requests.".into(),
            (Peer::External, Rejection::Overloaded(_) | Rejection::QueueFull(_) | Rejection::WaitedTooLong(_)) => {
                "The service has too much to do at present.".into()
            }
            (Peer::External, _) => "The service is not available at present.".into(),
        };
        Self {
            status,
            grpc_status: code.number(),
            headers: HeaderMap::new(),
            problem_type: "about:blank".into(),
            title: status.canonical_reason().unwrap_or_default().into(),
            detail,
            members: Map::new(),
        }
    }

    /// Writes the response in the caller's format. `never` forbids a retry.
    pub(super) fn write(self, rejection: &Rejection, wanted: &WantedFormat, never: bool) -> Response<Option<Bytes>> {
        let mut response = Response::new(None);
        let headers = response.headers_mut();
        headers.insert(verdict::REJECTED, HeaderValue::from_static(rejection.mechanism()));
        mark(headers, never, !rejection.reached_service());
        if wanted.is_grpc {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            // After a timeout that ended the work, a pushback of `-1` would forbid a retry. Without one, the caller
            // decides by the status.
            let ended_the_work = matches!(rejection, Rejection::TimedOut(_)) && rejection.reached_service();
            if never || !ended_the_work {
                headers.insert(grpc::PUSHBACK, grpc::pushback(rejection.retry_after().filter(|_| !never)));
            }
            write_status(headers, self.grpc_status, &self.detail);
            replace(headers, self.headers);
            return response;
        }
        if let Some(wait) = rejection.retry_after() {
            headers.insert(RETRY_AFTER, retry_after::whole_seconds(wait));
        }
        let (kind, body) = if wanted.takes_problems() {
            ("application/problem+json", self.problem())
        } else {
            ("text/plain; charset=utf-8", Bytes::from(self.detail.into_owned()))
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        replace(headers, self.headers);
        *response.status_mut() = self.status;
        *response.body_mut() = Some(body).filter(|_| !wanted.is_head);
        response
    }

    fn problem(&self) -> Bytes {
        let mut members = self.members.clone();
        members.insert("type".to_owned(), self.problem_type.as_ref().into());
        members.insert("title".to_owned(), self.title.as_ref().into());
        members.insert("status".to_owned(), self.status.as_u16().into());
        members.insert("detail".to_owned(), self.detail.as_ref().into());
        Value::Object(members).to_string().into()
    }
}

/// Writes the status of a gRPC response and its message.
pub(super) fn write_status(headers: &mut HeaderMap, status: u8, text: &str) {
    headers.insert(grpc::STATUS, HeaderValue::from(u16::from(status)));
    headers.insert(MESSAGE, grpc::message(text));
}

/// Writes `steadfast-retry`: `never` if a retry is forbidden, else `unprocessed` if the call did not reach the service.
/// Otherwise writes nothing.
pub(super) fn mark(headers: &mut HeaderMap, never: bool, unprocessed: bool) {
    if never {
        headers.insert(verdict::RETRY, HeaderValue::from_static("never"));
    } else if unprocessed {
        headers.insert(verdict::RETRY, HeaderValue::from_static("unprocessed"));
    }
}

fn replace(headers: &mut HeaderMap, by: HeaderMap) {
    let mut last = None;
    for (name, value) in by {
        match (name, &last) {
            (Some(name), _) => {
                headers.insert(name.clone(), value);
                last = Some(name);
            }
            // Another value of the previous name.
            (None, Some(last)) => {
                headers.append(last, value);
            }
            (None, None) => {}
        }
    }
}

/// What a request says about the format of its response.
#[derive(Clone, Debug)]
pub(super) struct WantedFormat {
    is_grpc: bool,
    is_head: bool,
    /// The first `Accept` header. `None` if the header is absent or `*/*`. Parsed only if a rejection has to be
    /// answered.
    accept: Option<HeaderValue>,
}

impl WantedFormat {
    #[inline]
    pub(super) fn by(method: &Method, content_type: Option<&HeaderValue>, accept: Option<&HeaderValue>) -> Self {
        Self {
            is_grpc: content_type.is_some_and(grpc::is_grpc_type),
            is_head: method == Method::HEAD,
            accept: accept.filter(|accept| *accept != "*/*").cloned(),
        }
    }

    /// Whether the caller accepts `application/problem+json`: a range of its `Accept` without `q=0` matches that type
    /// or plain JSON. A caller without the header, or with an unreadable one, accepts everything.
    fn takes_problems(&self) -> bool {
        let Some(accept) = self.accept.as_ref().and_then(|accept| accept.to_str().ok()) else { return true };
        accept.split(',').any(|range| {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default();
            let fits = ["*/*", "application/*", "application/json", "application/problem+json"];
            fits.iter().any(|fits| kind.eq_ignore_ascii_case(fits)) && !parts.any(is_refusal)
        })
    }
}

/// Whether a parameter is a quality of zero.
fn is_refusal(parameter: &str) -> bool {
    parameter.split_once('=').is_some_and(|(name, value)| {
        name.trim().eq_ignore_ascii_case("q") && value.trim().parse::<f32>().is_ok_and(|quality| quality <= 0.0)
    })
}
