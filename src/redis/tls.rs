use super::error::RedisError;
use crate::error::ConfigError;
use ::redis::{Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, TlsCertificates};
use std::fmt;

/// The certificates of TLS connections to Redis, in PEM. `Debug` shows none of them.
///
/// ```no_run
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use steadfast::rate_limit::distributed::{Redis, RedisTls};
///
/// let tls = RedisTls::new()
///     .root_certificates(std::fs::read("/etc/redis/ca.pem")?)
///     .client_certificate(std::fs::read("/etc/redis/client.pem")?, std::fs::read("/etc/redis/client.key")?);
/// let store = Redis::builder("rediss://redis.internal:6380").tls(tls).connect_lazily()?;
/// # drop(store);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
#[must_use]
pub struct RedisTls {
    roots: Option<Vec<u8>>,
    client: Option<ClientTlsConfig>,
}

impl RedisTls {
    /// Trusts the certificate authorities of the system, and presents no certificate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts only servers with a certificate by one of these authorities.
    pub fn root_certificates(self, pem: impl Into<Vec<u8>>) -> Self {
        Self { roots: Some(pem.into()), ..self }
    }

    /// Presents this certificate if the server asks for one (`tls-auth-clients`).
    pub fn client_certificate(self, pem: impl Into<Vec<u8>>, key_pem: impl Into<Vec<u8>>) -> Self {
        Self { client: Some(ClientTlsConfig { client_cert: pem.into(), client_key: key_pem.into() }), ..self }
    }

    pub(super) fn client(&self, info: ConnectionInfo) -> Result<Client, RedisError> {
        if !matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
            let rule = "must be a rediss:// server if tls(..) is set";
            return Err(ConfigError::new("redis.tls", info.addr(), rule).into());
        }
        provide_cryptography(info.addr());
        let certificates = TlsCertificates { client_tls: self.client.clone(), root_cert: self.roots.clone() };
        Client::build_with_tls(info, certificates).map_err(|error| {
            let rule = format!("must be certificates and a key in PEM: {error}");
            ConfigError::new("redis.tls", "PEM", rule).into()
        })
    }
}

impl fmt::Debug for RedisTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("RedisTls");
        debug.field("roots", &self.roots.is_some()).field("client", &self.client.is_some()).finish()
    }
}

/// For a TLS address, installs the cryptography of `ring` for the process, if none is installed. Otherwise `rustls`
/// would panic in a program that contains no provider, or two.
pub(super) fn provide_cryptography(address: &ConnectionAddr) {
    if matches!(address, ConnectionAddr::TcpTls { .. }) && rustls::crypto::CryptoProvider::get_default().is_none() {
        // Another thread may have installed one first.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}
