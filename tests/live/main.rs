//! Stacks that are told another configuration while calls pass.

#[path = "../support/mod.rs"]
mod support;

mod handle;
mod hostile;
mod terms;
mod whole;
