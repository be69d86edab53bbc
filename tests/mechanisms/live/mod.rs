//! Stacks that are told another configuration while calls pass.

mod handle;
mod hostile;
mod terms;
mod whole;
