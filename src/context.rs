//! What every layer of every service in a call chain should know about the call at hand.
//!
//! A stack opens a [`CallContext`] around its service: a server stack around its handler, a client stack around each
//! attempt. A client stack inside the handler reads it, so that an outgoing call inherits what is left of the caller's
//! deadline with no code of the user's. The client stack ends the call by it if it has a timeout, however long. Without
//! one it only hands the deadline on, and retries and places in line look at it. The service of a client stack sees the
//! number of its attempt and the deadline by which the attempt is given up, and can send them along. Layers used alone
//! open no context.
//!
//! Where no context is open, a layer that reads it costs one look at a thread local for each call, however often the
//! call is polled.
//!
//! Inside a process it travels in a tokio task-local. `tokio::spawn` and worker tasks lose it; [`CallContext::scope`]
//! carries it across:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! use steadfast::CallContext;
//! use std::time::Duration;
//! use tokio::time::Instant;
//!
//! let deadline = Instant::now() + Duration::from_secs(1);
//! let context = CallContext::new().with_deadline(deadline);
//! let seen = tokio::spawn(context.scope(async { CallContext::current().deadline() })).await.unwrap();
//! assert_eq!(seen, Some(deadline));
//! assert_eq!(CallContext::current().deadline(), None);
//! # }
//! ```

use crate::deadline::Deadline;
use pin_project_lite::pin_project;
use std::{
    cell::Cell,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{task::JoinHandle, time::Instant};

tokio::task_local! {
    static CURRENT: CallContext;
}

thread_local! {
    /// Whether a retry was forbidden in this poll, within the innermost scope of a stack.
    static RETRY_IS_FORBIDDEN: Cell<bool> = const { Cell::new(false) };
}

/// How much it matters that a call is answered, from the least to the most: what is shed first, and last.
///
/// The four classes are those of Google's "Site Reliability Engineering", chapter 21.
#[doc(alias = "priority")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Criticality {
    /// Frequent partial and occasional full unavailability is expected: batch work, prefetching.
    Sheddable,
    /// Partial unavailability is expected: work that can be tried again later.
    SheddablePlus,
    /// Users see it when it fails. The default.
    #[default]
    Critical,
    /// The most important: users suffer when it fails.
    CriticalPlus,
}

impl Criticality {
    /// All classes, from the least critical to the most critical one.
    pub const ALL: [Self; 4] = [Self::Sheddable, Self::SheddablePlus, Self::Critical, Self::CriticalPlus];

    /// The class in a word, for labels.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Sheddable => "sheddable",
            Self::SheddablePlus => "sheddable_plus",
            Self::Critical => "critical",
            Self::CriticalPlus => "critical_plus",
        }
    }
}

/// The deadline, the criticality and the attempt of the call at hand. A small value, cheap to copy.
#[doc(alias = "deadline propagation")]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CallContext {
    deadline: Deadline,
    /// The attempt in the upper half, the criticality in the lower one: a whole word.
    rest: u64,
}

impl Default for CallContext {
    fn default() -> Self {
        Self { deadline: Deadline::NEVER, rest: Criticality::Critical as u64 }
    }
}

impl fmt::Debug for CallContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallContext")
            .field("deadline", &self.deadline)
            .field("criticality", &self.criticality())
            .field("attempt", &self.attempt())
            .finish()
    }
}

impl CallContext {
    /// A context with no deadline, of default criticality, in its first attempt.
    pub fn new() -> Self {
        Self::default()
    }

    /// The context of the call that this task works on, or a new one where there is none.
    #[inline]
    pub fn current() -> Self {
        #[cfg(test)]
        tests::READS.set(tests::READS.get() + 1);
        CURRENT.try_with(|context| *context).unwrap_or_default()
    }

    /// The instant by which the caller wants its answer.
    #[inline]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline.instant()
    }

    /// How much it matters that the call is answered.
    #[inline]
    pub fn criticality(&self) -> Criticality {
        match self.rest as u32 {
            0 => Criticality::Sheddable,
            1 => Criticality::SheddablePlus,
            2 => Criticality::Critical,
            _ => Criticality::CriticalPlus,
        }
    }

    /// How often the caller tried before: 0 in the first attempt. The stages and the service of a client stack with a
    /// retry see the attempt at hand. Without a retry they see the number that the stack was called with.
    #[inline]
    pub fn attempt(&self) -> u32 {
        (self.rest >> 32) as u32
    }

    /// The same context with this deadline, or the earlier one that it had: a deadline never moves away.
    pub fn with_deadline(self, deadline: Instant) -> Self {
        self.narrowed(Deadline::at(deadline))
    }

    /// The same context with another criticality.
    pub fn with_criticality(self, criticality: Criticality) -> Self {
        Self { rest: (self.rest & !u64::from(u32::MAX)) | criticality as u64, ..self }
    }

    /// The same context with another number of earlier attempts.
    #[inline]
    pub fn with_attempt(self, attempt: u32) -> Self {
        Self { rest: u64::from(attempt) << 32 | (self.rest & u64::from(u32::MAX)), ..self }
    }

    /// Asks all callers of the call at hand not to send it again: the stacks around it, and through the `http` feature
    /// the processes that they answer.
    ///
    /// One level of a chain of calls retries, and the others do not multiply its attempts. The retry of a client stack
    /// calls this by itself where it gives up: the attempts are used up, the budget is empty, the wait would be too
    /// long, or the request must not be sent twice. One that allows a single attempt leaves retries to others. So does
    /// a client stack whose service [forbids a retry](crate::classify::Classify::forbids_retry). A retry further out
    /// then makes no further attempt ([`Denied::Marked`](crate::shell::Denied::Marked)) and returns the answer that it
    /// has.
    ///
    /// It takes effect in the task that works on the call, within a poll of it. A task that the handler has spawned
    /// does not reach it, nor does a future in a [`scope`](Self::scope) of the handler's own; the handler calls this
    /// where it sees that task or future fail. Elsewhere it does nothing.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    /// use steadfast::{CallContext, retry::Retry};
    /// use tower::{ServiceExt, service_fn};
    ///
    /// static CALLS: AtomicU32 = AtomicU32::new(0);
    /// let service = steadfast::client().retry(Retry::new(3).without_budget()).service(service_fn(async |(): ()| {
    ///     CALLS.fetch_add(1, Relaxed);
    ///     CallContext::forbid_retry();
    ///     Err::<(), _>("the last copy of the data is damaged")
    /// }))?;
    /// assert!(service.oneshot(()).await.is_err());
    /// assert_eq!(CALLS.load(Relaxed), 1);
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn forbid_retry() {
        RETRY_IS_FORBIDDEN.set(true);
    }

    /// Runs a future with this context as the [current](Self::current) one. To forbid a retry in it is a matter of this
    /// context, and not of the one around it.
    ///
    /// Inside another scope the earlier deadline counts: no answer is of use after the call around it has ended. Each
    /// poll looks at the scope in which it happens, and not at the one in which `scope` was called. The criticality
    /// and the attempt are those of this context. Work that is to outlive the call is spawned.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use steadfast::CallContext;
    /// use std::time::Duration;
    /// use tokio::time::Instant;
    ///
    /// let soon = Instant::now() + Duration::from_secs(1);
    /// let inner = CallContext::new().with_deadline(soon + Duration::from_secs(9));
    /// let seen = inner.scope(async { CallContext::current().deadline() });
    /// assert_eq!(CallContext::new().with_deadline(soon).scope(seen).await, Some(soon));
    /// # }
    /// ```
    pub fn scope<F: Future>(self, future: F) -> Scope<F> {
        Scope { context: self, future: Some(future) }
    }

    /// Runs a closure with this context as the [current](Self::current) one. Inside another scope the earlier deadline
    /// counts, as in [`scope`](Self::scope).
    pub fn sync_scope<T>(self, work: impl FnOnce() -> T) -> T {
        let _own = OwnForbiddance::begin();
        CURRENT.sync_scope(self.within_current(), work)
    }

    /// The same with the deadline of the current context, where that is earlier.
    fn within_current(self) -> Self {
        self.narrowed(Self::current().deadline)
    }

    /// As [`sync_scope`](Self::sync_scope), for a stack, which hands on that a retry is forbidden.
    #[inline]
    pub(crate) fn stack_scope<T>(self, work: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self, work)
    }

    #[inline]
    pub(crate) fn deadline_or_never(&self) -> Deadline {
        self.deadline
    }

    #[inline]
    pub(crate) fn narrowed(self, deadline: Deadline) -> Self {
        Self { deadline: self.deadline.earlier(deadline), ..self }
    }
}

/// Gathers whether a retry is forbidden while it exists. Dropped, it hands that on to what is around it.
pub(crate) struct Forbiddance {
    further_out: bool,
}

impl Forbiddance {
    #[inline]
    pub(crate) fn gather() -> Self {
        Self { further_out: RETRY_IS_FORBIDDEN.replace(false) }
    }

    /// Whether a retry was forbidden since.
    #[inline]
    pub(crate) fn is_forbidden(&self) -> bool {
        RETRY_IS_FORBIDDEN.get()
    }
}

impl Drop for Forbiddance {
    #[inline]
    fn drop(&mut self) {
        if self.further_out {
            RETRY_IS_FORBIDDEN.set(true);
        }
    }
}

/// Keeps what is forbidden while it exists from what is around it.
struct OwnForbiddance {
    further_out: bool,
}

impl OwnForbiddance {
    fn begin() -> Self {
        Self { further_out: RETRY_IS_FORBIDDEN.replace(false) }
    }
}

impl Drop for OwnForbiddance {
    fn drop(&mut self) {
        RETRY_IS_FORBIDDEN.set(self.further_out);
    }
}

pin_project! {
    /// The future of [`CallContext::scope`].
    #[doc(hidden)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Scope<F> {
        context: CallContext,
        // `None` once it has ended.
        #[pin]
        future: Option<F>,
    }

    impl<F> PinnedDrop for Scope<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if this.future.is_some() {
                this.context.sync_scope(|| this.future.set(None));
            }
        }
    }
}

impl<F: Future> Future for Scope<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        this.context.sync_scope(|| {
            let Some(future) = this.future.as_mut().as_pin_mut() else {
                panic!("the future of a scope was polled after it had ended")
            };
            let polled = future.poll(cx);
            if polled.is_ready() {
                this.future.set(None);
            }
            polled
        })
    }
}

/// Spawns a future on the tokio runtime, as `tokio::spawn` does, with the [current](CallContext::current) context.
///
/// The task inherits the deadline, the criticality and the attempt. It does not reach the caller with
/// [`forbid_retry`](CallContext::forbid_retry). Without a context it costs one look at a thread local more than
/// `tokio::spawn`, and the words of the context in the task.
///
/// # Panics
///
/// As `tokio::spawn` does: outside of a tokio runtime.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use steadfast::{CallContext, context};
///
/// let context = CallContext::new().with_attempt(3);
/// let task = context.sync_scope(|| context::spawn(async { CallContext::current().attempt() }));
/// assert_eq!(task.await.unwrap(), 3);
/// # }
/// ```
#[track_caller]
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    tokio::spawn(CallContext::current().scope(future))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;

    thread_local! {
        /// How often this thread has looked for the current context.
        pub(crate) static READS: Cell<u32> = const { Cell::new(0) };
    }
}
