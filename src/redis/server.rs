use super::{
    error::{LEAST_VERSION, RedisError},
    said::Said,
    target::Target,
};
use ::redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, PushInfo, Value, aio::MultiplexedConnection, cmd,
};
use std::time::Duration;
use tokio::time::timeout;

/// A server: its address, the credentials, and the requirements on it.
#[derive(Clone)]
pub(crate) struct Server {
    client: Client,
    /// The source of the current credentials.
    target: Target,
    options: RedisOptions,
}

/// The timeouts of a connection, and the kind of the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RedisOptions {
    /// The time limit for a new connection and the check of its server.
    pub(crate) connect_timeout: Duration,
    /// The time limit for the answer to a call that the caller does not give up earlier.
    pub(crate) answer_timeout: Duration,
    /// Whether the server must be part of a cluster. If `false`, it must not be part of one.
    pub(crate) cluster: bool,
}

impl Server {
    /// Returns the server of this target. Sends nothing to it.
    pub(crate) fn of(target: &Target, options: RedisOptions) -> Result<Self, RedisError> {
        Ok(Self { client: target.client()?, target: target.clone(), options })
    }

    /// Returns the server at this address, with the user, the password and all other settings of this server.
    pub(crate) fn at(&self, host: &str, port: u16) -> Result<Self, RedisError> {
        let info: &ConnectionInfo = self.client.get_connection_info();
        let address = match info.addr() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => ConnectionAddr::TcpTls {
                host: host.to_owned(),
                port,
                insecure: *insecure,
                tls_params: tls_params.clone(),
            },
            _ => ConnectionAddr::Tcp(host.to_owned(), port),
        };
        let client = Client::open(info.clone().set_addr(address.clone()))
            .map_err(|error| RedisError::Url { url: address.to_string(), reason: error.to_string() })?;
        Ok(Self { client, target: self.target.clone(), options: self.options })
    }

    /// Returns this server with another time limit for answers.
    pub(crate) fn with_answer_timeout(&self, answer_timeout: Duration) -> Self {
        Self { options: RedisOptions { answer_timeout, ..self.options }, ..self.clone() }
    }

    /// Returns the time limit for a new connection and the check of its server.
    pub(crate) fn connect_timeout(&self) -> Duration {
        self.options.connect_timeout
    }

    /// Returns the address: host and port, or a path.
    pub(crate) fn address(&self) -> String {
        self.client.get_connection_info().addr().to_string()
    }

    /// Returns the host, or an empty string for a Unix socket.
    pub(crate) fn host(&self) -> &str {
        match self.client.get_connection_info().addr() {
            ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host,
            _ => "",
        }
    }

    /// Connects and checks the server. Calls `lost` when the connection breaks.
    pub(crate) async fn connect(
        &self,
        lost: impl Fn() + Send + Sync + 'static,
    ) -> Result<MultiplexedConnection, RedisError> {
        let RedisOptions { connect_timeout, answer_timeout, .. } = self.options;
        let push = move |push: PushInfo| {
            if push.kind == ::redis::PushKind::Disconnection {
                lost();
            }
            Ok::<(), ()>(())
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(connect_timeout))
            .set_response_timeout(Some(answer_timeout))
            .set_push_sender(push);
        let connect = async {
            let failed = |error| RedisError::of_connecting(&self.address(), &error);
            let client = self.target.with_credentials_of_now(&self.client).map_err(failed)?;
            let connection = client.get_multiplexed_async_connection_with_config(&config).await;
            let mut connection = connection.map_err(failed)?;
            self.check(&mut connection).await?;
            Ok(connection)
        };
        timeout(connect_timeout, connect).await.unwrap_or_else(|_| {
            let reason = format!("no connection within {connect_timeout:?}");
            Err(RedisError::Unreachable { address: self.address(), reason })
        })
    }

    async fn check(&self, connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
        let mut info = async |section: &str| match cmd("INFO").arg(section).query_async::<Value>(connection).await {
            Ok(Value::BulkString(text)) => Ok(String::from_utf8_lossy(&text).into_owned()),
            Ok(Value::VerbatimString { text, .. } | Value::SimpleString(text)) => Ok(text),
            Ok(_) => Ok(String::new()),
            // Without permission for `INFO`, the server is not checked. If it is the wrong one, the calls fail.
            Err(error) if Said::of(&error) == Some(Said::NotPermitted) => Ok(String::new()),
            Err(error) => Err(RedisError::of_connecting(&self.address(), &error)),
        };
        let server = info("server").await?;
        let cluster = info("cluster").await?;
        let address = || self.address();
        // Valkey reports `redis_version` 7.2, for compatibility.
        if let Some(version) = field(&server, "redis_version").filter(|version| !is_enough(version)) {
            return Err(RedisError::TooOld { address: address(), version: version.to_owned(), least: LEAST_VERSION });
        }
        match (field(&cluster, "cluster_enabled"), self.options.cluster) {
            (Some("1"), false) => Err(RedisError::NeedsCluster { address: address() }),
            (Some("0"), true) => Err(RedisError::NotACluster { address: address() }),
            _ => Ok(()),
        }
    }
}

/// Returns the value of a field of `INFO`.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// Returns whether this version is [`LEAST_VERSION`] or a later one.
fn is_enough(version: &str) -> bool {
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<u32>().ok());
    let parts = |version: &str| {
        let mut parts = version.split('.');
        (number(parts.next()), number(parts.next()))
    };
    // A version that does not begin with a number is accepted.
    let (Some(major), minor) = parts(version) else { return true };
    (Some(major), minor) >= parts(LEAST_VERSION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_from_6_2_on_are_accepted() {
        for (version, enough) in [
            ("6.0.16", false),
            ("5.0.7", false),
            ("6.2.0", true),
            ("6.10.1", true),
            ("7.2.4", true),
            ("unstable", true),
        ] {
            assert_eq!(is_enough(version), enough, "{version}");
        }
    }

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let info = "# Server\r\nredis_version_x:1\r\nredis_version:7.0.15\r\n";
        assert_eq!(field(info, "redis_version"), Some("7.0.15"));
        assert_eq!(field(info, "redis"), None);
    }
}
