use crate::error::{Error, Rejection};

/// What becomes of a rejection on its way out of a stack.
///
/// | exit | chosen by | error of the service outside |
/// |---|---|---|
/// | [`TypedError`] | default of a stack | [`Error<E>`] |
/// | [`KeepError`] | `.keep_error()`, default of a layer used alone | `E`, which must be `From<Rejection>` |
/// | [`BoxedError`] | `.boxed_error()` | tower's `BoxError`: a box of the rejection, or of `E` |
/// | [`Respond`] | `.respond_with(..)` | `E`: rejections become responses |
pub trait Exit<Response, E> {
    /// The error of the service outside.
    type Error;

    /// Turns the end of a call inside into the end of the call outside.
    fn exit(&self, result: Result<Response, Error<E>>) -> Result<Response, Self::Error>;
}

/// Rejections come out as [`Error::Rejected`], the service's errors as [`Error::Service`].
#[derive(Clone, Copy, Debug, Default)]
pub struct TypedError;

impl<Response, E> Exit<Response, E> for TypedError {
    type Error = Error<E>;

    #[inline]
    fn exit(&self, result: Result<Response, Error<E>>) -> Result<Response, Error<E>> {
        result
    }
}

/// Rejections are converted into the service's own error type.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeepError;

impl<Response, E: FromRejection> Exit<Response, E> for KeepError {
    type Error = E;

    #[inline]
    fn exit(&self, result: Result<Response, Error<E>>) -> Result<Response, E> {
        result.map_err(|error| match error {
            Error::Rejected(rejection) => E::from_rejection(rejection),
            Error::Service(error) => error,
        })
    }
}

/// Rejections and the service's errors come out in a box, as [`Error::into_boxed`] makes it.
#[derive(Clone, Copy, Debug, Default)]
pub struct BoxedError;

impl<Response, E: Into<tower::BoxError>> Exit<Response, E> for BoxedError {
    type Error = tower::BoxError;

    #[inline]
    fn exit(&self, result: Result<Response, Error<E>>) -> Result<Response, tower::BoxError> {
        result.map_err(Error::into_boxed)
    }
}

/// Rejections become responses, and the error type stays what it is: for servers.
#[derive(Clone, Copy, Debug)]
pub struct Respond<F>(pub(crate) F);

impl<Response, E, F> Exit<Response, E> for Respond<F>
where
    F: Fn(Rejection) -> Response,
{
    type Error = E;

    #[inline]
    fn exit(&self, result: Result<Response, Error<E>>) -> Result<Response, E> {
        match result {
            Ok(response) => Ok(response),
            Err(Error::Rejected(rejection)) => Ok((self.0)(rejection)),
            Err(Error::Service(error)) => Err(error),
        }
    }
}

/// An error type that can hold a [`Rejection`]: every type with `From<Rejection>`.
///
/// Tower's `BoxError` is one, and so is [`Error<E>`]. There is nothing to implement here.
#[diagnostic::on_unimplemented(
    message = "the error type `{Self}` cannot hold a rejection of steadfast",
    label = "needs `From<steadfast::Rejection>`",
    note = "if the type is yours, write `impl From<steadfast::Rejection> for {Self}`, or `#[from]` on a variant of a thiserror enum",
    note = "if it is foreign, wrap it below this layer with `.map_err(steadfast::Error::Service)`, or use `.typed_error()` here",
    note = "if rejections should become responses, use `.respond_with(|rejection| ..)`"
)]
pub trait FromRejection: Sized {
    /// Converts the rejection.
    fn from_rejection(rejection: Rejection) -> Self;
}

#[diagnostic::do_not_recommend]
impl<E: From<Rejection>> FromRejection for E {
    #[inline]
    fn from_rejection(rejection: Rejection) -> Self {
        rejection.into()
    }
}
