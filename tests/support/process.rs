//! Examples as child processes, which end with the test that started them.

use std::{
    env,
    io::{self, BufRead, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::Duration,
};
use tokio::net::TcpStream;

/// The longest silence before an example counts as hanging: many times what any example needs.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running example. Dropping it kills the process, by its id.
pub struct Process {
    name: String,
    child: Child,
    /// The lines that it writes to standard output. A thread reads them, so that a hanging child cannot hang the test.
    lines: Receiver<String>,
}

impl Process {
    pub fn start(example: &str, arguments: &[&str]) -> Self {
        let path = path(example);
        let mut child = Command::new(&path)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!(
                    "{}: {error}; `cargo build --all-features --examples` makes it, with the profile of the tests",
                    path.display()
                )
            });
        let output = child.stdout.take().expect("standard output is a pipe");
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // The test may have dropped the receiver.
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { name: example.to_owned(), child, lines }
    }

    /// Returns the next line, or `None` after the last one.
    pub fn next_line(&mut self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("{} hangs", self.name),
        }
    }

    /// Returns all further lines. The process must end by itself, and successfully.
    pub fn finish(mut self) -> Vec<String> {
        let lines = std::iter::from_fn(|| self.next_line()).collect();
        // Its standard output was closed, so it is about to end.
        let status = self.child.wait().expect("a child can be waited for");
        assert!(status.success(), "{}: {status}", self.name);
        lines
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only for a child that has ended and was already waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A running example that is a server.
pub struct Server {
    /// Dropping this stops the server.
    process: Process,
    address: SocketAddr,
}

impl Server {
    /// Starts it on a free port, and waits until it listens.
    pub fn start(example: &str) -> Self {
        Self::start_with(example, &[])
    }

    /// Starts it with arguments.
    pub fn start_with(example: &str, arguments: &[&str]) -> Self {
        let mut process = Process::start(example, arguments);
        let line = process.next_line().expect("a server says where it listens");
        let address = line.strip_prefix("listening on ").and_then(|address| address.parse().ok());
        Self { process, address: address.unwrap_or_else(|| panic!("{example} says {line:?}")) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Kills it without a shutdown, as in a crash.
    pub fn kill(self) {
        drop(self.process);
    }
}

/// A connection that sends small segments at once. With Nagle's algorithm a call can take 40 ms, the delay of an
/// acknowledgement.
pub async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Returns `target/<profile>/examples/<name>`. The test that runs is a file in `target/<profile>/deps`.
fn path(example: &str) -> PathBuf {
    let test = env::current_exe().expect("a test knows its own path");
    let profile = test.parent().and_then(|deps| deps.parent()).expect("cargo puts tests into target/<profile>/deps");
    profile.join("examples").join(format!("{example}{}", env::consts::EXE_SUFFIX))
}
