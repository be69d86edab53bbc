//! At home in HTTP and gRPC.

mod answer;
mod body;
mod border;
mod grpc;
mod key;
mod peek;
mod peer;
mod repeat;
mod replay_body;
mod retry_after;
mod verdict;
mod whole_body;
mod wire;

pub use peer::Peer;
pub use verdict::Verdict;
pub use wire::{IgnoredHeaders, Wire, ignored_headers};
