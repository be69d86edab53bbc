use super::forwarded::{address_of_element, address_of_node, entries_from_right};
use crate::error::ConfigError;
use http::{HeaderName, Request, header};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The default for how many bits of an IPv6 address count. A subscriber of an internet provider has at least a /64,
/// which is a single network. RIPE-690 and RFC 6177 give a home a /56 or a /48.
const DEFAULT_IPV6_PREFIX: u8 = 64;

/// Keys requests by the IP address of the client, taken from the connection or from the report of trusted proxies.
///
/// ```
/// use std::{net::{IpAddr, SocketAddr}, time::Duration};
/// use axum::{body::Body, extract::ConnectInfo};
/// use hyper::Request;
/// use steadfast::{http::ClientAddress, rate_limit::{Keyed, Quota, RateLimit}};
///
/// # fn main() -> Result<(), steadfast::ConfigError> {
/// // One load balancer of our own appends the address that it sees to `X-Forwarded-For`.
/// let client = ClientAddress::new(|request: &Request<Body>| {
///     request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip())
/// })
/// .trusted_proxies(1);
///
/// let clients = Keyed::<IpAddr>::builder(100_000, Quota::new(10, Duration::from_secs(1))).build()?;
/// let limit = RateLimit::by_key(clients, client.key());
/// # let _ = limit;
/// # Ok(())
/// # }
/// ```
///
/// # Which address
///
/// [`default`](Self::default) takes the peer of the connection from a plain [`SocketAddr`] or [`IpAddr`] in the
/// request's extensions. [`new`](Self::new) takes a function that finds the peer. All requests without an address share
/// the key `::`. axum sets its `ConnectInfo` only if it serves
/// `app.into_make_service_with_connect_info::<SocketAddr>()`.
///
/// With [`trusted_proxies(n)`](Self::trusted_proxies) the address is the `n`-th entry from the right of
/// `X-Forwarded-For`, or of `Forwarded` with [`by_forwarded`](Self::by_forwarded). All headers of that name form one
/// list in their order; the other header is never read. Each trusted proxy appends one entry on the right: the address
/// that it sees. A client can only write entries further left, which are not read.
///
/// | the list | the address |
/// |---|---|
/// | has `n` entries or more, and the `n`-th is an address | the `n`-th entry |
/// | the `n`-th is `unknown`, `_hidden` or unreadable | the nearest address to its right, else the peer |
/// | has fewer than `n` entries | the peer |
///
/// A request whose list is too short has not passed all proxies, and the client may have written the list. Clients that
/// can reach this process without the proxies can forge any list: block direct access in the network.
///
/// # Which part of the address
///
/// - IPv4 addresses count as a whole.
/// - An IPv6 address that contains an IPv4 address counts as that IPv4 address. Otherwise all such clients would share
///   one key, because their first 64 bits are equal. The IPv6 address may be mapped (`::ffff:0:0/96`, as dual-stack
///   sockets report it) or translated (`64:ff9b::/96`, RFC 6052, as servers without IPv4 see their clients).
/// - All other IPv6 addresses count by their first 64 bits. A subscriber has at least all addresses with those bits,
///   and would otherwise get a new quota with each. See [`ipv6_prefix`](Self::ipv6_prefix).
///
/// # Cost
///
/// No allocation. Entries left of the `n`-th are not read.
#[doc(alias("PeerIpKeyExtractor", "SmartIpKeyExtractor", "X-Forwarded-For"))]
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct ClientAddress<F = InExtensions> {
    peer: F,
    trusted_proxies: usize,
    header: ProxyHeader,
    ipv6_prefix: u8,
}

#[derive(Clone, Copy, Debug)]
enum ProxyHeader {
    XForwardedFor,
    Forwarded,
}

/// Finds the address of the peer of a connection.
pub trait PeerAddress<B> {
    /// Returns the address, if it is known.
    fn peer_address(&self, request: &Request<B>) -> Option<IpAddr>;
}

/// Reads a plain [`SocketAddr`] or [`IpAddr`] from the extensions of the request.
#[derive(Clone, Copy, Debug, Default)]
pub struct InExtensions;

impl<B> PeerAddress<B> for InExtensions {
    fn peer_address(&self, request: &Request<B>) -> Option<IpAddr> {
        let extensions = request.extensions();
        extensions.get().map(SocketAddr::ip).or_else(|| extensions.get().copied())
    }
}

impl<B, F: Fn(&Request<B>) -> Option<IpAddr>> PeerAddress<B> for F {
    fn peer_address(&self, request: &Request<B>) -> Option<IpAddr> {
        self(request)
    }
}

impl Default for ClientAddress {
    /// Reads the peer from a plain [`SocketAddr`] or [`IpAddr`] in the extensions of the request.
    fn default() -> Self {
        Self::of_peer(InExtensions)
    }
}

impl<F> ClientAddress<F> {
    /// Takes the peer that this function finds in a request, in axum's `ConnectInfo` or an extension of your own
    /// server.
    pub fn new<B>(peer: F) -> Self
    where
        F: Fn(&Request<B>) -> Option<IpAddr>,
    {
        Self::of_peer(peer)
    }

    fn of_peer(peer: F) -> Self {
        Self { peer, trusted_proxies: 0, header: ProxyHeader::XForwardedFor, ipv6_prefix: DEFAULT_IPV6_PREFIX }
    }

    /// Sets the number of your own proxies that a request passes. Each of them appends one entry. Default: 0, with
    /// which no header is read, because any client can send one.
    pub fn trusted_proxies(self, trusted_proxies: usize) -> Self {
        Self { trusted_proxies, ..self }
    }

    /// Reads `Forwarded` (RFC 7239) instead of `X-Forwarded-For`, which most proxies append to by default. Only one of
    /// the two is ever read: a proxy that appends to one passes on the client's own value of the other.
    pub fn by_forwarded(self) -> Self {
        Self { header: ProxyHeader::Forwarded, ..self }
    }

    /// Sets how many bits of an IPv6 address count. Use fewer (56 or 48) if each client has a larger network, and 128
    /// if each address is one client. Default: 64.
    ///
    /// # Errors
    ///
    /// `bits` is not from 1 to 128.
    pub fn ipv6_prefix(self, bits: u8) -> Result<Self, ConfigError> {
        if !(1..=128).contains(&bits) {
            return Err(ConfigError::new("client_address.ipv6_prefix", bits, "must be from 1 to 128"));
        }
        Ok(Self { ipv6_prefix: bits, ..self })
    }

    /// Returns the key of the client that sent this request.
    pub fn of<B>(&self, request: &Request<B>) -> IpAddr
    where
        F: PeerAddress<B>,
    {
        let address = self.reported(request).or_else(|| self.peer.peer_address(request));
        address.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |address| self.key_of(address))
    }

    /// Returns a function that finds the key, for [`RateLimit::by_key`](crate::rate_limit::RateLimit::by_key).
    pub fn key<B>(self) -> impl Fn(&Request<B>) -> IpAddr + Clone
    where
        F: PeerAddress<B> + Clone,
    {
        move |request: &Request<B>| self.of(request)
    }

    /// The address that the trusted proxies report.
    fn reported<B>(&self, request: &Request<B>) -> Option<IpAddr> {
        let furthest = self.trusted_proxies.checked_sub(1)?;
        let name = match self.header {
            ProxyHeader::XForwardedFor => X_FORWARDED_FOR,
            ProxyHeader::Forwarded => header::FORWARDED,
        };
        let fields = request.headers().get_all(name).iter().rev();
        let entries = fields.flat_map(|field| entries_from_right(field.as_bytes()));
        let mut nearest = None;
        for (place, entry) in entries.enumerate() {
            let address = match self.header {
                ProxyHeader::XForwardedFor => address_of_node(entry),
                ProxyHeader::Forwarded => address_of_element(entry),
            };
            nearest = address.or(nearest);
            if place == furthest {
                return nearest;
            }
        }
        None
    }

    /// Returns the part of the address that is the key.
    fn key_of(&self, address: IpAddr) -> IpAddr {
        match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(address) => match ipv4_within(address) {
                Some(address) => IpAddr::V4(address),
                None => {
                    let others = u128::MAX.checked_shr(u32::from(self.ipv6_prefix)).unwrap_or(0);
                    IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !others))
                }
            },
        }
    }
}

/// The IPv4 address inside a mapped or translated IPv6 address (the well-known prefix of RFC 6052).
fn ipv4_within(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
        }
        _ => None,
    }
}
