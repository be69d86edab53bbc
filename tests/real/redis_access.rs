//! Access to a Redis server: TLS with private certificates, parameters of an existing client, and credentials that
//! change.

use crate::{
    durable_fixture::{append, millis, readings, until},
    server::{RedisServer, free_port},
    trial::{needing, trials},
};
use libtest_mimic::Trial;
use std::{
    env,
    error::Error,
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};
use steadfast::{
    constant_work::{RedisSink, RedisSource, Sink, Source},
    load_level::durable::{DurableQueue, RedisCredentials, RedisError, RedisTls},
    rate_limit::{
        Quota,
        distributed::{Exact, OnOutage, Redis},
    },
};

mod with_tls {
    use super::*;

    trials![
        a_private_authority_and_a_client_certificate_are_enough,
        a_server_of_another_authority_is_refused,
        a_client_without_its_certificate_is_refused,
    ];
}

mod without_tls {
    use super::*;

    trials![
        certificates_that_cannot_work_are_refused,
        the_parameters_of_an_existing_client_are_used,
        the_next_connection_uses_rotated_credentials,
        a_panic_of_the_credentials_is_a_failed_attempt,
        a_server_that_may_evict_keys_is_a_concern,
    ];
}

pub fn trials() -> Vec<Trial> {
    let missing = crate::server::missing();
    let tls = missing.clone().or_else(crate::server::missing_tls).or_else(|| {
        let version = Command::new("openssl").arg("version").stdout(Stdio::null()).status();
        version.err().map(|error| format!("openssl: {error}; install it"))
    });
    [needing(tls, with_tls::trials()), needing(missing, without_tls::trials())].into_iter().flatten().collect()
}

/// A folder with certificates, which is removed on drop.
struct Certificates(PathBuf);

impl Certificates {
    /// Makes an authority, and certificates by it for a server at 127.0.0.1 and for a client.
    fn make() -> Self {
        static NUMBERS: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("redis-tls-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).expect("a temporary directory can be made");
        let certificates = Self(folder);
        certificates.openssl("req -x509 -NEW -keyout ca.key -out ca.pem -subj /CN=ca -days 2");
        fs::write(certificates.0.join("names"), "subjectAltName=IP:127.0.0.1\n").expect("a folder to write in");
        for name in ["server", "client"] {
            certificates.openssl(&format!("req -NEW -keyout {name}.key -out {name}.csr -subj /CN={name}"));
            certificates.openssl(&format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out {name}.pem -days 2 -extfile names"
            ));
        }
        certificates
    }

    fn openssl(&self, arguments: &str) {
        let arguments = arguments.replace("-NEW", "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes");
        let made = Command::new("openssl").args(arguments.split(' ')).current_dir(&self.0).output();
        let made = made.expect("it is there: see `trials`");
        assert!(made.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&made.stderr));
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.0.join(name)).expect("it was made")
    }

    /// Trusts the authority, and presents the certificate of the client.
    fn tls(&self) -> RedisTls {
        let tls = RedisTls::new().root_certificates(self.read("ca.pem"));
        tls.client_certificate(self.read("client.pem"), self.read("client.key"))
    }

    /// Starts a server that requires a certificate of its clients. Returns it and its URL for TLS.
    async fn server(&self) -> (RedisServer, String) {
        let port = free_port().to_string();
        let [pem, key, ca] = ["server.pem", "server.key", "ca.pem"].map(|name| self.path(name));
        let files = ["--tls-cert-file", &pem, "--tls-key-file", &key, "--tls-ca-cert-file", &ca];
        let arguments = [&["--tls-port", &port, "--tls-auth-clients", "yes"], &files[..]].concat();
        (RedisServer::start_with(&arguments).await, format!("rediss://127.0.0.1:{port}"))
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Returns a limit that refuses while the store does not answer.
fn limit(store: Redis) -> Exact {
    let quota = Quota::new(1_000_000, millis(1000));
    let limit = Exact::builder(store, quota).deadline(millis(2000)).on_outage(OnOutage::Closed).build();
    let (limit, flusher) = limit.expect("settings that can work");
    tokio::spawn(flusher.run());
    limit
}

async fn a_private_authority_and_a_client_certificate_are_enough() {
    let certificates = Certificates::make();
    let (server, url) = certificates.server().await;
    let store = Redis::builder(&url).tls(certificates.tls()).connect().await.expect("certificates that are right");
    limit(store).acquire(b"key", 1).await.expect("room");

    let queue = DurableQueue::builder(&url, "orders").tls(certificates.tls()).connect();
    let queue = queue.await.expect("certificates that are right");
    append(&queue, "over TLS").await;
    assert_eq!(readings(&queue).await.waiting, 1);

    let sink = RedisSink::builder(&url, "limits").tls(certificates.tls()).connect();
    sink.await.expect("certificates that are right").publish(b"snapshot").await.expect("a server that is right");
    let source = RedisSource::builder(&url, "limits").tls(certificates.tls()).connect();
    let (mut source, mut bytes) = (source.await.expect("certificates that are right"), Vec::new());
    source.fetch(&mut bytes, 100).await.expect("a server that is right");
    assert_eq!(bytes, b"snapshot");
    // This server answered, on its TLS port.
    assert_eq!(server.integer(&["XLEN", "steadfast:q:{orders}:stream"]).await, 1);
    assert_eq!(format!("{:?}", certificates.tls()), "RedisTls { roots: true, client: true }");
}

async fn a_server_of_another_authority_is_refused() {
    let (certificates, others) = (Certificates::make(), Certificates::make());
    let (_server, url) = certificates.server().await;
    // Another private authority, and those of the system.
    for tls in [others.tls(), RedisTls::new()] {
        let error = Redis::builder(&url).tls(tls).connect().await.expect_err("an authority that is not known");
        assert!(error.to_string().contains("certificate"), "{error}");
    }
    Redis::builder(&url).connect().await.expect_err("an authority that is not known");
}

async fn a_client_without_its_certificate_is_refused() {
    let certificates = Certificates::make();
    let (_server, url) = certificates.server().await;
    let tls = RedisTls::new().root_certificates(certificates.read("ca.pem"));
    let error = Redis::builder(&url).tls(tls).connect().await.expect_err("the server wants one");
    assert!(matches!(error, RedisError::Unreachable { .. } | RedisError::Refused { .. }), "{error:?}");
}

async fn certificates_that_cannot_work_are_refused() {
    for (url, tls) in [
        ("redis://127.0.0.1", RedisTls::new()),
        ("rediss://127.0.0.1", RedisTls::new().client_certificate("nonsense", "nonsense")),
    ] {
        let error = Redis::builder(url).tls(tls).connect_lazily().expect_err("nothing to connect with");
        let RedisError::Config(error) = &error else { panic!("{error:?}") };
        assert_eq!(error.field(), "redis.tls");
    }
}

async fn the_parameters_of_an_existing_client_are_used() {
    let server = RedisServer::start_with(&["--requirepass", "secret"]).await;
    let client = redis::Client::open(format!("redis://:secret@127.0.0.1:{}/3", server.port())).expect("a URL");
    let info = client.get_connection_info().clone();
    let builder = DurableQueue::builder("redis://nowhere", "orders").connection_info(info.clone());
    assert!(!format!("{builder:?}").contains("secret"), "{builder:?}");
    append(&builder.connect().await.expect("parameters that are right"), "one").await;
    let store = Redis::builder("redis://nowhere").connection_info(info).connect().await;
    limit(store.expect("parameters that are right")).acquire(b"key", 1).await.expect("room");
    let mut connection = client.get_multiplexed_async_connection().await.expect("a server that is right");
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut connection).await.expect("an answer");
    assert_eq!(keys.len(), 3, "a bucket, a stream and its totals, in database 3: {keys:?}");
}

async fn the_next_connection_uses_rotated_credentials() {
    let server = RedisServer::start().await;
    server.command(&["ACL", "SETUSER", "app", "on", ">first", "~*", "&*", "+@all"]).await;
    let password = Arc::new(Mutex::new("first"));
    let current = password.clone();
    let credentials = move || RedisCredentials::new(*current.lock().expect("no panic while it is held")).user("app");
    let url = format!("redis://127.0.0.1:{}", server.port());
    let builder = Redis::builder(&url).credentials(credentials);
    let limit = limit(builder.connect().await.expect("the first password"));
    limit.acquire(b"key", 1).await.expect("room");
    // Both passwords are valid for a while, and then only the second.
    server.command(&["ACL", "SETUSER", "app", ">second"]).await;
    *password.lock().expect("no panic while it is held") = "second";
    server.command(&["ACL", "SETUSER", "app", "<first"]).await;
    limit.acquire(b"key", 1).await.expect("an open connection stays");
    server.command(&["CLIENT", "KILL", "USER", "app"]).await;
    until("it is connected with the second password", async || limit.acquire(b"key", 1).await.is_ok()).await;
    // With the first password it cannot connect.
    *password.lock().expect("no panic while it is held") = "first";
    server.command(&["CLIENT", "KILL", "USER", "app"]).await;
    until("it is not connected", async || limit.acquire(b"key", 1).await.is_err()).await;
    *password.lock().expect("no panic while it is held") = "second";
    until("it is connected again", async || limit.acquire(b"key", 1).await.is_ok()).await;
    assert!(!format!("{:?}", RedisCredentials::new("secret").user("app")).contains("secret"));
}

async fn a_panic_of_the_credentials_is_a_failed_attempt() {
    let server = RedisServer::start().await;
    let builder = Redis::builder(server.url()).credentials(|| panic!("as a test asked for"));
    let error = builder.connect().await.expect_err("no credentials");
    assert!(matches!(&error, RedisError::Unreachable { reason, .. } if reason.contains("panic")), "{error:?}");
    assert!(error.source().is_none());
}

async fn a_server_that_may_evict_keys_is_a_concern() {
    for (policy, most, is_concern) in
        [("allkeys-lru", "100mb", true), ("noeviction", "100mb", false), ("allkeys-lru", "0", false)]
    {
        let server = RedisServer::start_with(&["--maxmemory-policy", policy, "--maxmemory", most]).await;
        let store = Redis::builder(server.url()).connect().await.unwrap();
        let (limit, flusher) = Exact::builder(store, Quota::new(100, millis(1000))).build().unwrap();
        tokio::spawn(flusher.run());
        // The second call comes after the answer of the server about its memory.
        for _ in 0..2 {
            limit.acquire(b"key", 1).await.unwrap();
            tokio::time::sleep(millis(300)).await;
        }
        let concern = limit.readings().store.concern;
        assert_eq!(concern.is_some(), is_concern, "{policy}, {most}: {concern:?}");
        assert!(concern.is_none_or(|concern| concern.contains(policy) && concern.contains("104857600")));
    }
}
