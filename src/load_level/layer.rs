use super::{Queue, queue::ArrivingCall};
use crate::shell::{AdmissionStage, Classes, CriticalityBy, CriticalityOfContext, Frame, KeepError, Leaf, StackLayer};

/// A [`Queue`], with functions for the weight and the criticality of each call. See the [module](super).
#[derive(Clone, Debug)]
pub struct LoadLevel<W = WeighsOne, C = CriticalityOfContext> {
    pub(super) queue: Queue,
    weight: W,
    criticality: C,
}

impl LoadLevel {
    /// Each call weighs 1 and has the criticality of its [context](crate::CallContext).
    pub fn new(queue: Queue) -> Self {
        Self { queue, weight: WeighsOne, criticality: CriticalityOfContext }
    }
}

impl<C> LoadLevel<WeighsOne, C> {
    /// Sets the weight of a call while it waits, from its request: for example its bytes or its rows. See
    /// [`max_weight`](super::QueueBuilder::max_weight).
    ///
    /// The function runs for each call that cannot begin at once, before the queue lets the call wait or refuses it. It
    /// may also run for a call that begins at once: with a [pace](super::QueueBuilder::pace) it runs for each call.
    ///
    /// `weight` is a closure or function `Fn(&Request) -> u64`. A closure names the type of its parameter:
    /// `|order: &Order|`, or `|order: &&Order|` where the request is itself a reference.
    pub fn weight<F>(self, weight: F) -> LoadLevel<WeighsBy<F>, C> {
        let Self { queue, weight: WeighsOne, criticality } = self;
        LoadLevel { queue, weight: WeighsBy(weight), criticality }
    }
}

impl<W> LoadLevel<W> {
    /// Sets the criticality of a call, from its request. See [`by_criticality`](super::QueueBuilder::by_criticality).
    ///
    /// The function runs for each call that cannot begin at once, before the queue lets the call wait or refuses it. It
    /// may also run for a call that begins at once: with a [pace](super::QueueBuilder::pace) it runs for each call.
    ///
    /// `criticality` is a closure or function `Fn(&Request) -> Criticality`.
    pub fn criticality<F>(self, criticality: F) -> LoadLevel<W, CriticalityBy<F>> {
        let Self { queue, weight, criticality: CriticalityOfContext } = self;
        LoadLevel { queue, weight, criticality: CriticalityBy(criticality) }
    }
}

impl<W, C> LoadLevel<W, C> {
    pub(crate) fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Returns the weight, the criticality and the deadline of a call.
    pub(super) fn arriving_call<Request>(&self, request: &Request, frame: &mut Frame) -> ArrivingCall
    where
        W: Weigh<Request>,
        C: Classes<Request>,
    {
        let weight = self.weight.weight(request, frame);
        let criticality = self.criticality.criticality(request, frame);
        ArrivingCall { weight, criticality, deadline: frame.inherited().deadline() }
    }
}

impl From<Queue> for LoadLevel {
    fn from(queue: Queue) -> Self {
        Self::new(queue)
    }
}

/// The weight of a call while it waits.
pub trait Weigh<Request> {
    /// Returns the weight of this request.
    fn weight(&self, request: &Request, frame: &mut Frame) -> u64;
}

/// Each call weighs 1. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct WeighsOne;

/// Each call has the weight that a function returns: [`LoadLevel::weight`].
#[derive(Clone, Copy, Debug)]
pub struct WeighsBy<F>(F);

impl<Request> Weigh<Request> for WeighsOne {
    fn weight(&self, _request: &Request, _frame: &mut Frame) -> u64 {
        1
    }
}

impl<Request, F: Fn(&Request) -> u64> Weigh<Request> for WeighsBy<F> {
    fn weight(&self, request: &Request, frame: &mut Frame) -> u64 {
        frame.user_code_runs();
        (self.0)(request)
    }
}

/// A tower layer that lets calls wait in a [`Queue`]. See the [module](super).
///
/// The service's error type is kept and must be `From<Rejection>`; [`typed_error`](StackLayer::typed_error) and
/// [`respond_with`](StackLayer::respond_with) choose another error type, or a response.
#[doc(alias("BufferLayer", "BulkheadLayer", "ConcurrencyLimitLayer"))]
pub type LoadLevelLayer<W = WeighsOne, C = CriticalityOfContext, X = KeepError> =
    StackLayer<AdmissionStage<LoadLevel<W, C>, Leaf>, X>;

impl<W, C> LoadLevelLayer<W, C> {
    /// Returns a layer with this queue: a [`Queue`], or a [`LoadLevel`].
    pub fn new(level: impl Into<LoadLevel<W, C>>) -> Self {
        StackLayer::from_stages(AdmissionStage::with(level.into(), Leaf::default()), KeepError)
    }
}
