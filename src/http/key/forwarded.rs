//! Parses the entries of `X-Forwarded-For` and `Forwarded` from the right. Entries on the left, which a client may have
//! written, are not read and cannot change how the rest is parsed.

use std::{
    iter,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str,
};

/// The longest text of an address with its port, with some reserve: `[ffff:...:255.255.255.255]:65535`.
const LONGEST: usize = 64;

/// Returns the entries of one field from the right, separated by commas outside of quoted strings. Skips empty entries,
/// as RFC 9110 (5.6.1.2) requires.
///
/// Reading goes from right to left. A quote opens or closes a string, unless an odd number of backslashes is directly
/// to its left. This is correct for every well-formed entry, and so for the entries of trusted proxies.
pub(super) fn entries_from_right(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut left = Some(field);
    iter::from_fn(move || {
        let text = left?;
        let (rest, entry) = match last_comma(text) {
            Some(comma) => (Some(&text[..comma]), &text[comma + 1..]),
            None => (None, text),
        };
        left = rest;
        Some(entry.trim_ascii())
    })
    .filter(|entry| !entry.is_empty())
}

/// The place of the last comma outside of quoted strings.
fn last_comma(text: &[u8]) -> Option<usize> {
    let mut quoted = false;
    for (place, byte) in text.iter().enumerate().rev() {
        match byte {
            b'"' if !is_escaped(&text[..place]) => quoted = !quoted,
            b',' if !quoted => return Some(place),
            _ => {}
        }
    }
    None
}

/// Whether the byte after this text is escaped: the text ends with an odd number of backslashes.
fn is_escaped(before: &[u8]) -> bool {
    before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// The address in the `for` parameter of an element of `Forwarded` (RFC 7239). `None` if there is no `for`, more than
/// one, or one that is no address.
pub(super) fn address_of_element(element: &[u8]) -> Option<IpAddr> {
    let mut found = None;
    let mut rest = Some(element);
    while let Some(text) = rest {
        let (pair, after) = match first_semicolon(text) {
            Some(place) => (&text[..place], Some(&text[place + 1..])),
            None => (text, None),
        };
        rest = after;
        let Some(equals) = pair.iter().position(|byte| *byte == b'=') else { continue };
        if pair[..equals].trim_ascii().eq_ignore_ascii_case(b"for") {
            if found.is_some() {
                return None;
            }
            found = Some(pair[equals + 1..].trim_ascii());
        }
    }
    let mut unquoted = [0; LONGEST];
    address_of_node(unquote(found?, &mut unquoted)?)
}

/// The place of the first semicolon outside of quoted strings.
fn first_semicolon(text: &[u8]) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (place, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b';' if !quoted => return Some(place),
            _ => {}
        }
    }
    None
}

/// The value of a token or a quoted string. `None` if a quoted string is malformed, or too long for an address.
fn unquote<'text>(value: &'text [u8], unquoted: &'text mut [u8; LONGEST]) -> Option<&'text [u8]> {
    let Some(value) = value.strip_prefix(b"\"") else { return Some(value) };
    let value = value.strip_suffix(b"\"").filter(|value| !is_escaped(value))?;
    let (mut length, mut escaped) = (0, false);
    for byte in value {
        match byte {
            b'\\' if !escaped => escaped = true,
            b'"' if !escaped => return None,
            _ => {
                *unquoted.get_mut(length)? = *byte;
                length += 1;
                escaped = false;
            }
        }
    }
    unquoted.get(..length)
}

/// The address of a node. `None` for `unknown`, an obfuscated name such as `_hidden`, and any other text. A node is:
///
/// - an IPv4 address, with or without a port,
/// - an IPv6 address in brackets, with or without a port, or
/// - an IPv6 address without brackets, as many proxies write it in `X-Forwarded-For`.
pub(super) fn address_of_node(node: &[u8]) -> Option<IpAddr> {
    if node.len() > LONGEST {
        return None;
    }
    let node = str::from_utf8(node).ok()?;
    if let Some(bracketed) = node.strip_prefix('[') {
        let (address, port) = bracketed.split_once(']')?;
        let address = address.parse::<Ipv6Addr>().ok()?;
        return (port.is_empty() || port.strip_prefix(':').is_some_and(is_port)).then_some(address.into());
    }
    if let Ok(address) = node.parse::<IpAddr>() {
        return Some(address);
    }
    let (address, port) = node.split_once(':')?;
    let address = address.parse::<Ipv4Addr>().ok()?;
    is_port(port).then_some(address.into())
}

/// Whether the text is a port or an obfuscated port (RFC 7239, 6.2 and 6.3).
fn is_port(text: &str) -> bool {
    let is_obfuscated = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
    };
    match text.strip_prefix('_') {
        Some(name) => is_obfuscated(name),
        None => (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()),
    }
}
