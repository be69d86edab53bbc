//! The user guide: one page for each question that comes up while a stack is built and run.
//!
//! A reader who is new to the crate begins with [`start`]. The other pages stand alone. Each page links to the items
//! with the details. The tests compile the examples of the pages, and run those that need no Redis server. This module
//! contains no code.
//!
//! | page | question |
//! |---|---|
//! | [`start`] | How do I wrap the client or the server that I have? |
//! | [`cookbook`] | What do I write for my case? Recipes for axum, hyper, tonic, reqwest, tenants and exporters |
//! | [`choosing_numbers`] | Which numbers do I have to choose, and which ones can the crate find? |
//! | [`ordering`] | In which order do the layers stand, and why? |
//! | [`safe_retries`] | How do I retry without doing work twice and without making an outage worse? |
//! | [`deadlines`] | How does a deadline reach every service in a chain of calls? |
//! | [`overload`] | How does a server keep answering when more arrives than it can do? |
//! | [`http_grpc`] | What does a stack do with HTTP and gRPC? |
//! | [`telemetry`] | How do I see what a stack does? |
//! | [`virtual_time`] | How do I test timeouts, retries and outages without waiting? |
//! | [`live_limits`] | How do I change a limit while calls pass? |
//! | [`fleet`] | How do many processes keep one limit, or share one queue? |
//! | [`migration`] | How do I replace the layers that I have? Tables for tower, governor, failsafe and others |
//! | [`glossary`] | What does this word mean, and what do other libraries call it? |
//!
//! Complete programs to copy are in the folder `examples` of the repository. Its `README.md` lists them.
//!
#![cfg_attr(feature = "http", doc = "[`http_grpc`]: self::http_grpc")]
#![cfg_attr(not(feature = "http"), doc = "[`http_grpc`]: crate#features")]

pub mod choosing_numbers;
pub mod cookbook;
pub mod deadlines;
pub mod fleet;
pub mod glossary;
#[cfg(feature = "http")]
pub mod http_grpc;
pub mod live_limits;
pub mod migration;
pub mod ordering;
pub mod overload;
pub mod safe_retries;
pub mod start;
pub mod telemetry;
pub mod virtual_time;
