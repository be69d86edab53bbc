//! `redis-benchmark`, which only appends to a stream.

use crate::{Load, Result, Turn, measured, server::Server};
use std::process::Command;

/// Appends over `connections` connections, each with `pipeline` commands in flight.
pub fn plain(port: &str, load: Load, connections: u32, pipeline: u32, server: &mut Server) -> Result<Turn> {
    let (messages, connections, pipeline) = (load.messages.to_string(), connections.to_string(), pipeline.to_string());
    let mut said = String::new();
    let turn = measured(server, load, || {
        let mut command = Command::new("redis-benchmark");
        command.args(["-p", port, "-n", &messages, "-c", &connections, "-P", &pipeline, "-q"]);
        command.args(["XADD", "plain", "*", "p", &"x".repeat(load.payload)]);
        said = String::from_utf8_lossy(&command.output()?.stdout).into_owned();
        Ok(())
    })?;
    // Uses the figure of `redis-benchmark`, which excludes the start of its process.
    let rate = said.split(['\r', '\n']).rfind(|line| line.contains("requests per second"));
    let rate = rate.and_then(|line| line.rsplit_once(": ")?.1.split(' ').next()?.parse().ok());
    let per_second = rate.ok_or_else(|| format!("redis-benchmark said {said:?}"))?;
    Ok(Turn { per_second, client_micros: f64::NAN, ..turn })
}
