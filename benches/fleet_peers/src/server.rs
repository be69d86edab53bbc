//! The server's own statistics.

use redis::{Commands, Connection, FromRedisValue, cmd};

/// A separate connection, beside the measured ones.
pub struct Server(Connection);

/// The server's work since it started.
#[derive(Clone, Copy, Default)]
pub struct Work {
    /// Calls of scripts.
    pub calls: u64,
    /// The time in scripts, including the commands that they call.
    pub script_micros: u64,
    /// The processor time of its main thread, which also reads and writes the sockets.
    pub server_micros: u64,
}

impl Server {
    pub fn connect(url: &str) -> Self {
        let client = redis::Client::open(url).expect("a URL that is one");
        Self(client.get_connection().expect("a server that answers"))
    }

    pub fn work(&mut self) -> Work {
        let mut work = Work::default();
        for line in self.ask::<String>(&["INFO", "commandstats"]).lines() {
            let Some((name, fields)) = line.strip_prefix("cmdstat_").and_then(|line| line.split_once(':')) else {
                continue;
            };
            if name.starts_with("eval") || name.starts_with("fcall") {
                let field = |name: &str| fields.split(',').find_map(|field| field.strip_prefix(name)?.parse().ok());
                work.calls += field("calls=").unwrap_or(0);
                work.script_micros += field("usec=").unwrap_or(0);
            }
        }
        let cpu: String = self.ask(&["INFO", "cpu"]);
        let seconds = |name: &str| cpu.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
        let main = ["used_cpu_user_main_thread:", "used_cpu_sys_main_thread:"].map(|name| seconds(name).unwrap_or(0.0));
        work.server_micros = (main.iter().sum::<f64>() * 1e6) as u64;
        work
    }

    pub fn used_memory(&mut self) -> u64 {
        let memory: String = self.ask(&["INFO", "memory"]);
        let used = memory.lines().find_map(|line| line.strip_prefix("used_memory:")?.trim().parse().ok());
        used.expect("a server that says how much memory it uses")
    }

    /// Returns the number of keys.
    pub fn keys(&mut self) -> u64 {
        self.ask(&["DBSIZE"])
    }

    pub fn clear(&mut self) {
        self.0.flushall::<()>().expect("a server that answers");
    }

    fn ask<T: FromRedisValue>(&mut self, words: &[&str]) -> T {
        let mut command = cmd(words[0]);
        words[1..].iter().for_each(|word| {
            command.arg(*word);
        });
        command.query(&mut self.0).expect("a server that answers")
    }
}
