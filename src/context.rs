//! The deadline, criticality and attempt that every layer of every service in a call chain should know.
//!
//! A stack opens a [`CallContext`] around its service: a server stack around its handler, a client stack around each
//! attempt. A client stack inside the handler reads the context. An outgoing call therefore inherits the rest of the
//! caller's deadline without user code.
//!
//! - A client stack with a timeout of any length ends the call at the inherited deadline at the latest.
//! - A client stack without a timeout passes the deadline on. Its retry and its wait queues respect the deadline.
//! - The service of a client stack sees the number of its attempt, and the deadline at which the attempt is given up.
//!   It can send both along.
//! - Layers used alone open no context.
//!
//! A layer that needs the context reads it once for each call, regardless of the number of polls. The read costs one
//! access to a thread local.
//!
//! Inside a process the context travels in a tokio task-local. `tokio::spawn` and worker tasks lose it. [`spawn`] and
//! [`CallContext::scope`] carry it to another task:
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
    /// Whether a retry was forbidden in this poll, in the innermost scope.
    static RETRY_IS_FORBIDDEN: Cell<bool> = const { Cell::new(false) };
}

/// How much it matters that a call is answered. Under load, the least critical calls are shed first.
///
/// The four classes, from the least to the most critical, are those of Google's "Site Reliability Engineering", chapter
/// 21.
#[doc(alias = "priority")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Criticality {
    /// Frequent partial and occasional full unavailability is expected: batch work, prefetching.
    Sheddable,
    /// Partial unavailability is expected: work that can be tried again later.
    SheddablePlus,
    /// Users notice a failure. The default.
    #[default]
    Critical,
    /// The most important: a failure has a serious effect on users.
    CriticalPlus,
}

impl Criticality {
    /// All classes, from the least to the most critical.
    pub const ALL: [Self; 4] = [Self::Sheddable, Self::SheddablePlus, Self::Critical, Self::CriticalPlus];

    /// Returns the name of the class, for labels.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Sheddable => "sheddable",
            Self::SheddablePlus => "sheddable_plus",
            Self::Critical => "critical",
            Self::CriticalPlus => "critical_plus",
        }
    }
}

/// The deadline, the criticality and the attempt of the current call. A small value, cheap to copy.
#[doc(alias = "deadline propagation")]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CallContext {
    deadline: Deadline,
    /// The attempt in the upper 32 bits, the criticality in the lower 32 bits.
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
    /// Makes a context with no deadline, the default criticality, and no earlier attempts.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the context of the call that this task works on, or a [new](Self::new) one outside of any call.
    #[inline]
    pub fn current() -> Self {
        #[cfg(test)]
        tests::READS.set(tests::READS.get() + 1);
        CURRENT.try_with(|context| *context).unwrap_or_default()
    }

    /// Returns the instant by which the caller wants its answer.
    #[inline]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline.instant()
    }

    /// Returns how much it matters that the call is answered.
    #[inline]
    pub fn criticality(&self) -> Criticality {
        match self.rest as u32 {
            0 => Criticality::Sheddable,
            1 => Criticality::SheddablePlus,
            2 => Criticality::Critical,
            _ => Criticality::CriticalPlus,
        }
    }

    /// Returns the number of earlier attempts: 0 in the first attempt.
    ///
    /// In a client stack with a retry, the inner stages and the service see the number of the current attempt. Without
    /// a retry they see the number that the caller of the stack passed on.
    #[inline]
    pub fn attempt(&self) -> u32 {
        (self.rest >> 32) as u32
    }

    /// Sets the deadline, unless the context already has an earlier one. A deadline never moves later.
    pub fn with_deadline(self, deadline: Instant) -> Self {
        self.narrowed(Deadline::at(deadline))
    }

    /// Sets the criticality.
    pub fn with_criticality(self, criticality: Criticality) -> Self {
        Self { rest: (self.rest & !u64::from(u32::MAX)) | criticality as u64, ..self }
    }

    /// Sets the number of earlier attempts.
    #[inline]
    pub fn with_attempt(self, attempt: u32) -> Self {
        Self { rest: u64::from(attempt) << 32 | (self.rest & u64::from(u32::MAX)), ..self }
    }

    /// Asks all callers of the current call not to send it again: the outer stacks of this process, and with the `http`
    /// feature the processes that called it.
    ///
    /// If every level of a call chain retries, attempts multiply. With this mark, only one level retries. Three places
    /// set it:
    ///
    /// - Your handler or service, by calling this function.
    /// - The retry of a client stack, when it gives up; see [`Denied`](crate::shell::Denied) for the reasons. A retry
    ///   that allows only one attempt leaves retries to its callers, and does not set the mark when that attempt is
    ///   used up.
    /// - A classifier, with [`forbids_retry`](crate::classify::Classify::forbids_retry).
    ///
    /// An outer retry then makes no further attempt ([`Denied::Marked`](crate::shell::Denied::Marked)) and returns the
    /// answer that it has.
    ///
    /// Call this function in the task that works on the call, during a poll of the call. A mark that is set in a
    /// spawned task, or in a [`scope`](Self::scope) that the handler opened, does not reach the callers. If such a task
    /// or scope fails, call this function in the handler. Outside of any call it does nothing.
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

    /// Runs a future with this context as the [current](Self::current) one.
    ///
    /// In nested scopes the earlier deadline counts, because an answer is useless after the outer call has ended. Each
    /// poll takes the outer deadline from the scope in which the poll runs, not from the one in which `scope` was
    /// called. The criticality and the attempt are those of this context. If the scoped future calls
    /// [`forbid_retry`](Self::forbid_retry), that has no effect outside of the scope. Use `tokio::spawn` for work that
    /// is to outlive the call.
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

    /// Runs a closure with this context as the [current](Self::current) one. In nested scopes the earlier deadline
    /// counts, as in [`scope`](Self::scope). If the closure calls [`forbid_retry`](Self::forbid_retry), that has no
    /// effect outside of the scope.
    pub fn sync_scope<T>(self, work: impl FnOnce() -> T) -> T {
        let _own = OwnForbiddance::begin();
        CURRENT.sync_scope(self.within_current(), work)
    }

    /// Takes the deadline of the current context, if that is earlier.
    fn within_current(self) -> Self {
        self.narrowed(Self::current().deadline)
    }

    /// Runs a closure for a stack. Unlike [`sync_scope`](Self::sync_scope), this function reads no outer context. A
    /// mark of a forbidden retry that the closure sets stays set for the outer scope.
    #[inline]
    pub(crate) fn stack_scope<T>(self, work: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self, work)
    }

    #[inline]
    pub(crate) fn deadline_or_never(&self) -> Deadline {
        self.deadline
    }

    /// Takes this deadline, if it is earlier than that of the context.
    #[inline]
    pub(crate) fn narrowed(self, deadline: Deadline) -> Self {
        Self { deadline: self.deadline.earlier(deadline), ..self }
    }
}

/// Gathers the marks of forbidden retries of one part of a poll.
///
/// [`gather`](Self::gather) clears the thread's flag, and [`is_forbidden`](Self::is_forbidden) returns whether it was
/// set since. After the drop, the flag is set if it was set before `gather` or at any time after it.
pub(crate) struct Forbiddance {
    /// Whether the outer scope had the mark.
    outer: bool,
}

impl Forbiddance {
    #[inline]
    pub(crate) fn gather() -> Self {
        Self { outer: RETRY_IS_FORBIDDEN.replace(false) }
    }

    /// Returns whether a retry was forbidden since [`gather`](Self::gather).
    #[inline]
    pub(crate) fn is_forbidden(&self) -> bool {
        RETRY_IS_FORBIDDEN.get()
    }
}

impl Drop for Forbiddance {
    #[inline]
    fn drop(&mut self) {
        if self.outer {
            RETRY_IS_FORBIDDEN.set(true);
        }
    }
}

/// Keeps marks of forbidden retries that are set in a scope from the outer scope. [`begin`](Self::begin) clears the
/// thread's flag, and the drop sets the flag back to its value before `begin`.
struct OwnForbiddance {
    /// Whether the outer scope had the mark.
    outer: bool,
}

impl OwnForbiddance {
    fn begin() -> Self {
        Self { outer: RETRY_IS_FORBIDDEN.replace(false) }
    }
}

impl Drop for OwnForbiddance {
    fn drop(&mut self) {
        RETRY_IS_FORBIDDEN.set(self.outer);
    }
}

pin_project! {
    /// The future of [`CallContext::scope`].
    #[doc(hidden)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Scope<F> {
        context: CallContext,
        // `None` after the future has ended. The future is dropped inside its scope.
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
/// The task inherits the deadline, the criticality and the attempt. [`forbid_retry`](CallContext::forbid_retry) in the
/// task does not reach the caller. Compared with `tokio::spawn`, the task is larger by the context, and each poll reads
/// and sets two thread locals.
///
/// # Panics
///
/// Panics outside of a tokio runtime, as `tokio::spawn` does.
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
        /// The number of times that this thread has read the current context.
        pub(crate) static READS: Cell<u32> = const { Cell::new(0) };
    }
}
