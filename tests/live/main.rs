//! Stacks that are told another configuration while calls pass.

#[path = "../support/mod.rs"]
mod support;

mod handle;
mod terms;
mod whole;
