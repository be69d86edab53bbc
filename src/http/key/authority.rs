use http::{Request, Uri, header, uri};
use std::{
    fmt,
    hash::{Hash, Hasher},
};

/// The host and port that a request is for, as [`authority`] finds them.
///
/// Comparison ignores the case of the host. The port is absent if it is the default of the scheme. `Display` shows the
/// host in lower case, and the port: `example.com:8443`.
///
/// Use this type to write the type of a field: `PerKey<Breaker, AuthorityKey, fn(&Request<B>) -> AuthorityKey>`, made
/// by `PerKey::new(http::authority as fn(&Request<B>) -> AuthorityKey, ..)`. `AuthorityKey::from(&uri)` makes a key to
/// look one entry up.
///
/// # Cost
///
/// A clone copies no text. A key made from a URI keeps the text of the whole URI in memory.
#[derive(Clone)]
pub struct AuthorityKey {
    /// `None` if the request names no host.
    authority: Option<uri::Authority>,
    /// `None` if the request names no port, or names the default port of its scheme.
    port: Option<u16>,
}

/// Returns the host and port that a request is for, as the key of a circuit breaker or a limit per called server.
///
/// They come from the URI, or from the `Host` header if the URI has no host. User names and passwords are not part of
/// the key. The default port is removed if the URI has a scheme (http, https, ws, wss). Without a scheme the port
/// stays, so `example.com:80` and `example.com` are two keys. All requests without a readable host share one key.
///
/// # Cost
///
/// No allocation for a URI with a host. A `Host` header is copied once.
///
/// ```
/// use hyper::Request;
/// use steadfast::http;
///
/// let request = Request::get("https://user:secret@Example.COM:443/orders").body(()).unwrap();
/// assert_eq!(http::authority(&request).to_string(), "example.com");
/// let request = Request::get("/orders").header("host", "example.com:8080").body(()).unwrap();
/// assert_eq!(http::authority(&request).to_string(), "example.com:8080");
/// ```
pub fn authority<B>(request: &Request<B>) -> AuthorityKey {
    let key = AuthorityKey::from(request.uri());
    if key.authority.is_some() {
        return key;
    }
    let host = request.headers().get(header::HOST);
    let authority = host.and_then(|host| uri::Authority::try_from(host.as_bytes()).ok());
    AuthorityKey::new(authority, request.uri().scheme_str())
}

impl AuthorityKey {
    fn new(authority: Option<uri::Authority>, scheme: Option<&str>) -> Self {
        let default = match scheme {
            Some("http" | "ws") => Some(80),
            Some("https" | "wss") => Some(443),
            _ => None,
        };
        let port = authority.as_ref().and_then(uri::Authority::port_u16).filter(|port| Some(*port) != default);
        Self { authority, port }
    }

    /// The host in the case of the request, or empty if there is none.
    fn host(&self) -> &str {
        self.authority.as_ref().map_or("", uri::Authority::host)
    }
}

/// The key of requests to this URI, to look an entry up.
impl From<&Uri> for AuthorityKey {
    fn from(uri: &Uri) -> Self {
        Self::new(uri.authority().cloned(), uri.scheme_str())
    }
}

impl PartialEq for AuthorityKey {
    fn eq(&self, other: &Self) -> bool {
        self.port == other.port && self.host().eq_ignore_ascii_case(other.host())
    }
}

impl Eq for AuthorityKey {}

impl Hash for AuthorityKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // In chunks: calling the hasher for each byte costs more than the copy.
        for piece in self.host().as_bytes().chunks(32) {
            let mut lower = [0; 32];
            for (lower, byte) in lower.iter_mut().zip(piece) {
                *lower = byte.to_ascii_lowercase();
            }
            state.write(&lower);
        }
        self.port.hash(state);
    }
}

impl fmt::Display for AuthorityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for char in self.host().chars() {
            write!(f, "{}", char.to_ascii_lowercase())?;
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for AuthorityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuthorityKey({self})")
    }
}
