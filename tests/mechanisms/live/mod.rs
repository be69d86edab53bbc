//! Stacks whose configuration changes while calls pass.

#[cfg(feature = "serde")]
mod durations;
mod handle;
mod hostile;
mod own_limits;
mod terms;
mod torn;
mod whole;
