//! Where a URL leads: a host that can be looked up or dialled, and a port.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A host, and a port where one is given.
pub(crate) struct Place {
    /// A name or an address; an IPv6 address is without its brackets.
    pub(crate) host: String,
    /// 1 to 65535.
    pub(crate) port: Option<u16>,
}

/// Reads `host[:port]`, or says what is wrong with it.
pub(crate) fn read_place(text: &str) -> Result<Place, &'static str> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port = port.map(read_port).transpose()?;
    Ok(Place { host: read_host(host)?, port })
}

fn read_port(text: &str) -> Result<u16, &'static str> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|&port: &u16| digits && port > 0);
    port.ok_or("the port is not a number from 1 to 65535")
}

fn read_host(text: &str) -> Result<String, &'static str> {
    if let Some(address) = text.strip_prefix('[') {
        let address = address.strip_suffix(']').and_then(|address| address.parse::<Ipv6Addr>().ok());
        return Ok(address.ok_or("between brackets stands no IPv6 address")?.to_string());
    }
    if text.is_empty() {
        return Err("the host is missing");
    }
    if !text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')) {
        return Err("the host is not letters, digits, '.', '-' and '_', nor an IPv6 address in brackets");
    }
    let found = if is_numeric(text) { text.parse::<Ipv4Addr>().is_ok() } else { is_dns_name(text) };
    if found {
        Ok(text.to_owned())
    } else {
        Err("the host is not a name, nor an IPv4 address of four numbers")
    }
}

/// Whether it could be an address only: other programs read `0x7f.1` and `73616213` as one of IPv4.
fn is_numeric(host: &str) -> bool {
    let last = host.strip_suffix('.').unwrap_or(host).rsplit('.').next().unwrap_or_default();
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    last.bytes().all(|byte| byte.is_ascii_digit())
        || hex.is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn is_dns_name(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let is_label =
        |label: &str| (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-');
    host.len() <= 253 && host.split('.').all(is_label)
}
