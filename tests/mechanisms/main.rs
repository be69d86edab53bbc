//! The mechanisms and their layers, in one process and in virtual time: state machines against plain models, the
//! results of calls, configurations that change while calls pass, and the allocations of each part.

#[cfg(feature = "constant-work")]
mod constant_work;
#[cfg(feature = "constant-work")]
mod constant_work_publisher;
mod counting;
mod fleet_modes;
#[cfg(feature = "conformance")]
mod fleet_store;
mod instruments;
mod large_futures;
mod level_model;
mod live;
mod load_level;
#[path = "../support/mod.rs"]
mod support;

#[cfg(feature = "sim")]
mod adaptive;
mod allocations;
mod backoff;
mod bad_input;
mod border;
mod borrowed;
mod breaker;
mod changing_bucket;
mod circuit_breaker;
mod closing;
mod denials;
mod due;
#[cfg(all(feature = "constant-work", feature = "redis"))]
mod error_chains;
mod forbid_retry;
mod forecasts;
mod horizons;
#[cfg(feature = "http")]
mod http;
mod imports;
mod keyed;
mod limiter;
mod limiter_classes;
mod listeners;
#[cfg(feature = "load")]
mod load;
mod load_shed;
mod observe;
mod observe_panics;
mod own;
mod patience;
mod per_key;
mod probes;
mod rate_limit;
mod refusals;
mod replay;
mod replay_model;
mod retry;
mod retry_budget;
mod scopes;
mod sliding_window;
mod stack;
mod stamp;
mod telemetry;
mod timeout;
mod timeout_learned;
mod timeout_per_request;
mod token_bucket;
mod transitions;
mod user_code;
mod waiting;
mod warm_up;
