use super::forwarded::{address_of_element, address_of_node, entries_from_right};
use crate::error::ConfigError;
use http::{HeaderName, Request, header};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// One subscriber has at least that much: RIPE-690 and RFC 6177 give a home a /56 or a /48, and a single network
/// is a /64.
const DEFAULT_IPV6_PREFIX: u8 = 64;

/// The key of a client's requests is its IP address, from the connection or from what trusted proxies report.
///
/// ```
/// use std::{net::{IpAddr, SocketAddr}, time::Duration};
/// use axum::{body::Body, extract::ConnectInfo};
/// use hyper::Request;
/// use steadfast::{http::ClientAddress, rate_limit::{Keyed, Quota, RateLimit}};
///
/// # fn main() -> Result<(), steadfast::ConfigError> {
/// // One load balancer of our own stands in front, and adds the address that it sees to `X-Forwarded-For`.
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
/// [`default`](Self::default) takes the peer of the connection from a plain [`SocketAddr`] or [`IpAddr`] among the
/// request's extensions; [`new`](Self::new) from wherever your function finds it. All requests without any address
/// share the key `::`. axum puts its `ConnectInfo` there only if it serves
/// `app.into_make_service_with_connect_info::<SocketAddr>()`.
///
/// With [`trusted_proxies(n)`](Self::trusted_proxies) it is the `n`-th entry from the right of `X-Forwarded-For`, or of
/// `Forwarded` by [`by_forwarded`](Self::by_forwarded). The fields of that name count as one list in their order; the
/// other header is never read. Each trusted proxy adds one entry on the right: the address that it sees. A client can
/// write only what is further left, and that is not looked at.
///
/// | the list | the key |
/// |---|---|
/// | has `n` entries or more, the `n`-th an address | that one |
/// | the `n`-th is `unknown`, `_hidden` or unreadable | the nearest address to its right, else the peer |
/// | has fewer than `n` entries | the peer |
///
/// A list that is too short has not passed all proxies, and could be the client's own. Where clients can reach this
/// process without the proxies, they can forge any list: close that way in the network.
///
/// # Which part of it
///
/// - IPv4 addresses count as a whole. An IPv4 address within IPv6 counts as itself: mapped (`::ffff:0:0/96`, as
///   dual-stack sockets report it), or translated (`64:ff9b::/96`, RFC 6052, as servers without IPv4 see their clients;
///   by its first 64 bits all of these would share one key).
/// - IPv6 addresses count by their first 64 bits, because a subscriber has at least all addresses with those bits, and
///   would otherwise get a fresh share for each. See [`ipv6_prefix`](Self::ipv6_prefix).
///
/// # Cost
///
/// Nothing is allocated. Entries left of the `n`-th are not read.
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

/// Where the address of the peer of a connection comes from.
pub trait PeerAddress<B> {
    /// The address, if it is known.
    fn peer_address(&self, request: &Request<B>) -> Option<IpAddr>;
}

/// From a plain [`SocketAddr`] or [`IpAddr`] among the extensions of the request.
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
    /// The peer is a plain [`SocketAddr`] or [`IpAddr`] among the extensions of the request.
    fn default() -> Self {
        Self::of_peer(InExtensions)
    }
}

impl<F> ClientAddress<F> {
    /// The peer is what this function finds in a request: in axum's `ConnectInfo`, or in your server's own extension.
    pub fn new<B>(peer: F) -> Self
    where
        F: Fn(&Request<B>) -> Option<IpAddr>,
    {
        Self::of_peer(peer)
    }

    fn of_peer(peer: F) -> Self {
        Self { peer, trusted_proxies: 0, header: ProxyHeader::XForwardedFor, ipv6_prefix: DEFAULT_IPV6_PREFIX }
    }

    /// How many proxies of your own a request passes, each of which adds one entry. Default: none, and no header is
    /// read, because any client can send one.
    pub fn trusted_proxies(self, trusted_proxies: usize) -> Self {
        Self { trusted_proxies, ..self }
    }

    /// The proxies add to `Forwarded` (RFC 7239). Default: to `X-Forwarded-For`, as most do unless they are configured
    /// otherwise. It is one or the other: a proxy that adds to one passes on what the client has written into the
    /// other.
    pub fn by_forwarded(self) -> Self {
        Self { header: ProxyHeader::Forwarded, ..self }
    }

    /// How many bits of an IPv6 address count. Fewer where subscribers have more addresses (56 or 48); 128 where each
    /// address is one client. Default: 64.
    ///
    /// # Errors
    ///
    /// It must be from 1 to 128.
    pub fn ipv6_prefix(self, bits: u8) -> Result<Self, ConfigError> {
        if !(1..=128).contains(&bits) {
            return Err(ConfigError::new("client_address.ipv6_prefix", bits, "must be from 1 to 128"));
        }
        Ok(Self { ipv6_prefix: bits, ..self })
    }

    /// The key of the client that has sent this request.
    pub fn of<B>(&self, request: &Request<B>) -> IpAddr
    where
        F: PeerAddress<B>,
    {
        let address = self.reported(request).or_else(|| self.peer.peer_address(request));
        address.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |address| self.key_of(address))
    }

    /// A function that finds the key: for [`RateLimit::by_key`](crate::rate_limit::RateLimit::by_key).
    pub fn key<B>(self) -> impl Fn(&Request<B>) -> IpAddr + Clone
    where
        F: PeerAddress<B> + Clone,
    {
        move |request: &Request<B>| self.of(request)
    }

    /// What the trusted proxies report.
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

    /// The part of an address that counts.
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

/// The IPv4 address in one that is mapped or translated (the well-known prefix of RFC 6052).
fn ipv4_within(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
        }
        _ => None,
    }
}
