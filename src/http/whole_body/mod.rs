//! Makes the permits and the deadline of a call last until its response body ends. For a gRPC response, the trailers
//! then decide the outcome.
//!
//! `held` carries permits from their stages to the body, and `deadline` the deadline. `border` moves both into `body`.
//! `stack` adds all this to a builder.

mod body;
mod border;
mod deadline;
mod held;
mod stack;

pub use body::WholeBody;
pub use border::ToTheEnd;
pub use deadline::NoBodyDeadline;
