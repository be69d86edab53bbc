//! The one tower service of this crate, and the protocol by which a call passes through its stages.
//!
//! Every layer is a [`Stage`]; a stage used alone and a whole stack are the same [`Stack`] around it. So the tower
//! contract is kept in one place. Stages nest as plain structs inside one `Arc` and see each other by reference: a
//! call costs one `Arc` clone and one clone of the service however many stages it passes.
//!
//! # Who calls what, and when
//!
//! 1. `Service::poll_ready` answers `Ready(Ok)` and reserves nothing. `Service::call` clones the service and the `Arc`
//!    into a [`ResponseFuture`], and nothing else happens until that is polled.
//! 2. The first poll takes the request over the [`Border`], then calls [`Stage::start`] on the outermost stage. Each
//!    stage admits the call and starts the next one further in, or refuses; the innermost, [`Leaf`], keeps the request.
//! 3. Each poll calls [`Stage::poll`] on the outermost stage, which polls the next. The leaf drives the readiness of
//!    the call's own clone of the service ([`Callee`]), [stamps](Stamp) the request, calls that very instance, then
//!    drives its future. It has the answer [classified](crate::classify), drops the service's future, and returns. On
//!    the way out each stage settles what it took ([`Ending`]), and the [`Border`] makes the answer that the caller
//!    sees.
//! 4. If the poll is pending, the earliest instant that a stage asked for by [`Frame::wake_at`] becomes the call's only
//!    timer. A timer exists only for a call that is pending. When it fires, the stages are polled again in the same
//!    poll of the future, the innermost first: an answer that is there at the deadline is not thrown away.
//! 5. When the call ends, the future drops its clone of the service and its timer at once, kept or not.
//! 6. If the future is dropped before that, or a timeout ends the call, [`Stage::abandon`] runs from the outermost
//!    stage to the innermost and settles on the way back: the service's future is dropped first, its permits after.
//!
//! # What is held, and when
//!
//! | when | the future holds | in the service |
//! |---|---|---|
//! | before the first poll | request, clone of the service, `Arc` | nothing |
//! | service not ready | permits, request | what its `poll_ready` took, in the call's own clone |
//! | service called | permits, the service's future | one call |
//! | between two attempts | what the stages outside of the retry hold | nothing: the clone is fresh |
//! | ended | the `Arc` | nothing |
//!
//! Permits are plain data in the call's state. While user code runs they are in a guard on the stack, so that an
//! unwinding panic settles them at once, as [`Ending::Panicked`].
//!
//! # The clock
//!
//! A [`Frame`] reads the clock at most once until user code runs, so once on the way down and once on the way up, and
//! never before the first poll. No reading is used after user code ran.
//!
//! # Large futures
//!
//! The service's future has one place in the call, its [`Callee`], which the stages pass by reference. The request is
//! moved once per stage when an attempt begins. Builds without optimization keep a copy of each move on the stack:
//! there, on a stack of 2 MiB, a service's future of 128 KiB passes a client stack with all six layers, and one of 160
//! KiB overflows the stack. Box a future or a request that large: `service_fn(|request| Box::pin(handle(request)))`.
//!
//! # Runtime
//!
//! A call that waits for an instant needs a tokio runtime with its timer enabled, like [`tokio::time::sleep`]. Calls
//! through stages that never wait need none.
//!
//! # A stage of your own
//!
//! [`StackLayer::from_stages`] takes any stages, the innermost of which is a [`Leaf`]. [`StackLayer::map_stages`] puts
//! a stage around those of a layer, or of a whole stack that [`layer`](crate::stack::ClientBuilder::layer) has built.
//! Inside of such a stack each place takes a stage of your own; see
//! [stages of your own](crate::stack#stages-of-your-own).
//!
//! `map_stages`, and the methods that choose the border ([`typed_error`](StackLayer::typed_error) and the others), need
//! stages and a border that are `Clone`. [`StackLayer::explain`] and `Debug` need [`Describe`].
//! The builders need it, too: without it their `service`, `layer` and `live` are not found. With the `load` feature
//! tower's `Load` needs [`RefusesNow`]. Calls need none of these, but those of a [live](crate::stack::live) stack need
//! [`Recall`].
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
//! A gate refuses with the rejection whose meaning is nearest: [`Overloaded`](crate::error::Overloaded) where there is
//! no room, [`RateLimited`](crate::error::RateLimited) where the caller had its share,
//! [`CircuitOpen`](crate::error::CircuitOpen) where the service is taken for down,
//! [`SwitchedOff`](crate::error::SwitchedOff) where an operator decided. There is none for mechanisms of your own:
//! [`Rejection::mechanism`](crate::Rejection::mechanism) and the message name the mechanism of that rejection.
//!
//! Where a call may wait for its turn, it is an [`Admission`], whose page has an example.
//!
//! A mechanism that sees the whole call is a [`Stage`]. It hands the call on to the next one with the [`Callee`], in
//! `poll` and in `abandon`, and gives back what it took, once, however the call ends. The example needs the crate
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
//!         // A guard on the stack, so that a panic drops it.
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
//! - **User code.** A stage that runs user code by itself, such as a closure, a waker or the drop of a request, calls
//!   [`Frame::user_code_runs`]. User code may take its time, and the stages then read the clock again. The [`Leaf`]
//!   does so for the service, the classifier and the stamp. Borders, stamps, replays and observers need not.
//! - **Panics.** A panic of user code further in unwinds through the stage. What the stage took is then in a guard on
//!   the stack, whose drop gives it back. After a panic in `start` nothing follows. After a panic in `poll` the future
//!   is not polled again. When it is dropped, `abandon` comes with [`Abandonment::Cancelled`], hands the call on, and
//!   has nothing left to give back.

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

/// A future was polled after it had returned its result, or after a panic had torn it down: a bug of the caller, for
/// which Rust's own futures panic too.
#[cold]
#[track_caller]
pub(crate) fn polled_after_end() -> ! {
    panic!("a steadfast response future was polled after it had ended")
}
