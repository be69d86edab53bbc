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
//! 2. The first poll calls [`Stage::start`] on the outermost stage, with the request. Each stage admits the call and
//!    starts the next one further in, or refuses; the innermost, [`Leaf`], keeps the request.
//! 3. Each poll calls [`Stage::poll`] on the outermost stage, which polls the next. The leaf drives the readiness of
//!    the call's own clone of the service ([`Callee`]), calls that very instance, then drives its future. It has the answer
//!    [classified](crate::classify), drops the service's future, and returns. On the way out each stage settles what it
//!    took ([`Ending`]), and the [`Exit`] turns a rejection into what the caller sees.
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
//! The service's future has one place in the call, its [`Callee`], which the stages pass by reference. The request is moved
//! once per stage when an attempt begins. Builds without optimization keep a copy of each move on the stack: there, on a stack
//! of 2 MiB, a service's future of 128 KiB passes a client stack with all six layers, and one of 160 KiB overflows the stack.
//! Box a future or a request that large: `service_fn(|request| Box::pin(handle(request)))`.
//!
//! # Runtime
//!
//! A call that waits for an instant needs a tokio runtime with its timer enabled, like [`tokio::time::sleep`]. Calls
//! through stages that never wait need none.
//!
//! # A stage of your own
//!
//! [`StackLayer::from_stages`] takes any stage. What admits or refuses at once is easier written as a [`Gate`]:
//!
//! ```
//! use steadfast::{Rejection, classify::AnyError, error::Overloaded};
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
//!         if self.0.load(Ordering::Relaxed) { Ok(()) } else { Err(Overloaded::new(0, None).into()) }
//!     }
//!
//!     fn settle(&self, _: (), _: Ending, _: &mut Frame) {}
//! }
//!
//! let switch = Switch(Arc::new(AtomicBool::new(true)));
//! let layer = StackLayer::from_stages(GateStage::new(switch, Leaf::new(AnyError)), KeepError);
//! # let _ = layer.clone();
//! ```

mod callee;
mod exit;
mod frame;
mod future;
mod gate;
mod leaf;
#[cfg(feature = "load")]
mod load;
mod refuses_now;
mod root;
mod scope;
mod service;
mod stage;
mod timer;

pub use callee::Callee;
pub use exit::{BoxedError, Exit, FromRejection, KeepError, Respond, TypedError};
pub use frame::{Frame, Inherited};
pub use future::ResponseFuture;
pub(crate) use gate::SettleOnDrop;
pub use gate::{Gate, GateCall, GateStage};
pub use leaf::{Leaf, LeafCall};
pub use refuses_now::RefusesNow;
pub use scope::{ScopeCall, ScopeStage};
pub use service::{Stack, StackLayer};
pub use stage::{Abandonment, Ending, Stage};
pub(crate) use timer::Timer;

/// A future was polled after it had returned its result, or after a panic had torn it down: a bug of the caller, for
/// which Rust's own futures panic too.
#[cold]
#[track_caller]
pub(crate) fn polled_after_end() -> ! {
    panic!("a steadfast response future was polled after it had ended")
}
