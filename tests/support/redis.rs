//! A real Redis server as a child process, and faults for it: the `redis-server` of the path, or the program that
//! `STEADFAST_REDIS_SERVER` names.

use redis::{AsyncConnectionConfig, Value, aio::MultiplexedConnection, cmd};
use std::{
    collections::BTreeSet,
    env,
    ffi::OsString,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// The longest time that a server may take to start: many times what it needs.
const PATIENCE: Duration = Duration::from_secs(20);

/// The environment variable with the server's program. `redis-server` and `valkey-server` take the same arguments.
const PROGRAM: &str = "STEADFAST_REDIS_SERVER";

fn program() -> OsString {
    env::var_os(PROGRAM).filter(|program| !program.is_empty()).unwrap_or_else(|| "redis-server".into())
}

/// Returns why there is no server to test with, if there is none. A server named in the environment must exist.
pub fn missing() -> Option<String> {
    let program = program();
    let version = Command::new(&program).arg("--version").stdout(Stdio::null()).status();
    let error = version.err()?;
    assert!(
        env::var_os(PROGRAM).is_none_or(|program| program.is_empty()),
        "{PROGRAM}={}: {error}",
        Path::new(&program).display()
    );
    Some(format!("redis-server: {error}; install Redis"))
}

/// Returns why the server cannot do TLS, if it was built without TLS.
pub fn missing_tls() -> Option<String> {
    let program = program();
    // A server with TLS reports that it has no certificate.
    let arguments = ["--port", "0", "--tls-port", "1", "--save", "", "--daemonize", "no"];
    let said = Command::new(&program).args(arguments).stdin(Stdio::null()).output().ok()?;
    let can = String::from_utf8_lossy(&said.stdout).contains("No tls-cert-file configured");
    (!can).then(|| format!("{} was built without TLS", Path::new(&program).display()))
}

/// A running server on a free port of 127.0.0.1, in a temporary directory of its own.
///
/// It keeps nothing on disk, unless it was started with [`durable`](Self::durable). On drop it is killed by its own id,
/// also when it is stopped, and its directory is removed.
pub struct RedisServer {
    child: Option<Child>,
    port: u16,
    directory: PathBuf,
    arguments: Vec<String>,
}

impl RedisServer {
    /// Starts a server, and waits until it answers.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts a server that keeps its data over a [`restart`](Self::restart): every write is on disk before its answer.
    pub async fn durable() -> Self {
        Self::start_with(&["--appendonly", "yes", "--appendfsync", "always"]).await
    }

    /// Starts a server with further arguments, such as `&["--maxmemory", "2mb"]`.
    pub async fn start_with(arguments: &[&str]) -> Self {
        static NUMBERS: AtomicU32 = AtomicU32::new(0);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let directory = env::temp_dir().join(format!("fleet-redis-{}-{number}", std::process::id()));
        fs::create_dir_all(&directory).expect("a temporary directory can be made");
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let mut server = Self { child: None, port: free_port(), directory, arguments };
        server.restart().await;
        server
    }

    /// Returns the port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the URL for a client.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Returns the directory with its files.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Stops it with `SIGSTOP`: connections stay, the kernel accepts new ones, and the server does not answer.
    pub fn stop(&self) {
        self.signal("-STOP");
    }

    /// Continues it after [`stop`](Self::stop).
    pub fn cont(&self) {
        self.signal("-CONT");
    }

    /// Ends it with `SIGKILL`. Data that is not on disk is lost.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only for a child that has ended and was already waited for.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again on the same port, after killing it if it runs, and waits until it answers. A
    /// [`durable`](Self::durable) server has its data; any other is empty.
    pub async fn restart(&mut self) {
        self.kill();
        self.child = Some(
            Command::new(program())
                .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
                .args(["--daemonize", "no", "--dir"])
                .arg(&self.directory)
                .args(&self.arguments)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("the server can be started: see `missing`"),
        );
        let began = Instant::now();
        while !self.answers().await {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            assert!(ended.is_none(), "the server ended: {ended:?}");
            assert!(Instant::now() < began + PATIENCE, "the server does not answer");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Starts it again on the same port, without any data.
    pub async fn restart_empty(&mut self) {
        self.kill();
        fs::remove_dir_all(&self.directory).expect("the server's files can be removed");
        fs::create_dir_all(&self.directory).expect("a temporary directory can be made");
        self.restart().await;
    }

    /// Returns a new connection. On a busy machine the default timeouts of the client are too short.
    pub async fn connect(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.url()).expect("a URL that is one");
        let patient =
            AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE)).set_response_timeout(Some(PATIENCE));
        client.get_multiplexed_async_connection_with_config(&patient).await.expect("a server that answers")
    }

    /// Runs a command on a new connection, and panics if that fails: `command(&["CONFIG", "SET", "maxmemory", "2mb"])`.
    pub async fn command(&self, words: &[&str]) -> Value {
        self.command_of_bytes(&words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>()).await
    }

    /// Runs a command whose words are any bytes.
    pub async fn command_of_bytes(&self, words: &[&[u8]]) -> Value {
        let mut connection = self.connect().await;
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(*word);
        }
        command.query_async(&mut connection).await.unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// Returns the integer that a command answers.
    pub async fn integer(&self, words: &[&str]) -> i64 {
        match self.command(words).await {
            Value::Int(integer) => integer,
            other => panic!("{words:?}: {other:?}"),
        }
    }

    /// Returns the value of a field of `INFO`, in any section.
    pub async fn info(&self, field: &str) -> String {
        let text = text(&self.command(&["INFO", "everything"]).await);
        let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.unwrap_or_else(|| panic!("no {field} in INFO")).to_owned()
    }

    async fn answers(&self) -> bool {
        let Ok(client) = redis::Client::open(self.url()) else { return false };
        let Ok(mut connection) = client.get_multiplexed_async_connection().await else { return false };
        let answer = cmd("PING").query_async::<Value>(&mut connection).await;
        // A server that requires a password is running. A server that is loading its data will be ready later.
        !answer.is_err_and(|error| error.code() == Some("LOADING"))
    }

    fn signal(&self, signal: &str) {
        let child = self.child.as_ref().expect("a server that runs");
        // `kill` is built into every shell.
        let status = Command::new("sh").args(["-c", &format!("kill {signal} {}", child.id())]).status();
        assert!(status.is_ok_and(|status| status.success()), "kill {signal}");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A cluster of real servers without replicas, each with its part of the slots.
pub struct RedisCluster {
    /// The servers, in the order of their slots.
    pub servers: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts `count` servers, and waits until all of them know that the cluster is complete.
    pub async fn start(count: u16) -> Self {
        let mut servers = Vec::new();
        for _ in 0..count {
            servers
                .push(RedisServer::start_with(&["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"]).await);
        }
        let share = 16384 / count;
        for (place, server) in servers.iter().enumerate() {
            let first = place as u16 * share;
            let last = if place + 1 == servers.len() { 16383 } else { first + share - 1 };
            // Redis 6.2 accepts no range.
            let slots: Vec<String> = (first..=last).map(|slot| slot.to_string()).collect();
            let mut add = vec!["CLUSTER", "ADDSLOTS"];
            add.extend(slots.iter().map(String::as_str));
            server.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(place + 1).to_string()]).await;
            server.command(&add).await;
            server.command(&["CLUSTER", "MEET", "127.0.0.1", &servers[0].port.to_string()]).await;
        }
        let began = Instant::now();
        for server in &servers {
            loop {
                let state = text(&server.command(&["CLUSTER", "INFO"]).await);
                let known = format!("cluster_known_nodes:{count}");
                if state.contains("cluster_state:ok") && state.contains(&known) {
                    break;
                }
                assert!(Instant::now() < began + PATIENCE, "the cluster is not complete: {state}");
                sleep(Duration::from_millis(50)).await;
            }
        }
        Self { servers }
    }

    /// Returns the URL of the first server, through which clients find the others.
    pub fn url(&self) -> String {
        self.servers[0].url()
    }
}

/// Returns the text of an answer.
pub fn text(value: &Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => text.clone(),
        other => panic!("no text: {other:?}"),
    }
}

/// Returns a port of 127.0.0.1 on which no program listens. A cluster server also uses the port 10,000 above, so no
/// program listens on that one either. This process gets each port only once, because a killed server restarts on its
/// own port.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        // This port and the one 10,000 above are below the range of ephemeral ports, which begins at 32,768.
        let port = 10_000 + port % 12_000;
        let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
        if !given.contains(&port) && free(port) && free(port + 10_000) {
            given.extend([port - 10_000, port, port + 10_000]);
            return port;
        }
    }
}
