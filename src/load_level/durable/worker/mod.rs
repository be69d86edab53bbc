//! Takes messages and calls a service with each.
//!
//! | file | its job |
//! |---|---|
//! | `builder`, `settings` | the configuration of a worker |
//! | `run` | the worker and its loop |
//! | `requests` | the requests to Redis, one command or script each |
//! | `call` | one call of the service, and its verdict |
//! | `memory` | the history of a message |
//! | `clock` | the server's clock, and the pace of calls |
//! | `report` | the state and the report of a worker |

mod builder;
mod call;
mod clock;
mod memory;
mod report;
mod requests;
mod run;
mod settings;

pub use builder::WorkerBuilder;
pub(super) use memory::Memory;
pub use report::{WorkerMonitor, WorkerReadings, WorkerReport};
pub use run::Worker;
