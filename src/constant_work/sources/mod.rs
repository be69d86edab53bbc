//! The sources and sinks of snapshots.

pub(super) mod blocking_task;
mod file;
mod file_sink;
mod fixed;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "redis")]
mod redis_builder;

pub use file::FileSource;
pub use file_sink::FileSink;
pub use fixed::FixedSource;
#[cfg(feature = "http")]
pub use http::HttpSource;
#[cfg(feature = "redis")]
pub use redis::{RedisSink, RedisSource};
#[cfg(feature = "redis")]
pub use redis_builder::RedisBuilder;
