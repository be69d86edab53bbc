//! Messages through a queue in a real Redis, from processes to processes, while all that can go wrong does: which
//! messages were delivered, how often, and why more than once.
//!
//! The processes are this program, started again with their part in the environment.

mod deliveries;
mod faults;
mod part;
mod processes;
mod scene;
mod verdict;

pub use faults::trials;
pub use part::{PART, Part, Role, be};
pub use processes::Process;
