use crate::{
    classify::Outcome,
    http::grpc::{self, GrpcCode},
};
use http::{HeaderMap, Response, StatusCode};

/// Where the status of a response is, and its value.
#[derive(Clone, Copy, Debug)]
pub(super) enum AnswerStatus {
    /// The HTTP status of a response that is not gRPC.
    Http(StatusCode),
    /// The HTTP status of a gRPC response without a gRPC code. [`GrpcCode::of_http`] maps the status to a code.
    Mapped(StatusCode),
    /// The gRPC code in the headers or trailers.
    Grpc(GrpcCode),
    /// The code is in the trailers, which have not come yet: gRPC, 200.
    InTrailers,
}

impl AnswerStatus {
    /// Reads the status. `code` is [`GrpcCode::read`] or [`GrpcCode::peek`].
    #[inline]
    pub(super) fn of<B>(response: &Response<B>, code: fn(&HeaderMap) -> Option<GrpcCode>) -> Self {
        let (status, headers) = (response.status(), response.headers());
        if !grpc::is_grpc(headers) {
            return Self::Http(status);
        }
        match code(headers) {
            Some(code) => Self::Grpc(code),
            None if status == StatusCode::OK => Self::InTrailers,
            None => Self::Mapped(status),
        }
    }

    #[inline]
    pub(super) fn is_success(self) -> bool {
        match self {
            Self::Http(status) => status.as_u16() < 400,
            Self::Mapped(_) => false,
            Self::Grpc(code) => code == GrpcCode::OK,
            Self::InTrailers => true,
        }
    }

    pub(super) fn is_grpc(self) -> bool {
        !matches!(self, Self::Http(_))
    }

    /// The HTTP status. `None` if the response has a gRPC code, or its code comes in the trailers.
    pub(super) fn status(self) -> Option<u16> {
        match self {
            Self::Http(status) | Self::Mapped(status) => Some(status.as_u16()),
            Self::Grpc(_) | Self::InTrailers => None,
        }
    }
}

/// Classifies an HTTP status alone. The caller of this function has looked for a hint and for signs of an overload
/// before.
pub(super) fn of_status(status: StatusCode) -> Outcome {
    match status.as_u16() {
        ..400 => Outcome::Success,
        408 | 425 => Outcome::Failure,
        400..500 | 501 | 505 => Outcome::Permanent,
        500.. => Outcome::Failure,
    }
}

/// Classifies a gRPC code alone. The caller of this function has handled a pushback and `RESOURCE_EXHAUSTED` before.
pub(super) fn of_code(code: GrpcCode) -> Outcome {
    match code {
        GrpcCode::UNAVAILABLE
        | GrpcCode::DEADLINE_EXCEEDED
        | GrpcCode::CANCELLED
        | GrpcCode::UNKNOWN
        | GrpcCode::INTERNAL
        | GrpcCode::DATA_LOSS => Outcome::Failure,
        _ => Outcome::Permanent,
    }
}
