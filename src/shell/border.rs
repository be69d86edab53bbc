use super::Frame;
use crate::error::{Error, Rejection};

/// The border of a stack: sees each request on the way in and makes the caller's answer on the way out.
///
/// | border | chosen by | error that the caller gets |
/// |---|---|---|
/// | [`TypedError`] | default of a stack | [`Error<E>`] |
/// | [`KeepError`] | `.keep_error()`, default of a layer used alone | `E`, which must be `From<Rejection>` |
/// | [`BoxedError`] | `.boxed_error()` | tower's `BoxError`: a box of the rejection, or of `E` |
/// | [`Respond`] | `.respond_with(..)` | `E`: rejections become responses |
///
/// These four ignore the request and keep the type of the response. [`border`](super::StackLayer::border) sets a border
/// of your own, which can read a deadline from a header and answer in the caller's format.
///
/// `Response` and `E` are the types of the inner service. A call crosses the border once on the way in and once on the
/// way out, regardless of its attempts.
///
/// # Cancellation and panics
///
/// A dropped call never reaches [`exit`](Self::exit). Its [`Seen`](Self::Seen) is dropped after all permits were
/// returned. The call itself holds no permit while [`enter`](Self::enter) and [`exit`](Self::exit) run, so a panic in
/// them loses nothing.
///
/// # Cost
///
/// The methods of the four borders above are inlined. The future stores `Seen`, which has no size for `()`.
///
/// # Example
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::convert::Infallible;
/// use steadfast::{Error, load_shed::{Limiter, LoadShedLayer}, shell::{Border, Frame}};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// struct Ask { id: u64, text: &'static str }
///
/// struct Answer { id: u64, text: String }
///
/// /// Repeats the number of each request in its answer, even if the call was refused.
/// #[derive(Clone)]
/// struct Numbered;
///
/// impl Border<Ask, &'static str, Infallible> for Numbered {
///     type Response = Answer;
///     type Error = Infallible;
///     type Seen = u64;
///
///     fn enter(&self, ask: &mut Ask, _: &mut Frame) -> u64 {
///         ask.id
///     }
///
///     fn exit(
///         &self,
///         id: u64,
///         result: Result<&'static str, Error<Infallible>>,
///         _: &mut Frame,
///     ) -> Result<Answer, Infallible> {
///         let text = match result {
///             Ok(text) => text.to_owned(),
///             Err(Error::Rejected(rejection)) => rejection.to_string(),
///             Err(Error::Service(never)) => match never {},
///         };
///         Ok(Answer { id, text })
///     }
/// }
///
/// let places = Limiter::fixed(1)?;
/// let layer = LoadShedLayer::new(places.clone()).border(Numbered);
/// let service = layer.layer(service_fn(async |ask: Ask| Ok::<_, Infallible>(ask.text)));
/// let answer = service.clone().oneshot(Ask { id: 7, text: "here" }).await?;
/// assert_eq!((answer.id, answer.text.as_str()), (7, "here"));
///
/// let _taken = places.try_acquire()?;
/// let answer = service.oneshot(Ask { id: 8, text: "here" }).await?;
/// assert_eq!((answer.id, answer.text.as_str()), (8, "load shed: 1 call is in flight already"));
/// # Ok(())
/// # }
/// ```
pub trait Border<Request, Response, E> {
    /// The response that the caller gets.
    type Response;

    /// The error that the caller gets.
    type Error;

    /// The part of a request that the border keeps until the call ends.
    type Seen;

    /// Reads the request, and may change it. Runs in the first poll of the response future, before any stage. It may
    /// narrow the inherited context by [`Inherited::with_context`](super::Inherited::with_context) and
    /// [`Frame::set_inherited`].
    fn enter(&self, request: &mut Request, frame: &mut Frame) -> Self::Seen;

    /// Converts the result of the stack into the caller's result. All permits of the call have been returned, except
    /// those that [`Admission::keep`](super::Admission::keep) kept. The frame is the frame of the last poll.
    fn exit(
        &self,
        seen: Self::Seen,
        result: Result<Response, Error<E>>,
        frame: &mut Frame,
    ) -> Result<Self::Response, Self::Error>;
}

/// Returns rejections as [`Error::Rejected`] and the service's errors as [`Error::Service`].
#[derive(Clone, Copy, Debug, Default)]
pub struct TypedError;

impl<Request, Response, E> Border<Request, Response, E> for TypedError {
    type Response = Response;
    type Error = Error<E>;
    type Seen = ();

    #[inline]
    fn enter(&self, _request: &mut Request, _frame: &mut Frame) {}

    #[inline]
    fn exit(&self, (): (), result: Result<Response, Error<E>>, _frame: &mut Frame) -> Result<Response, Error<E>> {
        result
    }
}

/// Converts rejections into the service's own error type.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeepError;

impl<Request, Response, E: FromRejection> Border<Request, Response, E> for KeepError {
    type Response = Response;
    type Error = E;
    type Seen = ();

    #[inline]
    fn enter(&self, _request: &mut Request, _frame: &mut Frame) {}

    #[inline]
    fn exit(&self, (): (), result: Result<Response, Error<E>>, _frame: &mut Frame) -> Result<Response, E> {
        result.map_err(|error| match error {
            Error::Rejected(rejection) => E::from_rejection(rejection),
            Error::Service(error) => error,
        })
    }
}

/// Boxes rejections and the service's errors, as [`Error::into_boxed`] does.
#[derive(Clone, Copy, Debug, Default)]
pub struct BoxedError;

impl<Request, Response, E: Into<tower::BoxError>> Border<Request, Response, E> for BoxedError {
    type Response = Response;
    type Error = tower::BoxError;
    type Seen = ();

    #[inline]
    fn enter(&self, _request: &mut Request, _frame: &mut Frame) {}

    #[inline]
    fn exit(
        &self,
        (): (),
        result: Result<Response, Error<E>>,
        _frame: &mut Frame,
    ) -> Result<Response, tower::BoxError> {
        result.map_err(Error::into_boxed)
    }
}

/// Turns rejections into responses and keeps the error type, for servers.
#[derive(Clone, Copy, Debug)]
pub struct Respond<F>(pub(crate) F);

impl<Request, Response, E, F> Border<Request, Response, E> for Respond<F>
where
    F: Fn(Rejection) -> Response,
{
    type Response = Response;
    type Error = E;
    type Seen = ();

    #[inline]
    fn enter(&self, _request: &mut Request, _frame: &mut Frame) {}

    #[inline]
    fn exit(&self, (): (), result: Result<Response, Error<E>>, _frame: &mut Frame) -> Result<Response, E> {
        match result {
            Ok(response) => Ok(response),
            Err(Error::Rejected(rejection)) => Ok((self.0)(rejection)),
            Err(Error::Service(error)) => Err(error),
        }
    }
}

/// An error type that can hold a [`Rejection`]: every type with `From<Rejection>`.
///
/// Tower's `BoxError` is one, and so is [`Error<E>`]. Do not implement this trait; implement `From<Rejection>`.
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
