//! Errors keep their types and sources in every error mode: `typed_error`, `keep_error`, `boxed_error` and
//! `respond_with`.

use crate::{
    below::{Below, Inner},
    controls::{Act, Controls},
    fixture::{AppError, Cause, Fault, Fixture},
    subject::{Make, Subject},
};
use std::error::Error as _;
use steadfast::{Error, Rejection};
use tower::{BoxError, ServiceExt};

fn failing() -> Controls {
    Controls::new().act(Act::FailAfter(0))
}

/// Controls for a service that hangs, so that the call is rejected after [`Subject::provoke_a_rejection`].
fn hanging() -> Controls {
    Controls::new().act(Act::Wait)
}

pub async fn the_services_error_keeps_its_type_and_its_source(make: Make) {
    let subject = Subject::tight(make).await;
    let error = subject.around(&Below::plain(failing())).oneshot(7).await.unwrap_err();
    assert_eq!(error, Error::Service(Fault::Failed(Cause)));
    assert_eq!(error.rejection(), None);
    assert_eq!(error.to_string(), format!("the service failed: {}", Fault::Failed(Cause)));
    let fault = error.source().and_then(|source| source.downcast_ref::<Fault>()).unwrap();
    assert_eq!(fault.source().and_then(|source| source.downcast_ref()), Some(&Cause));
    assert_eq!(error.into_service(), Some(Fault::Failed(Cause)));
}

pub async fn with_keep_error_the_services_error_is_unchanged(make: Make) {
    let subject = Subject::tight(make).await;
    let service = Inner::new(Fixture::<BoxError>::new(&failing()));
    let error = subject.around_keeping_box_errors(service).oneshot(7).await.unwrap_err();
    assert_eq!(*error.downcast::<Fault>().unwrap(), Fault::Failed(Cause));

    let subject = Subject::tight(make).await;
    let service = Inner::new(Fixture::<AppError>::new(&failing()));
    let error = subject.around_keeping_errors(service).oneshot(7).await.unwrap_err();
    assert!(matches!(error, AppError::Fault(Fault::Failed(Cause))), "{error:?}");
}

pub async fn with_respond_with_the_services_error_is_unchanged(make: Make) {
    let subject = Subject::tight(make).await;
    let service = subject.around_responding(&Below::plain(failing()), |_| 503);
    assert_eq!(service.oneshot(7).await, Err(Fault::Failed(Cause)));
}

/// Checks that a rejection is of this mechanism, that its message contains its details, and that it has no source.
fn check(rejection: &Rejection, mechanism: &str) {
    assert_eq!(rejection.mechanism(), mechanism);
    let (name, details) = match rejection {
        Rejection::TimedOut(details) => ("timeout", details.to_string()),
        Rejection::CircuitOpen(details) => ("circuit breaker", details.to_string()),
        Rejection::Overloaded(details) => ("load shed", details.to_string()),
        Rejection::RateLimited(details) => ("rate limit", details.to_string()),
        Rejection::QueueFull(details) => ("load level", details.to_string()),
        Rejection::WaitedTooLong(details) => ("load level", details.to_string()),
        other => panic!("{other:?}"),
    };
    assert_eq!(rejection.to_string(), format!("{name}: {details}"));
    assert!(rejection.source().is_none());
}

pub async fn a_rejection_comes_out_as_a_typed_error_with_its_source(make: Make) {
    let subject = Subject::tight(make).await;
    let mechanism = subject.provoke_a_rejection();
    let error = subject.around(&Below::plain(hanging())).oneshot(7).await.unwrap_err();
    let rejection = error.source().and_then(|source| source.downcast_ref::<Rejection>()).unwrap();
    check(rejection, mechanism);
    assert_eq!(error.to_string(), format!("the call was rejected: {rejection}"));
    assert_eq!(error.rejection(), Some(rejection));
    assert_eq!(error.clone().into_boxed().downcast_ref(), Some(rejection));
    assert_eq!(error.clone().into_service(), None);
}

pub async fn a_rejection_is_found_in_a_box_error(make: Make) {
    let subject = Subject::tight(make).await;
    let mechanism = subject.provoke_a_rejection();
    let service = Inner::new(Fixture::<BoxError>::new(&hanging()));
    let error = subject.around_keeping_box_errors(service).oneshot(7).await.unwrap_err();
    check(error.downcast_ref::<Rejection>().unwrap(), mechanism);
}

pub async fn with_boxed_error_each_error_keeps_its_type(make: Make) {
    let subject = Subject::tight(make).await;
    let error = subject.around_boxing_errors(&Below::plain(failing())).oneshot(7).await.unwrap_err();
    assert_eq!(*error.downcast::<Fault>().unwrap(), Fault::Failed(Cause));

    let subject = Subject::tight(make).await;
    let mechanism = subject.provoke_a_rejection();
    let error = subject.around_boxing_errors(&Below::plain(hanging())).oneshot(7).await.unwrap_err();
    check(error.downcast_ref::<Rejection>().unwrap(), mechanism);
}

pub async fn a_box_error_of_the_service_is_shown_and_converted(make: Make) {
    let subject = Subject::tight(make).await;
    let service = Inner::new(Fixture::<BoxError>::new(&failing()));
    let error = subject.around_box_errors(service).oneshot(7).await.unwrap_err();
    assert_eq!(error.to_string(), format!("the service failed: {}", Fault::Failed(Cause)));
    assert_eq!(*error.into_boxed().downcast::<Fault>().unwrap(), Fault::Failed(Cause));
}

pub async fn a_rejection_is_converted_into_the_services_own_error(make: Make) {
    let subject = Subject::tight(make).await;
    let mechanism = subject.provoke_a_rejection();
    let service = Inner::new(Fixture::<AppError>::new(&hanging()));
    let error = subject.around_keeping_errors(service).oneshot(7).await.unwrap_err();
    let AppError::Rejected(rejection) = &error else { panic!("{error:?}") };
    check(rejection, mechanism);
    assert_eq!(error.source().and_then(|source| source.downcast_ref()), Some(rejection));
}

pub async fn a_rejection_becomes_a_response(make: Make) {
    fn code(mechanism: &str) -> u32 {
        503 + mechanism.len() as u32
    }
    let subject = Subject::tight(make).await;
    let mechanism = subject.provoke_a_rejection();
    let service = subject.around_responding(&Below::plain(hanging()), |rejection| code(rejection.mechanism()));
    assert_eq!(service.oneshot(7).await, Ok(code(mechanism)));
}
