//! HTTP and gRPC: what answers mean, and what is written to requests.

mod verdict;
mod wire;
