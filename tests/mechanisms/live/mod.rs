//! Stacks that are told another configuration while calls pass.

#[cfg(feature = "serde")]
mod durations;
mod handle;
mod hostile;
mod terms;
mod whole;
