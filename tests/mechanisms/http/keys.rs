//! The keys of requests: client address, header, authority.

use hyper::{
    Request, Uri,
    header::{HeaderName, HeaderValue},
};
use proptest::prelude::*;
use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::Duration,
};
use steadfast::{
    http::{AuthorityKey, ClientAddress, authority, header},
    rate_limit::{Keyed, Quota, RateLimit},
};
use tower::{ServiceExt, service_fn};

const PEER: &str = "192.0.2.200";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn request(fields: &[(&str, &[u8])]) -> Request<()> {
    let mut request = Request::new(());
    for (name, value) in fields {
        let value = HeaderValue::from_bytes(value).unwrap();
        request.headers_mut().append(name.parse::<HeaderName>().unwrap(), value);
    }
    request.extensions_mut().insert(SocketAddr::new(ip(PEER), 4711));
    request
}

#[test]
fn the_peer_comes_from_extensions_or_from_a_function() {
    let mut request = Request::new(());
    let client = ClientAddress::default();
    assert_eq!(client.of(&request), ip("::"));
    request.extensions_mut().insert(ip("192.0.2.1"));
    assert_eq!(client.of(&request), ip("192.0.2.1"));
    request.extensions_mut().insert(SocketAddr::new(ip("192.0.2.2"), 80));
    assert_eq!(client.of(&request), ip("192.0.2.2"));
    let function = |request: &Request<()>| request.extensions().get::<u32>().map(|bits| IpAddr::V4((*bits).into()));
    let client = ClientAddress::new(function);
    assert_eq!(client.of(&request), ip("::"));
    request.extensions_mut().insert(0xC000_0203_u32);
    assert_eq!(client.of(&request), ip("192.0.2.3"));
}

#[test]
fn ipv6_addresses_are_mapped_to_ipv4_or_cut_to_their_prefix() {
    let key = |prefix: u8, text: &str| {
        let mut request = Request::new(());
        request.extensions_mut().insert(ip(text));
        ClientAddress::default().ipv6_prefix(prefix).unwrap().of(&request)
    };
    for (prefix, address, expected) in [
        (64, "192.0.2.1", "192.0.2.1"),
        (64, "::ffff:192.0.2.1", "192.0.2.1"),
        (64, "64:ff9b::192.0.2.1", "192.0.2.1"),
        (64, "64:ff9b::1:192.0.2.1", "64:ff9b::"),
        (64, "::192.0.2.1", "::"),
        (64, "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        (56, "2001:db8:1:2ff:3:4:5:6", "2001:db8:1:200::"),
        (128, "2001:db8:1:2:3:4:5:6", "2001:db8:1:2:3:4:5:6"),
        (127, "2001:db8::7", "2001:db8::6"),
        (1, "ffff::1", "8000::"),
    ] {
        assert_eq!(key(prefix, address), ip(expected), "{address}/{prefix}");
    }
}

#[test]
fn a_prefix_is_from_1_to_128() {
    for bits in [0, 129, 255] {
        let error = ClientAddress::default().ipv6_prefix(bits).unwrap_err();
        assert_eq!(error.to_string(), format!("client_address.ipv6_prefix = {bits}: must be from 1 to 128"));
    }
}

#[test]
fn the_entries_of_trusted_proxies_are_counted_from_the_right() {
    let table: &[(usize, &[&str], &str)] = &[
        (0, &["192.0.2.1"], PEER),
        (1, &["192.0.2.1"], "192.0.2.1"),
        (1, &["198.51.100.1, 192.0.2.1"], "192.0.2.1"),
        (2, &["198.51.100.1, 192.0.2.1"], "198.51.100.1"),
        (2, &["198.51.100.1", "192.0.2.1"], "198.51.100.1"),
        (2, &["203.0.113.1, 198.51.100.1", "192.0.2.1"], "198.51.100.1"),
        (3, &["203.0.113.1, 198.51.100.1", "192.0.2.1"], "203.0.113.1"),
        // Too short: the request has not passed all proxies.
        (4, &["203.0.113.1, 198.51.100.1", "192.0.2.1"], PEER),
        (1, &[], PEER),
        (1, &["", " , ,"], PEER),
        (usize::MAX, &["192.0.2.1"], PEER),
        // Empty entries do not count.
        (2, &["198.51.100.1,, ,192.0.2.1, "], "198.51.100.1"),
        // Unreadable entries count.
        (1, &["198.51.100.1, unknown"], PEER),
        (2, &["198.51.100.1, _hidden, 192.0.2.1"], "192.0.2.1"),
        (3, &["198.51.100.1, _hidden, 192.0.2.1"], "198.51.100.1"),
        (2, &["192.0.2.256, 192.0.2.1"], "192.0.2.1"),
        (1, &["192.0.2.1:4711"], "192.0.2.1"),
        (1, &["[2001:db8::1]:4711"], "2001:db8::"),
        (1, &["[2001:db8::1]"], "2001:db8::"),
        (1, &["2001:db8::1"], "2001:db8::"),
        (1, &["::ffff:192.0.2.1"], "192.0.2.1"),
        (1, &["192.0.2.1:"], PEER),
        (1, &["192.0.2.1:x"], PEER),
        (1, &["[2001:db8::1]x"], PEER),
        (1, &["[192.0.2.1]"], PEER),
        (1, &["for=192.0.2.1"], PEER),
    ];
    for (proxies, fields, expected) in table {
        let mut all: Vec<_> = fields.iter().map(|field| ("x-forwarded-for", field.as_bytes())).collect();
        // `Forwarded` is never read.
        all.push(("forwarded", b"for=203.0.113.99"));
        let client = ClientAddress::default().trusted_proxies(*proxies);
        assert_eq!(client.of(&request(&all)), ip(expected), "{proxies} of {fields:?}");
    }
}

#[test]
fn the_elements_of_forwarded_may_be_quoted() {
    let table: &[(usize, &[&str], &str)] = &[
        (0, &["for=192.0.2.1"], PEER),
        (1, &["for=192.0.2.1"], "192.0.2.1"),
        (1, &["For=\"192.0.2.1\""], "192.0.2.1"),
        (1, &["proto=http;by=203.0.113.43 ; FOR = 192.0.2.1"], "192.0.2.1"),
        (1, &["for=\"[2001:db8::1]:4711\""], "2001:db8::"),
        (1, &["for=\"[2001:db8::1]\";host=\"a,b;for=192.0.2.9\""], "2001:db8::"),
        (1, &["for=\"192.0.2.1:_port\""], "192.0.2.1"),
        (1, &["for=\"\\192.0.2.1\""], "192.0.2.1"),
        (2, &["for=198.51.100.1", "for=192.0.2.1"], "198.51.100.1"),
        (2, &["for=198.51.100.1, for=192.0.2.1"], "198.51.100.1"),
        // A host chosen by the client and quoted by the proxy.
        (1, &["for=192.0.2.1;host=\"a\\\", for=203.0.113.9;x=\\\"b\""], "192.0.2.1"),
        (1, &["for=192.0.2.1;host=\"a\\\\\""], "192.0.2.1"),
        // A quote that the client left open.
        (1, &["for=\"203.0.113.9, for=192.0.2.1"], "192.0.2.1"),
        (1, &["\"", "for=192.0.2.1"], "192.0.2.1"),
        (1, &["for=unknown"], PEER),
        (2, &["for=_hidden, for=192.0.2.1"], "192.0.2.1"),
        (2, &["for=198.51.100.1, for=_SEVKISEK"], "198.51.100.1"),
        (1, &["for=192.0.2.1;for=192.0.2.2"], PEER),
        (1, &["by=192.0.2.1"], PEER),
        (1, &["192.0.2.1"], PEER),
        (1, &["for=\"192.0.2.1"], PEER),
        (1, &["for=\"192.0.2.1\\\""], PEER),
    ];
    for (proxies, fields, expected) in table {
        let mut all: Vec<_> = fields.iter().map(|field| ("forwarded", field.as_bytes())).collect();
        all.push(("x-forwarded-for", b"203.0.113.99"));
        let client = ClientAddress::default().by_forwarded().trusted_proxies(*proxies);
        assert_eq!(client.of(&request(&all)), ip(expected), "{proxies} of {fields:?}");
    }
}

/// Header values that a client may forge, with quotes, commas and other separators more often than other bytes.
fn forged() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let byte = prop_oneof![
        3 => prop::sample::select(&b"\",;\\=[]: .1f"[..]),
        1 => prop_oneof![32..127_u8, 128..=255_u8, Just(b'\t')],
    ];
    prop::collection::vec(prop::collection::vec(byte, 0..40), 0..4)
}

proptest! {
    #[test]
    fn no_header_of_a_client_changes_its_key(
        fields in forged(),
        is_appended in any::<bool>(),
        reported in prop::collection::vec(any::<u32>(), 1..4),
        by_forwarded in any::<bool>(),
    ) {
        let name = if by_forwarded { "forwarded" } else { "x-forwarded-for" };
        let entries: Vec<_> = reported
            .iter()
            .map(|bits| IpAddr::V4((*bits).into()))
            .map(|address| match by_forwarded {
                true => format!("for=\"{address}\";host=\"a\\\",\""),
                false => address.to_string(),
            })
            .collect();
        let mut fields = fields;
        let trusted = entries.join(", ");
        match fields.last_mut() {
            Some(last) if is_appended => last.extend(format!(", {trusted}").as_bytes()),
            _ => fields.push(trusted.into_bytes()),
        }
        let fields: Vec<_> = fields.iter().map(|field| (name, &field[..])).collect();
        let client = ClientAddress::default().trusted_proxies(reported.len());
        let client = if by_forwarded { client.by_forwarded() } else { client };
        prop_assert_eq!(client.of(&request(&fields)), IpAddr::V4(reported[0].into()));
    }

    #[test]
    fn any_header_bytes_are_read_without_a_panic(fields in forged(), proxies in any::<usize>(), few in 0..5_usize) {
        for name in ["forwarded", "x-forwarded-for", "host", "tenant"] {
            let fields: Vec<_> = fields.iter().map(|field| (name, &field[..])).collect();
            let request = request(&fields);
            for proxies in [proxies, few] {
                let client = ClientAddress::default().trusted_proxies(proxies);
                client.of(&request);
                client.by_forwarded().of(&request);
            }
            let _ = (authority(&request).to_string(), header(HeaderName::from_static("tenant"))(&request));
        }
    }

    #[test]
    fn addresses_with_the_same_prefix_share_a_key(
        address in any::<u128>(),
        other in any::<u128>(),
        bits in 1..=128_u8,
    ) {
        let key = |address: u128| {
            let mut request = Request::new(());
            request.extensions_mut().insert(IpAddr::V6(Ipv6Addr::from_bits(address)));
            ClientAddress::default().ipv6_prefix(bits).unwrap().of(&request)
        };
        // With the highest bit set, both are outside of the ranges that contain IPv4 addresses.
        let (address, other) = (address | 1 << 127, other | 1 << 127);
        let shift = 128 - u32::from(bits);
        prop_assert_eq!(key(address) == key(other), address >> shift == other >> shift);
        let mask = (1 << shift) - 1;
        prop_assert_eq!(key(address), key(address & !mask | other & mask));
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_per_client_refuses_one_client_and_admits_another() {
    let clients = Keyed::<IpAddr>::builder(10, Quota::new(1, Duration::from_secs(1))).build().unwrap();
    let limit = RateLimit::by_key(clients, ClientAddress::default().trusted_proxies(1).key());
    let service = service_fn(async |_: Request<()>| Ok::<_, std::convert::Infallible>(()));
    let stack = steadfast::server().rate_limit(limit).service(service).unwrap();
    let from = |address: &str| stack.clone().oneshot(request(&[("x-forwarded-for", address.as_bytes())]));
    assert!(from("192.0.2.1").await.is_ok());
    assert!(from("6.6.6.6, 192.0.2.1").await.is_err());
    assert!(from("192.0.2.2").await.is_ok());
}

#[test]
fn requests_without_the_header_share_one_key() {
    let tenant = header(HeaderName::from_static("tenant"));
    assert_eq!(tenant(&request(&[("tenant", b"a\xff"), ("tenant", b"b")])), b"a\xff");
    assert_eq!(tenant(&request(&[("tenant", b"")])), b"");
    assert_eq!(tenant(&request(&[])), b"");
}

#[test]
fn an_authority_key_is_host_and_port() {
    let key = |uri: &str, host: &[u8]| {
        let mut request = request(&[("host", host)]);
        *request.uri_mut() = uri.parse().unwrap();
        authority(&request)
    };
    for (uri, host, expected) in [
        ("http://example.com/a?b", "other", "example.com"),
        ("http://example.com:80", "", "example.com"),
        ("https://EXAMPLE.com:443", "", "example.com"),
        ("https://example.com:80", "", "example.com:80"),
        ("http://example.com:443", "", "example.com:443"),
        ("wss://example.com:443", "", "example.com"),
        ("http://user:secret@example.com", "", "example.com"),
        ("http://[2001:DB8::1]:8080", "", "[2001:db8::1]:8080"),
        ("/orders", "Example.com:80", "example.com:80"),
        ("/orders", "user@example.com", "example.com"),
        ("/orders", "", ""),
        ("/orders", "not a host", ""),
        ("example.com:443", "other", "example.com:443"),
        ("*", "example.com", "example.com"),
    ] {
        assert_eq!(key(uri, host.as_bytes()).to_string(), expected, "{uri} {host}");
    }
    assert_eq!(key("/orders", b"\xff\xff").to_string(), "");
}

#[test]
fn equal_authorities_have_equal_hashes() {
    let key = |uri: &str| AuthorityKey::from(&uri.parse::<Uri>().unwrap());
    let state = RandomState::new();
    let long = "a-host-with-a-long-name.of-more-than-32-bytes.example.com";
    let same = [(long.to_uppercase(), long.to_owned()), ("user@Example.com:80".to_owned(), "example.com".to_owned())];
    for (one, other) in same {
        let (one, other) = (key(&format!("http://{one}")), key(&format!("http://{other}")));
        assert_eq!(one, other);
        assert_eq!(state.hash_one(&one), state.hash_one(&other));
    }
    assert_ne!(key("http://a"), key("http://b"));
    assert_ne!(key("http://a:1"), key("http://a:2"));
    assert_ne!(key("http://a"), key("http://a:443"));
    assert_eq!(key("http://a"), key("https://a:443"));
}
