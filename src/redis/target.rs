use super::error::{RedisError, without_password};
#[cfg(feature = "redis-tls")]
use super::tls::RedisTls;
use ::redis::{Client, ConnectionInfo, IntoConnectionInfo, ProtocolVersion};
use std::{fmt, sync::Arc};

/// Who connects to a Redis server. `Debug` shows no password.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisCredentials {
    user: Option<String>,
    password: String,
}

impl RedisCredentials {
    /// The user of the URL, or the default one where it has none, with this password.
    pub fn new(password: impl Into<String>) -> Self {
        Self { user: None, password: password.into() }
    }

    /// This user, as in an ACL of the server, instead.
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

/// Gives the credentials of the next connection.
type Credentials = Arc<dyn Fn() -> RedisCredentials + Send + Sync>;

/// Where a server is, and how a connection to it is made, as builders collect it.
#[derive(Clone)]
pub(crate) struct Target {
    place: Place,
    credentials: Option<Credentials>,
    #[cfg(feature = "redis-tls")]
    tls: Option<RedisTls>,
}

#[derive(Clone)]
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

    /// The parameters of the connections. Nothing is asked of the server.
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
        // Two commands less for each connection.
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

    /// The same parameters, with the credentials of now.
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

/// The URL or the address, without what may be a password.
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
        /// Connects as these parameters of the crate `redis` say, instead of the URL: those of a `redis::Client` that a
        /// program has already are `client.get_connection_info().clone()`. Connections are made with RESP3 and
        /// `TCP_NODELAY` all the same, and are not shared with that client.
        pub fn connection_info(self, info: ::redis::ConnectionInfo) -> Self {
            Self { target: self.target.at(info), ..self }
        }

        /// Asks this function who connects, each time that a connection is made, instead of the URL. So credentials can
        /// be rotated: from then on the function gives the new ones, and the next connection has them. One that is open
        /// stays so until the server ends it or no longer knows it, and is then replaced. Default: those of the URL.
        ///
        /// The function runs in the task that connects, and must not block. A panic in it is a failed attempt.
        pub fn credentials(
            self,
            credentials: impl Fn() -> $crate::redis::RedisCredentials + Send + Sync + 'static,
        ) -> Self {
            Self { target: self.target.with_credentials(credentials), ..self }
        }

        /// Trusts these certificates, and shows these, in a connection to a `rediss://` server. Default: the
        /// certificates that the system trusts, and none to show.
        #[cfg(feature = "redis-tls")]
        pub fn tls(self, tls: $crate::redis::RedisTls) -> Self {
            Self { target: self.target.with_tls(tls), ..self }
        }
    };
}
pub(crate) use target_settings;
