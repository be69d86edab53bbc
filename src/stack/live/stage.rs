use super::{
    passes::{Pass, Passes},
    terms::SharedTerms,
};
use crate::{
    error::{Error, Rejection, SwitchedOff},
    shell::{Abandonment, Callee, Describe, DescribeGate, Ending, Explanation, Frame, Gate, RefusesNow, Stage, Terms},
    sync::thread_local,
};
use pin_project_lite::pin_project;
use std::{
    cell::Cell,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};
use tokio::time::Instant;
use tower::Service;

/// What the stages of a live stack share.
#[derive(Default)]
pub(super) struct Shared {
    passes: Passes,
    pub(super) terms: SharedTerms,
    /// Relaxed: it is written in a change and read in a pass.
    switched_off: AtomicBool,
}

thread_local! {
    /// The passes and changes that this thread is in. More than one where user code in a pass calls another service to
    /// its end, or is run by what a change wakes.
    #[allow(clippy::missing_const_for_thread_local, reason = "loom's cannot be")]
    static DEPTH: Cell<usize> = Cell::new(0);
}

/// This thread is in one more pass or change until it is dropped.
struct Deeper;

impl Deeper {
    /// One more, and how many it was in.
    #[inline]
    fn go() -> (usize, Self) {
        (DEPTH.with(|depth| depth.replace(depth.get() + 1)), Self)
    }
}

impl Drop for Deeper {
    #[inline]
    fn drop(&mut self) {
        DEPTH.with(|depth| depth.set(depth.get() - 1));
    }
}

/// A pass of this thread, until it is dropped.
struct Within<'passes> {
    _deeper: Deeper,
    _pass: Pass<'passes>,
}

impl Shared {
    #[inline]
    fn enter(&self) -> Within<'_> {
        let (depth, deeper) = Deeper::go();
        let pass = if depth == 0 { self.passes.enter() } else { self.passes.enter_within() };
        Within { _deeper: deeper, _pass: pass }
    }

    #[inline]
    pub(super) fn is_off(&self) -> bool {
        self.switched_off.load(Ordering::Relaxed)
    }

    /// Sets the kill switch, in a change.
    pub(super) fn switch(&self, off: bool) {
        self.switched_off.store(off, Ordering::Relaxed);
    }

    /// Whether this thread is in a pass or a change, and so must not wait for passes or changes to end.
    pub(super) fn is_within(&self) -> bool {
        DEPTH.with(|depth| depth.get() > 0)
    }

    /// Makes a change while no call is in a pass. What it wakes may run on this thread, and call.
    pub(super) fn change<T>(&self, work: impl FnOnce() -> T) -> T {
        self.passes.change(|| {
            let _deeper = Deeper::go();
            work()
        })
    }

    /// Looks at what is in force, between two changes.
    pub(super) fn look<T>(&self, work: impl FnOnce() -> T) -> T {
        if self.is_within() {
            return work();
        }
        self.passes.between_changes(|| {
            let _deeper = Deeper::go();
            work()
        })
    }
}

/// Begins each call with the terms in force, and lets it pass the gates between two changes. The outermost stage of a
/// stack that can be told another configuration while calls pass.
#[derive(Clone)]
pub struct LiveStage<Next> {
    pub(super) shared: Arc<Shared>,
    pub(super) next: Next,
}

pin_project! {
    /// A call at a [`LiveStage`].
    #[derive(Debug)]
    pub struct LiveCall<Call> {
        #[pin]
        next: Call,
        // From the beginning to the end.
        terms: Terms,
    }
}

impl<Next, S, Request> Stage<S, Request> for LiveStage<Next>
where
    Next: Stage<S, Request>,
    S: Service<Request>,
{
    const READS_DEADLINE: bool = Next::READS_DEADLINE;

    type Call = LiveCall<Next::Call>;

    #[inline]
    fn start(&self, request: Request, frame: &mut Frame) -> Self::Call {
        let _pass = self.shared.enter();
        let terms = self.shared.terms.load();
        frame.set_terms(terms);
        frame.set_in_pass(true);
        let next = self.next.start(request, frame);
        frame.set_in_pass(false);
        LiveCall { next, terms }
    }

    fn would_refuse(&self, request: &Request, due: Instant, frame: &mut Frame) -> bool {
        self.next.would_refuse(request, due, frame)
    }

    #[inline]
    fn poll(
        &self,
        call: Pin<&mut Self::Call>,
        callee: Pin<&mut Callee<S, S::Future>>,
        cx: &mut Context<'_>,
        frame: &mut Frame,
    ) -> Poll<Result<S::Response, Error<S::Error>>> {
        let call = call.project();
        // They are there already in the poll that began the call.
        if frame.terms().is_none() {
            frame.set_terms(*call.terms);
        }
        self.next.poll(call.next, callee, cx, frame)
    }

    #[inline]
    fn abandon(
        &self,
        call: Pin<&mut Self::Call>,
        callee: Pin<&mut Callee<S, S::Future>>,
        cause: Abandonment,
        frame: &mut Frame,
    ) {
        self.next.abandon(call.project().next, callee, cause, frame);
    }
}

/// Lets a call pass the gates between two changes that comes to them later than it began: each attempt inside of a
/// retry, and on a server what has waited at its rate limit.
#[derive(Clone)]
pub struct LiveAttemptStage<Next> {
    pub(super) shared: Arc<Shared>,
    pub(super) next: Next,
}

impl<Next, S, Request> Stage<S, Request> for LiveAttemptStage<Next>
where
    Next: Stage<S, Request>,
    S: Service<Request>,
{
    const READS_DEADLINE: bool = Next::READS_DEADLINE;

    type Call = Next::Call;

    #[inline]
    fn start(&self, request: Request, frame: &mut Frame) -> Self::Call {
        // The first attempt is part of the call's own pass, and so is a call that does not wait.
        let _pass = (!frame.is_in_pass()).then(|| self.shared.enter());
        self.next.start(request, frame)
    }

    /// What would refuse is looked at between two changes.
    fn would_refuse(&self, request: &Request, due: Instant, frame: &mut Frame) -> bool {
        let _pass = (!frame.is_in_pass()).then(|| self.shared.enter());
        self.next.would_refuse(request, due, frame)
    }

    #[inline]
    fn poll(
        &self,
        call: Pin<&mut Self::Call>,
        callee: Pin<&mut Callee<S, S::Future>>,
        cx: &mut Context<'_>,
        frame: &mut Frame,
    ) -> Poll<Result<S::Response, Error<S::Error>>> {
        self.next.poll(call, callee, cx, frame)
    }

    #[inline]
    fn abandon(
        &self,
        call: Pin<&mut Self::Call>,
        callee: Pin<&mut Callee<S, S::Future>>,
        cause: Abandonment,
        frame: &mut Frame,
    ) {
        self.next.abandon(call, callee, cause, frame);
    }
}

/// The kill switch: lets all calls pass, or none.
#[derive(Clone)]
pub struct KillSwitch {
    pub(super) shared: Arc<Shared>,
}

impl KillSwitch {
    #[inline]
    fn is_off(&self) -> bool {
        self.shared.is_off()
    }
}

impl<Request> Gate<Request> for KillSwitch {
    type Permit = ();

    #[inline]
    fn admit(&self, _request: &Request, _frame: &mut Frame) -> Result<(), Rejection> {
        if self.is_off() { Err(SwitchedOff::new().into()) } else { Ok(()) }
    }

    fn would_refuse(&self, _request: &Request, _due: Instant, _frame: &mut Frame) -> bool {
        self.is_off()
    }

    #[inline]
    fn settle(&self, (): (), _ending: Ending, _frame: &mut Frame) {}
}

impl RefusesNow for KillSwitch {
    fn refuses_now(&self, _frame: &mut Frame) -> bool {
        self.is_off()
    }
}

impl DescribeGate for KillSwitch {
    fn describe(&self, explanation: &mut Explanation) {
        if self.is_off() {
            explanation.layer("kill switch", "no call passes");
        }
    }
}

/// A change under way is not waited for.
impl<Next: RefusesNow> RefusesNow for LiveStage<Next> {
    fn refuses_now(&self, frame: &mut Frame) -> bool {
        self.next.refuses_now(frame)
    }
}

impl<Next: RefusesNow> RefusesNow for LiveAttemptStage<Next> {
    fn refuses_now(&self, frame: &mut Frame) -> bool {
        self.next.refuses_now(frame)
    }
}

impl<Next: Describe> Describe for LiveStage<Next> {
    fn describe(&self, explanation: &mut Explanation) {
        explanation.by_terms(self.shared.terms.load());
        self.next.describe(explanation);
    }
}

impl<Next: Describe> Describe for LiveAttemptStage<Next> {
    fn describe(&self, explanation: &mut Explanation) {
        self.next.describe(explanation);
    }
}
