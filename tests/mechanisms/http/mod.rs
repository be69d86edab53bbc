//! HTTP and gRPC without a network.

mod answers;
mod at_once;
mod costs;
mod edges;
mod keys;
mod peek;
mod repeat;
mod replay;
mod replay_model;
mod scripted;
mod verdict;
mod whole_body;
mod wire;
