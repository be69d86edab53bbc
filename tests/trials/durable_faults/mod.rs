//! Messages through a real Redis, from process to process, under faults: which messages were delivered, how often, and
//! why more than once.
//!
//! The processes run this program again, with their part in the environment.

mod deliveries;
mod faults;
mod part;
mod processes;
mod scene;
mod verdict;

pub use faults::trials;
pub use part::{PART, Part, Role, be};
pub use processes::Process;
