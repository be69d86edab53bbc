//! The one tower service around all stages, and the protocol by which a call passes through them.
//!
//! Every layer is a [`Stage`]. A single stage and a whole stack use the same [`Stack`], which implements tower's
//! `Service`. Stages nest as plain structs inside one `Arc`: each stage contains the next inner one. A call clones one
//! `Arc`, and the service once for each attempt, regardless of the number of stages.
//!
//! # Who calls what, and when
//!
//! 1. `Service::poll_ready` returns `Ready(Ok)` and reserves nothing. `Service::call` clones the service and the `Arc`
//!    into a [`ResponseFuture`]. Nothing else happens until the future is polled.
//! 2. The first poll passes the request through the [`Border`], then calls [`Stage::start`] on the outermost stage.
//!    Each stage admits the call and starts the next inner stage, refuses the call, or lets it wait for its turn. The
//!    innermost stage, [`Leaf`], keeps the request until the service is ready.
//! 3. Each poll calls [`Stage::poll`] on the outermost stage, which polls the next. The leaf drives the readiness of
//!    the call's own clone of the service ([`Callee`]), [stamps](Stamp) the request, calls that same clone, and drives
//!    its future. When the service answers, the leaf drops the service's future, [classifies](crate::classify) the
//!    answer and returns. On the way out each stage settles its permit ([`Ending`]), and the [`Border`] makes the
//!    caller's answer.
//! 4. If the poll is pending, the earliest instant passed to [`Frame::wake_at`] becomes the call's only timer. Only a
//!    pending call has a timer. When the timer fires, the future polls the stages again within the same poll. A timeout
//!    polls its inner stages before it checks its deadline, so that an answer available at the deadline is not lost.
//! 5. When the call ends, the future drops its clone of the service and its timer at once, even if the caller keeps the
//!    future.
//! 6. If the caller drops a polled future before its call has ended, [`Stage::abandon`] runs from the outermost stage
//!    to the innermost. If a timeout ends the call, `abandon` runs from the stage inside that timeout to the innermost.
//!    The innermost stage drops the service's future. After that drop, the stages settle their permits, innermost
//!    first.
//!
//! # What a call holds
//!
//! | when | the future holds | in the service |
//! |---|---|---|
//! | before the first poll | request, clone of the service, `Arc` | nothing |
//! | waiting for its turn | permits of the stages outside the wait, place among the waiters, request | nothing |
//! | service not ready | permits, request | what its `poll_ready` took, in the call's own clone |
//! | service called | permits, the service's future | one call |
//! | between two attempts | permits outside the retry, the request to send again | nothing: the clone is fresh |
//! | ended | the `Arc` | nothing |
//!
//! From the first poll to the end of the call, the future also holds the `Arc`, its clone of the service, and the part
//! of the request that the border [keeps](Border::Seen).
//!
//! Permits are plain data in the call's state. While user code runs, a guard in a local variable holds them, so that an
//! unwinding panic settles them at once. A panic before the next stage has started, or while it is [recalled](Recall),
//! settles them as [`Ending::Refused`]. Any other panic settles them as [`Ending::Panicked`].
//!
//! # The clock
//!
//! A [`Frame`] remembers a clock reading until user code runs. A stage that needs the time after that reads the clock
//! again. Let the service be the only user code. In a poll with one attempt, the stages then read the clock at most
//! twice: once before the service runs, and once after it. No stage reads the clock before the first poll.
//!
//! # Large futures
//!
//! The service's future is stored once, in the call's [`Callee`], which the stages pass by reference. The response
//! future contains the `Callee`, and moves as a whole until its first poll. The request moves once per stage when an
//! attempt starts. Unoptimized builds keep a copy of each move on the thread's stack. In such a build, 2 MiB of
//! stack suffice for a service's future of 128 KiB in all six layers of a client. A future of 160 KiB overflows the
//! thread's stack. Box a future or a request of that size: `service_fn(|request|
//! Box::pin(handle(request)))`.
//!
//! # Runtime
//!
//! A call that waits for an instant needs a tokio runtime with its timer enabled, as [`tokio::time::sleep`] does.
//! Stages that never wait need no runtime.
//!
//! # A stage of your own
//!
//! [`StackLayer::from_stages`] takes any stages whose innermost is a [`Leaf`]. [`StackLayer::map_stages`] puts a stage
//! around those of a layer or of a whole stack. Within a stack, your own stage can fill each slot; see
//! [stages of your own](crate::stack#stages-of-your-own).
//!
//! | for | a stage also implements |
//! |---|---|
//! | `map_stages`, and the methods that choose the border, such as [`typed_error`](StackLayer::typed_error) | `Clone` |
//! | [`StackLayer::explain`], `Debug`, and the builders' `service`, `layer` and `live` | [`Describe`] |
//! | tower's `Load` (feature `load`) | [`RefusesNow`] |
//! | calls of a [live](crate::stack::live) stack | [`Recall`] |
//!
//! A mechanism that admits or refuses at once is easier to write as a [`Gate`]:
//!
//! ```
//! use steadfast::{Rejection, classify::AnyError, error::SwitchedOff};
//! use steadfast::shell::{Ending, Frame, Gate, GateStage, KeepError, Leaf, StackLayer};
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicBool, Ordering};
//!
//! /// Refuses all calls while the switch is off.
//! #[derive(Clone)]
//! struct Switch(Arc<AtomicBool>);
//!
//! impl<Request> Gate<Request> for Switch {
//!     type Permit = ();
//!
//!     fn admit(&self, _: &Request, _: &mut Frame) -> Result<(), Rejection> {
//!         if self.0.load(Ordering::Relaxed) { Ok(()) } else { Err(SwitchedOff::new().into()) }
//!     }
//!
//!     fn settle(&self, _: (), _: Ending, _: &mut Frame) {}
//! }
//!
//! let switch = Switch(Arc::new(AtomicBool::new(true)));
//! let layer = StackLayer::from_stages(GateStage::new(switch, Leaf::new(AnyError)), KeepError);
//! # let _ = layer.clone();
//! ```
//!
//! A gate refuses with the rejection of the nearest meaning:
//!
//! | reason | rejection |
//! |---|---|
//! | too many calls in flight | [`Overloaded`](crate::error::Overloaded) |
//! | too many calls per time | [`RateLimited`](crate::error::RateLimited) |
//! | the service is assumed to be down | [`CircuitOpen`](crate::error::CircuitOpen) |
//! | an operator's decision | [`SwitchedOff`](crate::error::SwitchedOff) |
//!
//! [`Rejection::mechanism`](crate::Rejection::mechanism) and the message then name the mechanism of that rejection. A
//! `Rejection` has no variant for your own mechanisms.
//!
//! A mechanism whose calls may wait for their turn is an [`Admission`]; its page has an example.
//!
//! A mechanism that follows the whole call is a [`Stage`]. It passes the call and the [`Callee`] to the next stage, in
//! `poll` and in `abandon`. It returns its permit exactly once, however the call ends. The example needs the crate
//! `pin-project-lite`:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use pin_project_lite::pin_project;
//! use std::sync::{Arc, atomic::{AtomicUsize, Ordering::Relaxed}};
//! use std::{convert::Infallible, future::ready, pin::Pin, task::{Context, Poll}};
//! use steadfast::{Error, shell::{Abandonment, Callee, Describe, Explanation, Frame, Recall, Stage}};
//! use tokio::time::Instant;
//! use tower::{Layer, Service, ServiceExt, service_fn};
//!
//! /// Counts the calls in flight.
//! #[derive(Clone)]
//! struct CountStage<Next> {
//!     in_flight: Arc<AtomicUsize>,
//!     next: Next,
//! }
//!
//! /// One call in flight, until it is dropped.
//! struct Counted(Arc<AtomicUsize>);
//!
//! impl Counted {
//!     fn new(in_flight: &Arc<AtomicUsize>) -> Self {
//!         in_flight.fetch_add(1, Relaxed);
//!         Self(in_flight.clone())
//!     }
//! }
//!
//! impl Drop for Counted {
//!     fn drop(&mut self) {
//!         self.0.fetch_sub(1, Relaxed);
//!     }
//! }
//!
//! pin_project! {
//!     struct CountCall<Call> {
//!         #[pin]
//!         next: Call,
//!         // `None` during a poll, and once the call has ended.
//!         counted: Option<Counted>,
//!     }
//! }
//!
//! impl<Next, S, Request> Stage<S, Request> for CountStage<Next>
//! where
//!     Next: Stage<S, Request>,
//!     S: Service<Request>,
//! {
//!     const READS_DEADLINE: bool = Next::READS_DEADLINE;
//!
//!     type Call = CountCall<Next::Call>;
//!
//!     fn start(&self, request: Request, frame: &mut Frame) -> Self::Call {
//!         let counted = Some(Counted::new(&self.in_flight));
//!         CountCall { next: self.next.start(request, frame), counted }
//!     }
//!
//!     fn would_refuse(&self, request: &Request, due: Instant, frame: &mut Frame) -> bool {
//!         self.next.would_refuse(request, due, frame)
//!     }
//!
//!     fn poll(
//!         &self,
//!         call: Pin<&mut Self::Call>,
//!         callee: Pin<&mut Callee<S, S::Future>>,
//!         cx: &mut Context<'_>,
//!         frame: &mut Frame,
//!     ) -> Poll<Result<S::Response, Error<S::Error>>> {
//!         let call = call.project();
//!         // A guard in a local variable, so that a panic drops it.
//!         let counted = call.counted.take();
//!         let polled = self.next.poll(call.next, callee, cx, frame);
//!         if polled.is_pending() {
//!             *call.counted = counted;
//!         }
//!         polled
//!     }
//!
//!     fn abandon(
//!         &self,
//!         call: Pin<&mut Self::Call>,
//!         callee: Pin<&mut Callee<S, S::Future>>,
//!         cause: Abandonment,
//!         frame: &mut Frame,
//!     ) {
//!         let call = call.project();
//!         let counted = call.counted.take();
//!         self.next.abandon(call.next, callee, cause, frame);
//!         drop(counted);
//!     }
//! }
//!
//! /// For live stacks.
//! impl<Next, S, Request> Recall<S, Request> for CountStage<Next>
//! where
//!     Next: Recall<S, Request>,
//!     S: Service<Request>,
//! {
//!     fn recall(&self, call: Pin<&mut Self::Call>, frame: &mut Frame) -> Option<Request> {
//!         let call = call.project();
//!         let request = self.next.recall(call.next, frame)?;
//!         drop(call.counted.take());
//!         Some(request)
//!     }
//! }
//!
//! impl<Next: Describe> Describe for CountStage<Next> {
//!     fn describe(&self, explanation: &mut Explanation) {
//!         explanation.layer("count", "the calls in flight");
//!         self.next.describe(explanation);
//!     }
//! }
//!
//! let in_flight = Arc::new(AtomicUsize::new(0));
//! let seen = in_flight.clone();
//! let service = service_fn(move |number: u32| {
//!     assert_ne!(number, 13);
//!     ready(Ok::<_, Infallible>(seen.load(Relaxed)))
//! });
//! let layer = steadfast::client().layer()?.map_stages(|next| CountStage { in_flight: in_flight.clone(), next });
//! let stack = layer.layer(service);
//! assert_eq!(stack.clone().oneshot(7).await?, 1);
//! assert!(tokio::spawn(stack.oneshot(13)).await.unwrap_err().is_panic());
//! assert_eq!(in_flight.load(Relaxed), 0);
//! # Ok(())
//! # }
//! ```
//!
//! - **User code.** A stage that runs user code itself, such as a closure, a waker or the drop of a request, calls
//!   [`Frame::user_code_runs`]. User code can take time, so the stages then read the clock again. The [`Leaf`] does
//!   this for the service, the classifier and the stamp. Borders, stamps, [replays](crate::retry::Replay) and observers
//!   need not: the code of this crate that runs them does.
//! - **Panics.** A panic of inner user code unwinds through the stage. A guard in a local variable must hold the
//!   stage's permit at that time, and return it when dropped. After a panic in `start` no other method is called for
//!   that call. After a panic in `poll` the future is not polled again. When the future is dropped, `abandon` is called
//!   with [`Abandonment::Cancelled`]: it passes the call on, and has no permit left to return.

mod admission;
mod border;
mod call_settings;
mod callee;
mod criticality;
mod explain;
mod frame;
mod future;
mod gate;
mod instrument;
mod leaf;
#[cfg(feature = "load")]
mod load;
mod observe;
mod recall;
mod reconfigure;
mod refuses_now;
mod retries;
mod root;
mod scope;
mod service;
mod settle;
mod stack_request;
mod stage;
mod stamp;
mod timer;

pub use admission::{Admission, AdmissionStage, Decision, DescribeAdmission};
#[doc(hidden)]
pub use border::FromRejection;
pub use border::{Border, BoxedError, KeepError, Respond, TypedError};
pub(crate) use call_settings::CallSettings;
pub use callee::Callee;
#[doc(hidden)]
pub use criticality::{Classes, CriticalityBy, CriticalityOfContext};
pub use explain::{Describe, DescribeGate, Explanation};
pub use frame::{Frame, Inherited};
pub use future::ResponseFuture;
pub use gate::{AtOnce, Gate, GateStage};
pub use instrument::{Instrument, Number, Reading, Readings, StateChange, StateListener};
pub use leaf::Leaf;
pub use observe::{Begin, End, ObserveStage, Observed, Observer};
pub use recall::Recall;
pub(crate) use reconfigure::{ABSENT, Course, Reconfigure};
pub use refuses_now::RefusesNow;
pub use retries::{Denied, Retries};
#[doc(hidden)]
pub use scope::ScopeStage;
pub use service::{Stack, StackLayer};
pub(crate) use settle::SettleOnDrop;
#[doc(hidden)]
pub use stack_request::StackRequest;
pub use stage::{Abandonment, Ending, Stage};
pub use stamp::{NoStamp, Stamp};
pub(crate) use timer::Timer;

/// Panics: a future was polled after it had returned its result, or after a panic had torn it down. This is a bug of
/// the caller. Rust's own futures panic in this case, too.
#[cold]
#[track_caller]
pub(crate) fn polled_after_end() -> ! {
    panic!("a steadfast response future was polled after it had ended")
}
