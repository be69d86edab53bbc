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

/// A server: where it is, who connects to it, and what it has to be.
#[derive(Clone)]
pub(crate) struct Server {
    client: Client,
    /// For the credentials of now.
    target: Target,
    options: RedisOptions,
}

/// How a server is spoken to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RedisOptions {
    /// The time for a connection to be made and checked.
    pub(crate) connect_timeout: Duration,
    /// The time for the answer to a call, where the caller does not give up before.
    pub(crate) answer_timeout: Duration,
    /// Whether it must be part of a cluster, or must not.
    pub(crate) cluster: bool,
}

impl Server {
    /// The server of this target. Nothing is asked of it.
    pub(crate) fn of(target: &Target, options: RedisOptions) -> Result<Self, RedisError> {
        Ok(Self { client: target.client()?, target: target.clone(), options })
    }

    /// Another one, with the same user, password and so on.
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

    /// The server with this time for each answer.
    pub(crate) fn with_answer_timeout(&self, answer_timeout: Duration) -> Self {
        Self { options: RedisOptions { answer_timeout, ..self.options }, ..self.clone() }
    }

    /// The time for a connection to be made and checked.
    pub(crate) fn connect_timeout(&self) -> Duration {
        self.options.connect_timeout
    }

    /// Where it is: host and port, or a path.
    pub(crate) fn address(&self) -> String {
        self.client.get_connection_info().addr().to_string()
    }

    /// Its host, or nothing.
    pub(crate) fn host(&self) -> &str {
        match self.client.get_connection_info().addr() {
            ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host,
            _ => "",
        }
    }

    /// Connects and checks that it is what it has to be. `lost` is called when the connection breaks.
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
            // Who may not ask need not: it shows in the calls.
            Err(error) if Said::of(&error) == Some(Said::NotPermitted) => Ok(String::new()),
            Err(error) => Err(RedisError::of_connecting(&self.address(), &error)),
        };
        let server = info("server").await?;
        let cluster = info("cluster").await?;
        let address = || self.address();
        // Valkey says that it is a Redis of 7.2, for those who do not know it.
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

/// The value of a line of `INFO`.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

fn is_enough(version: &str) -> bool {
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<u32>().ok());
    let parts = |version: &str| {
        let mut parts = version.split('.');
        (number(parts.next()), number(parts.next()))
    };
    // One that is not understood may be anything.
    let (Some(major), minor) = parts(version) else { return true };
    (Some(major), minor) >= parts(LEAST_VERSION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_enough_from_6_2_on() {
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
