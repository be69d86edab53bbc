//! How do I change a limit while calls pass?
//!
//! A limit turns out to be wrong at night, or a dependency has to be switched off now. A deployment takes too long and
//! loses what the mechanisms have learned. The numbers of a running stack can change without a deployment.
//!
//! # One number
//!
//! Each mechanism is a handle. Keep a clone, and set a number:
//! [`Limiter::set_limit`](crate::load_shed::Limiter::set_limit),
//! [`TokenBucket::set_quota`](crate::rate_limit::TokenBucket::set_quota),
//! [`Queue::set_depth`](crate::load_level::Queue::set_depth),
//! [`Breaker::force_open`](crate::circuit_breaker::Breaker::force_open).
//!
//! # A whole stack
//!
//! `.live()?` in place of `.layer()?` returns the layer and a [`Control`](crate::stack::live::Control). The `Control`
//! applies a [`StackConfig`](crate::stack::live::StackConfig) as a whole, or refuses it and changes nothing. A part
//! that the configuration leaves out gets the value with which the stack was built, even if an earlier configuration
//! has changed it.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use steadfast::{load_shed::Limiter, stack::live::{LoadShedConfig, StackConfig}};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! let limiter = Limiter::fixed(100)?;
//! let (layer, control) =
//!     steadfast::server().load_shed(limiter.clone()).timeout(Duration::from_secs(1)).live()?;
//! let service = layer.layer(service_fn(async |n: u32| Ok::<_, std::io::Error>(n)));
//!
//! control.apply(&StackConfig { load_shed: Some(LoadShedConfig::new(10)), ..StackConfig::default() })?;
//! assert_eq!(limiter.limit(), 10);
//!
//! // A value that cannot work is refused, and the limit stays.
//! let wrong = StackConfig { load_shed: Some(LoadShedConfig::new(0)), ..StackConfig::default() };
//! assert_eq!(control.apply(&wrong).unwrap_err().to_string(), "load_shed.limit = 0: must be at least 1");
//! assert_eq!(limiter.limit(), 10);
//!
//! // The kill switch refuses every call.
//! control.apply(&StackConfig { switched_off: true, ..StackConfig::default() })?;
//! assert!(service.oneshot(1).await.is_err());
//! # Ok(())
//! # }
//! ```
//!
//! Calls in flight, tokens, windows and waiters stay through a change;
//! [`stack::live`](crate::stack::live#state-that-survives-a-change) says what happens to each. With the feature `serde`
//! a `StackConfig` is read from JSON or TOML.
//!
//! # All processes
//!
//! With the feature `constant-work` an operator publishes a snapshot of all rules, and every process follows it. A
//! [`Publisher`] writes the snapshot to a file, to Redis (feature `redis`), or to a place of yours. A [`Poller`] in
//! each process reads all of it once per second, checks all of it, and applies all of it, changed or not. A `Poller`
//! that reads over HTTP also needs the feature `http`.
//!
#![cfg_attr(feature = "constant-work", doc = "```")]
#![cfg_attr(not(feature = "constant-work"), doc = "```ignore")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use steadfast::constant_work::{FileSink, FileSource, Poller, Publisher, Shape, StackRule, Stacks};
//! use steadfast::{load_shed::Limiter, stack::live::{LoadShedConfig, StackConfig}};
//!
//! # let folder = std::env::temp_dir().join(format!("steadfast-guide-{}", std::process::id()));
//! # std::fs::create_dir_all(&folder)?;
//! # let path = folder.join("limits.snapshot");
//! // Room for the rules of 16 stacks, used or not.
//! let shape = Shape::for_rules::<StackRule>(16)?;
//!
//! // In the operator's program.
//! let mut publisher = Publisher::builder(FileSink::new(&path)?, shape).build()?;
//! let config = StackConfig { load_shed: Some(LoadShedConfig::new(48)), ..StackConfig::default() };
//! publisher.publish(&[StackRule::new("checkout", config)?]).await?;
//!
//! // In each server.
//! let limiter = Limiter::fixed(64)?;
//! let (_layer, control) = steadfast::server().load_shed(limiter.clone()).live()?;
//! let stacks = Stacks::new().with("checkout", control)?;
//! let mut poller = Poller::builder(FileSource::new(&path), shape).build(stacks)?;
//! poller.tick().await?; // a server spawns `poller.run()`, which does this once per second
//! assert_eq!(limiter.limit(), 48);
//!
//! // A broken file is refused. The last good rules stay in force.
//! std::fs::write(&path, "not a snapshot")?;
//! assert!(poller.tick().await.is_err());
//! assert_eq!(limiter.limit(), 48);
//! # std::fs::remove_dir_all(&folder)?;
//! # Ok(())
//! # }
//! ```
//!
//! The work is the same whether nothing changed, everything did, or the source is broken. The code that runs in an
//! outage has therefore run every second before. [`constant_work`] has a table of everything that can go wrong, and of
//! what is in force then.
//!
//! # Try first
//!
//! [`Control::check`](crate::stack::live::Control::check) says whether a configuration would be accepted. A limit in
//! shadow counts the calls that it would refuse, and refuses none; see
//! [`choosing_numbers`](super::choosing_numbers#try-a-number-before-it-counts). The example `live_limits` has a server
//! and an operator to copy.
//!
#![cfg_attr(feature = "constant-work", doc = "[`constant_work`]: crate::constant_work")]
#![cfg_attr(feature = "constant-work", doc = "[`Poller`]: crate::constant_work::Poller")]
#![cfg_attr(feature = "constant-work", doc = "[`Publisher`]: crate::constant_work::Publisher")]
#![cfg_attr(not(feature = "constant-work"), doc = "[`constant_work`]: crate#features")]
#![cfg_attr(not(feature = "constant-work"), doc = "[`Poller`]: crate#features")]
#![cfg_attr(not(feature = "constant-work"), doc = "[`Publisher`]: crate#features")]
