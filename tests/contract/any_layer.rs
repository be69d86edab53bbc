//! A type-erased layer, so that each test is compiled once and not for each subject.

use crate::{
    below::Inner,
    clock::OnTime,
    fixture::{AppError, Fault},
    types::Local,
};
use futures::future::LocalBoxFuture;
use std::rc::Rc;
use steadfast::{
    Error, Rejection,
    shell::{GateStage, StackLayer, Stage, TypedError},
};
use tower::{BoxError, Layer, Service, util::BoxCloneService};

/// The service that a subject makes around a service, type-erased. The tests call it a handle. Its type proves that it
/// is `Clone` and `Send`, and that its future is `Send`.
pub type Handle<E> = BoxCloneService<u32, u32, E>;

/// A layer of any type.
pub trait AnyLayer {
    fn cloned(&self) -> Box<dyn AnyLayer>;
    fn around(&self, inner: Inner<Fault>) -> Handle<Error<Fault>>;
    fn around_behind(&self, gate: OnTime, inner: Inner<Fault>) -> Handle<Error<Fault>>;
    fn around_keeping_box_errors(&self, inner: Inner<BoxError>) -> Handle<BoxError>;
    fn around_keeping_errors(&self, inner: Inner<AppError>) -> Handle<AppError>;
    fn around_boxing_errors(&self, inner: Inner<Fault>) -> Handle<BoxError>;
    fn around_box_errors(&self, inner: Inner<BoxError>) -> Handle<Error<BoxError>>;
    fn around_responding(&self, inner: Inner<Fault>, respond: fn(Rejection) -> u32) -> Handle<Fault>;
    fn call_local<'a>(&self, inner: Local<'a>, request: Rc<str>) -> LocalBoxFuture<'a, Result<Rc<str>, Error<Fault>>>;
}

/// Stages that work around all services of these tests.
pub trait Stages:
    Stage<Inner<Fault>, u32, Call: Send>
    + Stage<Inner<BoxError>, u32, Call: Send>
    + Stage<Inner<AppError>, u32, Call: Send>
    + for<'a> Stage<Local<'a>, Rc<str>>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<St> Stages for St where
    St: Stage<Inner<Fault>, u32, Call: Send>
        + Stage<Inner<BoxError>, u32, Call: Send>
        + Stage<Inner<AppError>, u32, Call: Send>
        + for<'a> Stage<Local<'a>, Rc<str>>
        + Clone
        + Send
        + Sync
        + 'static
{
}

impl<St: Stages> AnyLayer for StackLayer<St, TypedError> {
    fn cloned(&self) -> Box<dyn AnyLayer> {
        Box::new(self.clone())
    }

    fn around(&self, inner: Inner<Fault>) -> Handle<Error<Fault>> {
        Handle::new(self.layer(inner))
    }

    fn around_behind(&self, gate: OnTime, inner: Inner<Fault>) -> Handle<Error<Fault>> {
        Handle::new(self.clone().map_stages(|stages| GateStage::new(gate, stages)).layer(inner))
    }

    fn around_keeping_box_errors(&self, inner: Inner<BoxError>) -> Handle<BoxError> {
        Handle::new(self.clone().keep_error().layer(inner))
    }

    fn around_keeping_errors(&self, inner: Inner<AppError>) -> Handle<AppError> {
        Handle::new(self.clone().keep_error().layer(inner))
    }

    fn around_boxing_errors(&self, inner: Inner<Fault>) -> Handle<BoxError> {
        Handle::new(self.clone().boxed_error().layer(inner))
    }

    fn around_box_errors(&self, inner: Inner<BoxError>) -> Handle<Error<BoxError>> {
        Handle::new(self.layer(inner))
    }

    fn around_responding(&self, inner: Inner<Fault>, respond: fn(Rejection) -> u32) -> Handle<Fault> {
        Handle::new(self.clone().respond_with(respond).layer(inner))
    }

    fn call_local<'a>(&self, inner: Local<'a>, request: Rc<str>) -> LocalBoxFuture<'a, Result<Rc<str>, Error<Fault>>> {
        Box::pin(self.layer(inner).call(request))
    }
}
