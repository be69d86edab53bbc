mod inherited;

use super::{CallSettings, Ending, Retries};
use crate::{
    classify::Outcome,
    context::CallContext,
    deadline::Deadline,
    error::TimedOutIn,
    words::{Flag, Wait},
};
pub use inherited::Inherited;
use std::mem;
use tokio::time::Instant;

/// The state that the stages of one call share during one poll of the stages: the clock, the next wake-up, and how the
/// service answered.
///
/// A frame is a local variable of the response future's poll, or of its drop. If the stages are pending and the call's
/// timer has fired, the future polls the stages again, with a new frame.
#[derive(Debug, Default)]
pub struct Frame {
    /// The time, if the clock was read since user code last ran.
    now: Option<Instant>,
    /// The earliest instant at which a stage wants to be polled again.
    wake: Option<Instant>,
    /// How the service answered in this poll.
    ending: Reported,
    /// Whether the service was called in this attempt, and where the call was abandoned. After a retry was abandoned,
    /// whether the service was called in any attempt.
    reached: Reached,
    /// Whether the attempt that ends in this poll must not be followed by another one.
    retry_forbidden: Flag,
    /// Whether the attempt that a timeout ends had less than half of its full time. The full time is the attempt
    /// timeout, or else the timeout of the stack; see [`Ending::CutShort`].
    cut_short: Flag,
    /// When the attempt that ends in this poll has had half of its full time.
    half_time: Deadline,
    /// The context and deadline that the next stage inherits. Stages narrow it on the way in.
    inherited: Option<Inherited>,
    /// The settings that the call keeps to its end, in a live stack.
    settings: Option<CallSettings>,
    /// Whether the call is in a pass through the gates. The pass is repeated if the configuration changes during it.
    in_pass: Flag,
    /// The retries of the call that ends in this poll.
    retries: Retries,
    /// The configuration version of a later pass, which began after the call's own pass: for a further attempt, or for
    /// a waiter whose turn came. Zero if there is no later pass, or once it has ended.
    later_pass: u64,
    /// What the call inherited before the pass. `None` if no stage had read or set it: a repeated pass then reads the
    /// caller's context again.
    before_pass: Option<Inherited>,
}

/// Whether the service was called, and where the call was abandoned. One word.
#[derive(Clone, Copy, Debug, Default)]
struct Reached(u64);

impl Reached {
    const SERVICE: u64 = 1;
    const ABANDONED_BEFORE_READY: u64 = 2;
    const ABANDONED_IN_SERVICE: u64 = 4;
}

/// The reported [`Ending`], if any, in fields of one machine word each; `crate::words` states the reason.
#[derive(Clone, Copy, Debug, Default)]
struct Reported {
    kind: Kind,
    retry_after: Wait,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u64)]
enum Kind {
    #[default]
    Nothing,
    Success,
    Failure,
    Overloaded,
    Unprocessed,
    Permanent,
    Ignored,
    TimedOut,
    CutShort,
    Refused,
    Cancelled,
    CancelledInService,
    Panicked,
}

impl Reported {
    #[inline]
    fn of(ending: Ending) -> Self {
        let (kind, retry_after) = match ending {
            Ending::Answered(Outcome::Success) => (Kind::Success, None),
            Ending::Answered(Outcome::Failure) => (Kind::Failure, None),
            Ending::Answered(Outcome::Overloaded { retry_after }) => (Kind::Overloaded, retry_after),
            Ending::Answered(Outcome::Unprocessed { retry_after }) => (Kind::Unprocessed, retry_after),
            Ending::Answered(Outcome::Permanent) => (Kind::Permanent, None),
            Ending::Answered(Outcome::Ignored) => (Kind::Ignored, None),
            Ending::TimedOut => (Kind::TimedOut, None),
            Ending::CutShort => (Kind::CutShort, None),
            Ending::Refused { retry_after } => (Kind::Refused, retry_after),
            Ending::Cancelled { reached_service: false } => (Kind::Cancelled, None),
            Ending::Cancelled { reached_service: true } => (Kind::CancelledInService, None),
            Ending::Panicked => (Kind::Panicked, None),
        };
        Self { kind, retry_after: Wait::of(retry_after) }
    }

    #[inline]
    fn get(self) -> Option<Ending> {
        let retry_after = self.retry_after.get();
        Some(match self.kind {
            Kind::Nothing => return None,
            Kind::Success => Ending::Answered(Outcome::Success),
            Kind::Failure => Ending::Answered(Outcome::Failure),
            Kind::Overloaded => Ending::Answered(Outcome::Overloaded { retry_after }),
            Kind::Unprocessed => Ending::Answered(Outcome::Unprocessed { retry_after }),
            Kind::Permanent => Ending::Answered(Outcome::Permanent),
            Kind::Ignored => Ending::Answered(Outcome::Ignored),
            Kind::TimedOut => Ending::TimedOut,
            Kind::CutShort => Ending::CutShort,
            Kind::Refused => Ending::Refused { retry_after },
            Kind::Cancelled => Ending::Cancelled { reached_service: false },
            Kind::CancelledInService => Ending::Cancelled { reached_service: true },
            Kind::Panicked => Ending::Panicked,
        })
    }
}

impl Frame {
    /// Makes an empty frame for one poll.
    #[inline]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the time. The frame reads the clock once, and remembers the time until
    /// [`user_code_runs`](Self::user_code_runs) forgets it.
    #[inline]
    pub fn now(&mut self) -> Instant {
        *self.now.get_or_insert_with(Instant::now)
    }

    /// Forgets the time. Call this before or after user code runs: the service, a classifier, a cost function, a waker,
    /// the drop of a request. User code can take long, so the next [`now`](Self::now) reads the clock.
    #[inline]
    pub fn user_code_runs(&mut self) {
        self.now = None;
    }

    /// Asks for a poll at this instant. The earliest instant of one poll counts. A stage that still waits asks again in
    /// each poll.
    #[inline]
    pub fn wake_at(&mut self, instant: Instant) {
        self.wake = Some(self.wake.map_or(instant, |earliest| earliest.min(instant)));
    }

    /// Takes the earliest instant that a stage asked for.
    #[inline]
    pub(crate) fn take_wake(&mut self) -> Option<Instant> {
        self.wake.take()
    }

    /// Reports how the service answered. The innermost stage does so, in the poll that returns the answer. The
    /// [scope](super::ScopeStage) around the service corrects the report of a service that itself gave up at the
    /// deadline.
    #[inline]
    pub fn report(&mut self, ending: Ending) {
        self.ending = Reported::of(ending);
    }

    /// Returns how the service answered in this poll, if it did.
    #[inline]
    pub fn reported(&self) -> Option<Ending> {
        self.ending.get()
    }

    /// Notes for the rest of this poll that the service was called.
    ///
    /// The innermost stage does so in each poll in which the service has the call, and in `abandon` if the service has
    /// the call then. A stage that makes several attempts, such as a retry, does so in `abandon` if any attempt reached
    /// the service.
    #[inline]
    pub fn service_was_reached(&mut self) {
        self.reached.0 |= Reached::SERVICE;
    }

    /// Returns whether the service was called.
    #[inline]
    pub fn reached_service(&self) -> bool {
        self.reached.0 & Reached::SERVICE != 0
    }

    /// Notes where the call is abandoned: in the service if `is_in_service`, otherwise while the call waits for the
    /// service to be ready.
    pub(super) fn abandoned_at_service(&mut self, is_in_service: bool) {
        self.reached.0 |= if is_in_service { Reached::ABANDONED_IN_SERVICE } else { Reached::ABANDONED_BEFORE_READY };
    }

    /// Returns where the call was when it was abandoned in this poll.
    pub(crate) fn abandoned_in(&self) -> TimedOutIn {
        match self.reached.0 {
            reached if reached & Reached::ABANDONED_IN_SERVICE != 0 => TimedOutIn::Service,
            reached if reached & Reached::ABANDONED_BEFORE_READY != 0 => TimedOutIn::Readiness,
            _ => TimedOutIn::Waiting,
        }
    }

    /// Notes for the rest of this poll that the attempt must not be followed by another one. A stage does so in the
    /// poll in which the attempt ends.
    #[inline]
    pub fn forbid_retry(&mut self) {
        self.retry_forbidden = Flag::YES;
    }

    /// Returns whether the attempt must not be followed by another one: the service forbade another attempt, or an
    /// inner retry has given up. See [`CallContext::forbid_retry`].
    #[inline]
    pub fn is_retry_forbidden(&self) -> bool {
        self.retry_forbidden.is_set()
    }

    /// Notes whether the current attempt was ended before half of its [full time](Ending::CutShort) had passed. Such
    /// attempts are no evidence about the service.
    ///
    /// A timeout notes it before it abandons the inner stages. The [scope](super::ScopeStage) around the service knows
    /// exactly when the attempt began, and corrects the note before it abandons the service.
    #[inline]
    pub fn set_cut_short(&mut self, cut_short: bool) {
        self.cut_short = Flag::of(cut_short);
    }

    /// Returns whether the attempt was ended before half of its [full time](Ending::CutShort) had passed.
    #[inline]
    pub fn is_cut_short(&self) -> bool {
        self.cut_short.is_set()
    }

    /// Notes when the attempt that ends in this poll has had half of its full time.
    #[inline]
    pub(super) fn set_half_time(&mut self, half_time: Deadline) {
        self.half_time = half_time;
    }

    /// Returns when the attempt that ends in this poll has had half of its full time. The end of a streamed body, which
    /// comes later, is judged by this instant. Returns [`Deadline::NEVER`] if no timeout of the stack has a limit.
    #[inline]
    pub fn half_time(&self) -> Deadline {
        self.half_time
    }

    /// Returns what the call inherits. Valid while [`Border::enter`](super::Border::enter),
    /// [`start`](super::Stage::start) or [`would_refuse`](super::Stage::would_refuse) runs. A stage that needs it later
    /// keeps its own copy.
    #[inline]
    pub fn inherited(&mut self) -> Inherited {
        *self.inherited.get_or_insert_with(|| Inherited::of(CallContext::current()))
    }

    /// Sets what the inner stages inherit.
    #[inline]
    pub fn set_inherited(&mut self, inherited: Inherited) {
        self.inherited = Some(inherited);
    }

    /// Notes the configuration version of a pass that began after the call's own pass. The later pass ends in the same
    /// poll.
    #[inline]
    pub(crate) fn set_later_pass(&mut self, version: u64) {
        self.later_pass = version;
    }

    /// Takes the configuration version of the [later pass](Self::set_later_pass), or zero if there is none.
    #[inline]
    pub(crate) fn take_later_pass(&mut self) -> u64 {
        mem::take(&mut self.later_pass)
    }

    /// Notes what the call inherits before a pass, in case the pass is [repeated](Self::begin_pass_again).
    #[inline]
    pub(crate) fn begin_pass(&mut self) {
        if self.inherited.is_some() {
            self.before_pass = self.inherited;
        }
    }

    /// Restores what the call inherited before the pass, and forgets the time.
    pub(crate) fn begin_pass_again(&mut self) {
        self.inherited = self.before_pass;
        self.user_code_runs();
    }

    /// Returns the settings that the call keeps to its end, in a live stack.
    #[inline]
    pub(crate) fn settings(&self) -> Option<&CallSettings> {
        self.settings.as_ref()
    }

    #[inline]
    pub(crate) fn set_settings(&mut self, settings: CallSettings) {
        self.settings = Some(settings);
    }

    /// Returns whether the call is in a pass through the gates.
    #[inline]
    pub(crate) fn is_in_pass(&self) -> bool {
        self.in_pass.is_set()
    }

    #[inline]
    pub(crate) fn set_in_pass(&mut self, in_pass: bool) {
        self.in_pass = Flag::of(in_pass);
    }

    /// Notes the retries of the call, which ends now.
    #[inline]
    pub(crate) fn note_retries(&mut self, retries: Retries) {
        self.retries = retries;
    }

    /// Returns the retries of the call that ends in this poll.
    #[inline]
    pub fn retries(&self) -> Retries {
        self.retries
    }

    /// Turns to one attempt of a call: forgets whether earlier attempts reached the service, how it answered them, and
    /// whether a retry was forbidden.
    #[inline]
    pub fn turn_to_attempt(&mut self) {
        self.ending = Reported::default();
        self.reached = Reached::default();
        self.retry_forbidden = Flag::NO;
    }

    /// Turns to a new attempt after `earlier` ones, and sets what it inherits.
    #[inline]
    pub fn begin_attempt(&mut self, earlier: u32, inherited: Inherited) {
        self.turn_to_attempt();
        self.inherited = Some(inherited.in_attempt(earlier));
    }
}
