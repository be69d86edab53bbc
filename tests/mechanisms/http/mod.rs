//! HTTP and gRPC, without a network.

mod answers;
mod verdict;
mod whole_body;
mod wire;
