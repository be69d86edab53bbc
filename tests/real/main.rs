//! What only real time, real sockets and real processes can show: the examples at work, and the layers among the
//! libraries that they are made for.
//!
//! The servers are the binaries of the examples, each a process of its own on a free port of the loopback interface,
//! stopped when its test ends. Machines stall, so these tests never assert that something took little time, only that
//! it took no longer than many times what it should; where the right moment may be missed they try again.

mod clients;
mod composition;
mod grpc_server;
mod http_servers;
#[cfg(feature = "constant-work")]
mod live_limits;
mod load_leveling;
mod process;
mod quotas;
