//! The four processes: tasks in virtual time, or real ones with a proxy between them and their store.

use crate::process::{self, PROCESSES, Slots};
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use steadfast::rate_limit::distributed::{
    Answering, Charge, Charged, Demand, Embedded, Settled, Store, StoreError, StoreErrorKind,
};
use tokio::{
    runtime,
    task::{LocalSet, spawn_local},
    time::sleep,
};

/// Runs all processes as tasks of this one, on the embedded store.
pub fn in_virtual_time(third: Duration) -> Result<Slots, Box<dyn Error>> {
    let runtime = runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    LocalSet::new().block_on(&runtime, async move {
        let store = Switched { inner: Embedded::new(), is_out: Arc::default() };
        let processes = (0..PROCESSES).map(|index| {
            let store = store.clone();
            spawn_local(async move { process::run(index, store, third).await.map_err(|error| error.to_string()) })
        });
        let processes: Vec<_> = processes.collect();
        watch(third, |is_out| store.is_out.store(is_out, Ordering::Relaxed)).await;
        let mut sum = Slots::default();
        for process in processes {
            add(&mut sum, &process.await??);
        }
        Ok(sum)
    })
}

/// Shows the progress of the run, and switches the store off for its second third.
async fn watch(third: Duration, mut switch: impl FnMut(bool)) {
    let bar = ProgressBar::new(3 * third.as_secs());
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos} of {len} s, {msg}") {
        bar.set_style(style);
    }
    for (is_out, what) in [(false, "with the store"), (true, "without it"), (false, "with it again")] {
        switch(is_out);
        bar.set_message(what);
        for _ in 0..third.as_secs() {
            sleep(Duration::from_secs(1)).await;
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
}

fn add(sum: &mut Slots, slots: &Slots) {
    for (sum, slots) in sum.iter_mut().zip(slots) {
        sum.resize(slots.len(), 0);
        sum.iter_mut().zip(slots).for_each(|(sum, slot)| *sum += slot);
    }
}

/// A store that can be switched off.
#[derive(Clone)]
struct Switched {
    inner: Embedded,
    is_out: Arc<AtomicBool>,
}

impl Switched {
    fn check(&self) -> Result<(), StoreError> {
        match self.is_out.load(Ordering::Relaxed) {
            true => Err(StoreError::new(StoreErrorKind::Unreachable, "switched off")),
            false => Ok(()),
        }
    }
}

impl Store for Switched {
    fn charge<'a>(&'a self, charges: &'a [Charge]) -> Answering<'a, Charged> {
        Box::pin(async {
            self.check()?;
            self.inner.charge(charges).await
        })
    }

    fn settle<'a>(&'a self, demands: &'a [Demand]) -> Answering<'a, Settled> {
        Box::pin(async {
            self.check()?;
            self.inner.settle(demands).await
        })
    }
}

#[cfg(not(feature = "redis"))]
mod real {
    use super::*;

    const HINT: &str = "for `--redis` build with `--features redis`";

    pub fn of_processes(_: &str, _: Duration) -> Result<Slots, Box<dyn Error>> {
        Err(HINT.into())
    }

    pub fn be_process(_: usize, _: &str, _: Duration) -> Result<(), Box<dyn Error>> {
        Err(HINT.into())
    }
}

#[cfg(feature = "redis")]
mod real {
    use super::*;
    use std::{
        env,
        process::{Child, Command, Stdio},
    };
    use steadfast::rate_limit::distributed::Redis;
    use tokio::{
        io::copy_bidirectional,
        net::{TcpListener, TcpStream},
        sync::watch,
    };

    /// The environment variable with the proxied URL. It is not an argument, because a URL may contain a password.
    const STORE: &str = "FLEET_QUOTA_STORE";

    /// Starts four processes of this program, and a proxy between them and the store.
    pub fn of_processes(url: &str, third: Duration) -> Result<Slots, Box<dyn Error>> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let (before, address, after) = parts(url).ok_or("a URL is like redis://127.0.0.1:6379")?;
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let proxied = format!("{before}{}{after}", listener.local_addr()?);
            let (switch, is_out) = watch::channel(false);
            tokio::spawn(proxy(listener, address, is_out));
            // The process id makes the keys unique to this run, so that an earlier run's keys do not count.
            let run = std::process::id().to_string();
            let start = |index: usize| {
                let seconds = third.as_secs().to_string();
                Command::new(env::current_exe()?)
                    .args(["--redis", &run, "--third", &seconds, "--process", &index.to_string()])
                    .env(STORE, &proxied)
                    .stdout(Stdio::piped())
                    .spawn()
                    .map(Stopped)
            };
            let processes = (0..PROCESSES).map(start).collect::<Result<Vec<_>, _>>()?;
            super::watch(third, |is_out| {
                // Fails only if the proxy has ended with its last connection.
                let _ = switch.send(is_out);
            })
            .await;
            let mut sum = Slots::default();
            for process in processes {
                let output = tokio::task::spawn_blocking(move || process.output()).await??;
                add(&mut sum, &serde_json::from_slice(&output)?);
            }
            Ok(sum)
        })
    }

    pub fn be_process(index: usize, run: &str, third: Duration) -> Result<(), Box<dyn Error>> {
        let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let url = env::var(STORE)?;
        let slots = runtime.block_on(async {
            let store = Redis::builder(&url).prefix(format!("fleet_quota:{run}:")).connect().await?;
            process::run(index, store, third).await
        })?;
        println!("{}", serde_json::to_string(&slots)?);
        Ok(())
    }

    /// Splits a URL into the part before the address, the address, and the part after it.
    fn parts(url: &str) -> Option<(&str, String, &str)> {
        let start = url.find("://")? + 3;
        let end = url[start..].find(['/', '?']).map_or(url.len(), |at| start + at);
        let start = url[start..end].rfind('@').map_or(start, |at| start + at + 1);
        let host = &url[start..end];
        let address = if host.rsplit(']').next()?.contains(':') { host.to_owned() } else { format!("{host}:6379") };
        Some((&url[..start], address, &url[end..]))
    }

    /// Forwards bytes between the processes and the store, except during an outage.
    async fn proxy(listener: TcpListener, address: String, is_out: watch::Receiver<bool>) {
        while let Ok((mut client, _)) = listener.accept().await {
            let (mut is_out, address) = (is_out.clone(), address.clone());
            tokio::spawn(async move {
                if *is_out.borrow() {
                    return;
                }
                let Ok(mut server) = TcpStream::connect(address).await else { return };
                let _ = (client.set_nodelay(true), server.set_nodelay(true));
                tokio::select! {
                    _ = copy_bidirectional(&mut client, &mut server) => {}
                    _ = is_out.wait_for(|is_out| *is_out) => {}
                }
            });
        }
    }

    /// A process that is stopped when it is dropped.
    struct Stopped(Child);

    impl Stopped {
        /// Waits for its end, and returns its output.
        fn output(mut self) -> std::io::Result<Vec<u8>> {
            let mut output = Vec::new();
            if let Some(stdout) = &mut self.0.stdout {
                std::io::Read::read_to_end(stdout, &mut output)?;
            }
            Ok(output)
        }
    }

    impl Drop for Stopped {
        fn drop(&mut self) {
            let _ = (self.0.kill(), self.0.wait());
        }
    }
}

pub use real::{be_process, of_processes};
