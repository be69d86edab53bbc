//! The service below a subject: the fixture itself, or a tower service with a capacity of its own around it.

use crate::{
    controls::Controls,
    fixture::{Fault, Fixture},
    task::{Task, settle},
};
use futures::future::poll_fn;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};
use tokio::sync::Semaphore;
use tower::{Service, ServiceExt, buffer::Buffer, limit::ConcurrencyLimit, util::BoxCloneService};

/// Any service with errors of type `E`, boxed, so that all subjects wrap one type. It counts its calls.
pub struct Inner<E> {
    service: BoxCloneService<u32, u32, E>,
    calls: Arc<AtomicU64>,
}

impl<E> Inner<E> {
    pub fn new<S>(service: S) -> Self
    where
        S: Service<u32, Response = u32, Error = E, Future: Send> + Clone + Send + 'static,
    {
        Self { service: BoxCloneService::new(service), calls: Arc::default() }
    }
}

impl<E> Clone for Inner<E> {
    fn clone(&self) -> Self {
        Self { service: self.service.clone(), calls: self.calls.clone() }
    }
}

impl<E> Service<u32> for Inner<E> {
    type Response = u32;
    type Error = E;
    type Future = <BoxCloneService<u32, u32, E> as Service<u32>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: u32) -> Self::Future {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.service.call(request)
    }
}

/// The kinds of capacity below a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// None: the fixture.
    Plain,
    /// None, but each call takes a step of the runtime's coop budget. The call is pending while that budget is
    /// exhausted.
    Budgeted,
    /// A tower `ConcurrencyLimit` of this number of calls.
    Limited(usize),
    /// A tower `Buffer` of this number of places.
    Buffered(usize),
}

/// The kinds with the smallest capacity, so that any leak shows.
pub const KINDS: [Kind; 3] = [Kind::Plain, Kind::Limited(1), Kind::Buffered(1)];

/// The kinds in which the call itself polls the fixture, so that a panic of the fixture reaches the call. A `Buffer`
/// polls the fixture in a worker task.
pub const KINDS_WITHOUT_WORKER: [Kind; 2] = [Kind::Plain, Kind::Limited(1)];

/// The service below a subject, and the means to check that all of its capacity is free.
pub struct Below {
    pub controls: Controls,
    inner: Inner<Fault>,
    room: Room,
}

enum Room {
    Plain,
    Limited { semaphore: Arc<Semaphore>, limit: usize },
    Buffered { handle: BoxCloneService<u32, u32, Fault>, bound: usize },
}

impl Below {
    pub fn new(kind: Kind, controls: Controls) -> Self {
        let fixture = Fixture::<Fault>::new(&controls);
        let (inner, room) = match kind {
            Kind::Plain => (Inner::new(fixture), Room::Plain),
            Kind::Budgeted => {
                let budgeted = fixture.map_future(|answer| async {
                    tokio::task::coop::consume_budget().await;
                    answer.await
                });
                (Inner::new(budgeted), Room::Plain)
            }
            Kind::Limited(limit) => {
                let semaphore = Arc::new(Semaphore::new(limit));
                let limited = ConcurrencyLimit::with_semaphore(fixture, semaphore.clone());
                (Inner::new(limited), Room::Limited { semaphore, limit })
            }
            Kind::Buffered(bound) => {
                let buffer = Buffer::new(fixture, bound).map_err(|error| match error.downcast::<Fault>() {
                    Ok(fault) => *fault,
                    Err(other) => Fault::Foreign(other.to_string()),
                });
                (Inner::new(buffer.clone()), Room::Buffered { handle: BoxCloneService::new(buffer), bound })
            }
        };
        Self { controls, inner, room }
    }

    pub fn plain(controls: Controls) -> Self {
        Self::new(Kind::Plain, controls)
    }

    pub fn inner(&self) -> Inner<Fault> {
        self.inner.clone()
    }

    /// Returns the number of calls that the subject has passed to the service.
    pub fn reached(&self) -> u64 {
        self.inner.calls.load(Ordering::Relaxed)
    }

    /// Takes all of the capacity, until the return value is dropped.
    pub async fn occupy(&self) -> Box<dyn Send> {
        match &self.room {
            Room::Plain => Box::new(()),
            Room::Limited { semaphore, limit } => {
                let all = u32::try_from(*limit).unwrap();
                Box::new(semaphore.clone().acquire_many_owned(all).await.unwrap())
            }
            Room::Buffered { handle, bound } => {
                let mut handles = vec![handle.clone(); *bound];
                for handle in &mut handles {
                    poll_fn(|cx| handle.poll_ready(cx)).await.unwrap();
                }
                Box::new(handles)
            }
        }
    }

    /// Asserts that all of the capacity is free.
    pub async fn assert_full_capacity(&self) {
        settle().await;
        self.controls.assert_contract_kept();
        match &self.room {
            Room::Plain => {}
            Room::Limited { semaphore, limit } => {
                assert_eq!(semaphore.available_permits(), *limit, "permits of the inner ConcurrencyLimit");
            }
            Room::Buffered { bound, .. } => {
                let occupied = Task::new(Box::pin(self.occupy())).poll();
                assert!(occupied.is_ready(), "not all of the {bound} places of the inner Buffer are free");
            }
        }
    }
}
