//! Rate limits: one token taken or refused.

mod acquire;
mod layer;
mod limits;
mod refuse;

use crate::harness::Row;

pub use layer::tower_resilience;
pub use limits::AlreadyRead;

pub fn rows() -> Vec<Row> {
    acquire::rows().into_iter().chain(refuse::rows()).chain(layer::rows()).collect()
}
