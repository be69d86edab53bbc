//! The parent's handle of a process.

use super::part::{PART, Part};
use serde::de::DeserializeOwned;
use std::{
    env,
    io::Read,
    process::{Child, Command, Stdio},
    thread::{self, JoinHandle},
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// A process that is killed, by its own id, when it is dropped.
pub struct Process {
    child: Child,
    said: Option<JoinHandle<String>>,
}

impl Process {
    pub fn start(part: &Part) -> Self {
        let child = Command::new(env::current_exe().expect("a test knows its own path"))
            .env(PART, serde_json::to_string(part).expect("plain data"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.expect("this program can be started");
        let mut stdout = child.stdout.take().expect("it is a pipe");
        let said = thread::spawn(move || {
            let mut said = String::new();
            stdout.read_to_string(&mut said).expect("it can be read");
            said
        });
        Self { child, said: Some(said) }
    }

    /// With `SIGKILL`.
    pub fn kill(&mut self) {
        // Both fail only for a child that has ended and has been waited for.
        let _ = (self.child.kill(), self.child.wait());
    }

    /// Returns whether it has ended, in any way.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Tells it to end.
    pub fn tell_to_end(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Waits for its end, and returns what it printed.
    pub async fn said<T: DeserializeOwned>(&mut self, patience: Duration) -> T {
        let began = Instant::now();
        while !self.said.as_ref().is_some_and(JoinHandle::is_finished) {
            assert!(Instant::now() < began + patience, "a process has not ended within {patience:?}");
            sleep(Duration::from_millis(5)).await;
        }
        let said = self.said.take().expect("the first call").join().expect("it does not panic");
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("a process said {said:?}: {error}"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
