use super::error::{RedisError, without_password};
#[cfg(feature = "redis-tls")]
use super::tls::RedisTls;
use ::redis::{Client, ConnectionInfo, IntoConnectionInfo, ProtocolVersion};
use std::{fmt, sync::Arc};

/// The user and the password for a Redis server. `Debug` shows no password.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisCredentials {
    user: Option<String>,
    password: String,
}

impl RedisCredentials {
    /// Returns credentials with this password, for the user of the URL, or for the default user if the URL has none.
    pub fn new(password: impl Into<String>) -> Self {
        Self { user: None, password: password.into() }
    }

    /// Sets the user, as in an ACL of the server, instead of the user of the URL.
    #[must_use]
    pub fn user(self, user: impl Into<String>) -> Self {
        Self { user: Some(user.into()), ..self }
    }
}

impl fmt::Debug for RedisCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisCredentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Returns the credentials for the next connection.
type Credentials = Arc<dyn Fn() -> RedisCredentials + Send + Sync>;

/// The settings of a builder that say where a server is, and how to connect to it.
#[derive(Clone)]
pub(crate) struct Target {
    place: Place,
    credentials: Option<Credentials>,
    #[cfg(feature = "redis-tls")]
    tls: Option<RedisTls>,
}

#[derive(Clone)]
/// The address of a server: a URL, or the parameters of the crate `redis`.
enum Place {
    Url(String),
    Info(Box<ConnectionInfo>),
}

impl Target {
    pub(crate) fn of(url: &str) -> Self {
        Self {
            place: Place::Url(url.to_owned()),
            credentials: None,
            #[cfg(feature = "redis-tls")]
            tls: None,
        }
    }

    pub(crate) fn at(self, info: ConnectionInfo) -> Self {
        Self { place: Place::Info(Box::new(info)), ..self }
    }

    pub(crate) fn with_credentials(self, credentials: impl Fn() -> RedisCredentials + Send + Sync + 'static) -> Self {
        Self { credentials: Some(Arc::new(credentials)), ..self }
    }

    #[cfg(feature = "redis-tls")]
    pub(crate) fn with_tls(self, tls: RedisTls) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// Returns the parameters of the connections. Sends nothing to the server.
    pub(super) fn client(&self) -> Result<Client, RedisError> {
        let of_place = |error: ::redis::RedisError| RedisError::Url {
            url: self.to_string(),
            reason: error.detail().map_or_else(|| error.to_string(), |detail| format!("{error}: {detail}")),
        };
        let info = match &self.place {
            Place::Url(url) => url.as_str().into_connection_info().map_err(of_place)?,
            Place::Info(info) => (**info).clone(),
        };
        let tcp = info.tcp_settings().clone().set_nodelay(true);
        // Does not report the name and the version of the library to the server. That saves each new connection two
        // commands.
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3).set_skip_set_lib_name();
        let info = info.set_tcp_settings(tcp).set_redis_settings(settings);
        #[cfg(feature = "redis-tls")]
        if let Some(tls) = &self.tls {
            return tls.client(info);
        }
        #[cfg(feature = "redis-tls")]
        super::tls::provide_cryptography(info.addr());
        Client::open(info).map_err(of_place)
    }

    /// Returns the parameters with the current credentials.
    pub(super) fn with_credentials_of_now(&self, client: &Client) -> Result<Client, ::redis::RedisError> {
        let Some(credentials) = &self.credentials else { return Ok(client.clone()) };
        let (info, RedisCredentials { user, password }) = (client.get_connection_info().clone(), credentials());
        let settings = info.redis_settings().clone().set_password(password);
        let settings = match user {
            Some(user) => settings.set_username(user),
            None => settings,
        };
        Client::open(info.set_redis_settings(settings))
    }
}

/// Writes the URL or the address, without what may be a password.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Url(url) => f.write_str(&without_password(url)),
            Place::Info(info) => write!(f, "{}", info.addr()),
        }
    }
}

/// The methods of a builder that has a [`Target`].
macro_rules! target_settings {
    () => {
        /// Connects with these parameters of the crate `redis`, instead of the URL. To use the parameters of an
        /// existing `redis::Client`, pass `client.get_connection_info().clone()`. The connections still use RESP3 and
        /// `TCP_NODELAY`, and are not shared with that client.
        pub fn connection_info(self, info: ::redis::ConnectionInfo) -> Self {
            Self { target: self.target.at(info), ..self }
        }

        /// Calls this function for the credentials of each new connection, instead of those of the URL or of
        /// `connection_info`. To rotate credentials, return the new ones: the next connection uses them. An open
        /// connection stays until the server ends it or demands a new authentication, and is then replaced. Default:
        /// the credentials of the URL or of `connection_info`.
        ///
        /// The function runs in the task that connects, and must not block. A panic in it is a failed attempt.
        pub fn credentials(
            self,
            credentials: impl Fn() -> $crate::redis::RedisCredentials + Send + Sync + 'static,
        ) -> Self {
            Self { target: self.target.with_credentials(credentials), ..self }
        }

        /// Sets the certificates of connections to a `rediss://` server. Default: trusts the certificates that the
        /// system trusts, and presents none.
        #[cfg(feature = "redis-tls")]
        pub fn tls(self, tls: $crate::redis::RedisTls) -> Self {
            Self { target: self.target.with_tls(tls), ..self }
        }
    };
}
pub(crate) use target_settings;
