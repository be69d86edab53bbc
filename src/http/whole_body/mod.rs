//! Permits, verdicts and deadlines that last until the end of a body.

mod body;
mod border;
mod deadline;
mod held;
mod stack;

pub use body::WholeBody;
pub use border::ToTheEnd;
pub use deadline::NoBodyDeadline;
