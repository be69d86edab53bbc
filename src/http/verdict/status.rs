use crate::{
    classify::Outcome,
    http::grpc::{self, GrpcCode},
};
use http::{HeaderMap, Response, StatusCode};

/// What an answer says by its status.
#[derive(Clone, Copy, Debug)]
pub(super) enum AnswerStatus {
    /// By HTTP's status.
    Http(StatusCode),
    /// By HTTP's status, which stands for a code of gRPC.
    Mapped(StatusCode),
    /// By a code of gRPC.
    Grpc(GrpcCode),
    /// By the trailers, which are still to come: gRPC, 200.
    InTrailers,
}

impl AnswerStatus {
    /// Reads the code by one of the two ways of [`GrpcCode`].
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

    /// The status of HTTP, where no code of gRPC was sent.
    pub(super) fn status(self) -> Option<u16> {
        match self {
            Self::Http(status) | Self::Mapped(status) => Some(status.as_u16()),
            Self::Grpc(_) | Self::InTrailers => None,
        }
    }
}

/// What a status of HTTP means that comes with no hint.
pub(super) fn of_status(status: StatusCode) -> Outcome {
    match status.as_u16() {
        ..400 => Outcome::Success,
        408 | 425 => Outcome::Failure,
        400..500 | 501 | 505 => Outcome::Permanent,
        500.. => Outcome::Failure,
    }
}

/// What a code of gRPC means that comes with no hint, other than `RESOURCE_EXHAUSTED`.
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
