//! Addresses, hosts, origins and URLs from text: the names by which the server is reached. As in `values`,
//! each reader gives the value or says what the text is not.

use std::fmt::{self, Display};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::values::{digits, is_not};

/// The longest host name of the DNS.
const HOST_CHARS_MAX: usize = 253;

/// The longest label of one.
const LABEL_CHARS_MAX: usize = 63;

/// A public URL has at most so many characters.
const URL_CHARS_MAX: usize = 500;

/// The address of the server as others see it, in front of a TLS proxy. Shown as
/// `https://host[:port][/prefix]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl {
    /// `http` or `https`.
    pub scheme: String,
    /// As in a `Host` header: lower case, IPv6 in brackets.
    pub host: String,
    /// None where it is the scheme's own.
    pub port: Option<u16>,
    /// Empty, or begins with `/` and does not end with one.
    pub path_prefix: String,
}

impl PublicUrl {
    /// What a browser sends as `Origin` from there: `https://host[:port]`.
    pub fn origin(&self) -> String {
        match self.port {
            Some(port) => format!("{}://{}:{port}", self.scheme, self.host),
            None => format!("{}://{}", self.scheme, self.host),
        }
    }
}

impl Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin(), self.path_prefix)
    }
}

/// An IP address in every spelling that the system's own reader of addresses accepts, and `localhost`.
///
/// An IPv4 address in the clothes of IPv6 is given as IPv4, so that `::ffff:0.0.0.0` is seen to be what it
/// is.
pub(super) fn address(text: &str) -> Result<IpAddr, String> {
    if text.eq_ignore_ascii_case("localhost") {
        return Ok(Ipv4Addr::LOCALHOST.into());
    }
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = match bracketed {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => text.parse().ok().or_else(|| classful(text).map(IpAddr::V4)),
    };
    address.map(|address| address.to_canonical()).ok_or_else(|| is_not(text, "an IP address"))
}

/// Whether `text` is a host name and not an address.
pub(super) fn is_only_a_name(text: &str) -> bool {
    address(text).is_err() && host(text).is_some()
}

/// The old spellings: one to four numbers, decimal, octal or hexadecimal, of which the last fills all bytes
/// that are left (`0`, `127.1`, `0x7f000001`).
fn classful(text: &str) -> Option<Ipv4Addr> {
    let numbers: Option<Vec<u32>> = text.split('.').map(classful_number).collect();
    let (last, first) = numbers.as_deref()?.split_last()?;
    if first.len() > 3 || first.iter().any(|&number| number > 255) {
        return None;
    }
    let bytes_left = 4 - first.len() as u32;
    if u64::from(*last) >= 1 << (8 * bytes_left) {
        return None;
    }
    let high = first.iter().zip([24, 16, 8]).map(|(number, shift)| number << shift);
    Some(Ipv4Addr::from_bits(high.sum::<u32>() | last))
}

fn classful_number(text: &str) -> Option<u32> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
    plain.then(|| u32::from_str_radix(digits, radix).ok()).flatten()
}

/// A bare host name or address, as in a `Host` header without port: lower case, IPv6 in brackets.
pub(super) fn host_name(text: &str) -> Result<String, String> {
    let named = host(text).or_else(|| text.parse::<Ipv6Addr>().ok().map(|ip| format!("[{ip}]")));
    named.ok_or_else(|| is_not(text, "a bare host name or address"))
}

/// An origin, `scheme://host[:port]`, as a browser sends it: lower case, without the scheme's own port; or
/// `*`.
pub(super) fn origin(text: &str) -> Result<String, String> {
    let read = || {
        let (scheme, rest) = split_scheme(text)?;
        let (host, port) = authority(rest, &scheme)?;
        Some(PublicUrl { scheme, host, port, path_prefix: String::new() }.origin())
    };
    if text == "*" {
        return Ok(text.to_owned());
    }
    read().ok_or_else(|| is_not(text, "an origin such as https://example.com, or *"))
}

/// A URL `http[s]://host[:port][/prefix]`, without user, query and fragment.
pub(super) fn public_url(text: &str) -> Result<PublicUrl, String> {
    let read = || {
        let (scheme, rest) = split_scheme(text).filter(|(name, _)| name == "https" || name == "http")?;
        let (authority_part, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = authority(authority_part, &scheme)?;
        let path_prefix = path.strip_suffix('/').unwrap_or(path).to_owned();
        let plain = path_prefix.split('/').skip(1).all(is_plain_segment);
        plain.then_some(PublicUrl { scheme, host, port, path_prefix })
    };
    let url = if text.len() <= URL_CHARS_MAX { read() } else { None };
    url.ok_or_else(|| is_not(text, "a URL such as https://example.com/prefix"))
}

/// A part of a path that no proxy and no browser rewrites.
fn is_plain_segment(segment: &str) -> bool {
    let unreserved = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
    !matches!(segment, "" | "." | "..") && segment.bytes().all(unreserved)
}

fn split_scheme(text: &str) -> Option<(String, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
    let good = scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.bytes().all(known);
    good.then(|| (scheme.to_ascii_lowercase(), rest))
}

/// Host and port, the port only if it is not the scheme's own.
fn authority(text: &str, scheme: &str) -> Option<(String, Option<u16>)> {
    let (name, port) = match text.rfind(':') {
        Some(colon) if !text.ends_with(']') => (&text[..colon], Some(&text[colon + 1..])),
        _ => (text, None),
    };
    let port = match port {
        Some(port) => Some(u16::try_from(digits(port)?).ok().filter(|&port| port != 0)?),
        None => None,
    };
    let own = matches!((scheme, port), ("http", Some(80)) | ("https", Some(443)));
    Some((host(name)?, port.filter(|_| !own)))
}

fn host(text: &str) -> Option<String> {
    if let Some(inner) = text.strip_prefix('[') {
        let ip: Ipv6Addr = inner.strip_suffix(']')?.parse().ok()?;
        return Some(format!("[{ip}]"));
    }
    let in_label = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let label = |l: &str| (1..=LABEL_CHARS_MAX).contains(&l.len()) && l.bytes().all(in_label);
    if text.len() > HOST_CHARS_MAX || !text.split('.').all(label) {
        return None;
    }
    // What ends in a number is an address to browsers, and a bad one is no name either.
    let numeric = text.rsplit('.').next().is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
    if numeric && text.parse::<Ipv4Addr>().is_err() {
        return None;
    }
    Some(text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_all_spellings() {
        fn check(text: &str, expected: &str) {
            let read = address(text).map_or_else(|_| "none".to_owned(), |ip| ip.to_string());
            assert_eq!(read, expected, "{text:?}");
        }
        for (text, expected) in [
            ("127.0.0.1", "127.0.0.1"),
            ("localhost", "127.0.0.1"),
            ("LocalHost", "127.0.0.1"),
            ("0", "0.0.0.0"),
            ("00", "0.0.0.0"),
            ("0x0", "0.0.0.0"),
            ("0.0", "0.0.0.0"),
            ("127.1", "127.0.0.1"),
            ("127.0.1", "127.0.0.1"),
            ("10.258", "10.0.1.2"),
            ("2130706433", "127.0.0.1"),
            ("0x7F000001", "127.0.0.1"),
            ("0177.0.0.01", "127.0.0.1"),
            ("4294967295", "255.255.255.255"),
            ("::", "::"),
            ("[::]", "::"),
            ("[::1]", "::1"),
            ("0:0:0:0:0:0:0:1", "::1"),
            ("::ffff:0.0.0.0", "0.0.0.0"),
            ("[::ffff:7f00:1]", "127.0.0.1"),
            ("FE80::1", "fe80::1"),
            ("", "none"),
            (" 127.0.0.1", "none"),
            ("4294967296", "none"),
            ("127.16777216", "none"),
            ("1.2.3.4.5", "none"),
            ("256.1", "none"),
            ("08", "none"),
            ("0x", "none"),
            ("+1", "none"),
            ("1.", "none"),
            ("[127.0.0.1]", "none"),
            ("[::1", "none"),
            ("::1:3001]", "none"),
            ("example.com", "none"),
        ] {
            check(text, expected);
        }
    }

    #[test]
    fn hosts_origins_and_urls() {
        fn check(text: &str, named: &str, from: &str, url: &str) {
            let or_none = |read: Result<String, String>| read.unwrap_or_else(|_| "-".to_owned());
            assert_eq!(or_none(host_name(text)), named, "{text:?} as a host");
            assert_eq!(or_none(origin(text)), from, "{text:?} as an origin");
            let read = public_url(text).map(|url| url.to_string());
            assert_eq!(or_none(read), url, "{text:?} as a URL");
        }
        for (text, named, from, url) in [
            ("Example.COM", "example.com", "-", "-"),
            ("my_box-1", "my_box-1", "-", "-"),
            ("10.0.0.1", "10.0.0.1", "-", "-"),
            ("::1", "[::1]", "-", "-"),
            ("[0::1]", "[::1]", "-", "-"),
            ("*", "-", "*", "-"),
            ("", "-", "-", "-"),
            ("a..b", "-", "-", "-"),
            ("a.", "-", "-", "-"),
            ("a b", "-", "-", "-"),
            ("a@b", "-", "-", "-"),
            ("1.2.3", "-", "-", "-"),
            ("bücher.de", "-", "-", "-"),
            ("null", "null", "-", "-"),
            ("HTTP://A", "-", "http://a", "http://a"),
            ("http://a:80", "-", "http://a", "http://a"),
            ("https://a:443", "-", "https://a", "https://a"),
            ("https://a:80", "-", "https://a:80", "https://a:80"),
            ("http://[::1]:3001", "-", "http://[::1]:3001", "http://[::1]:3001"),
            ("http://[::1]", "-", "http://[::1]", "http://[::1]"),
            ("chrome-extension://abc", "-", "chrome-extension://abc", "-"),
            ("https://a/", "-", "-", "https://a"),
            ("https://a/p/q/", "-", "-", "https://a/p/q"),
            ("https://a:8443/p", "-", "-", "https://a:8443/p"),
            ("https://a//p", "-", "-", "-"),
            ("https://a/p//", "-", "-", "-"),
            ("https://a/../p", "-", "-", "-"),
            ("https://a/%2e", "-", "-", "-"),
            ("https://a/p?q", "-", "-", "-"),
            ("https://a/p#f", "-", "-", "-"),
            ("https://u:p@a", "-", "-", "-"),
            ("https://a:0", "-", "-", "-"),
            ("https://a:", "-", "-", "-"),
            ("https://a:65536", "-", "-", "-"),
            ("https://a:+1", "-", "-", "-"),
            ("https://", "-", "-", "-"),
            ("https://::1", "-", "-", "-"),
            ("https://a\\b", "-", "-", "-"),
            ("1http://a", "-", "-", "-"),
            ("://a", "-", "-", "-"),
        ] {
            check(text, named, from, url);
        }
        let long = format!("https://a/{}", "p".repeat(URL_CHARS_MAX));
        check(&long, "-", "-", "-");
        check(&"a".repeat(64), "-", "-", "-");
        check(&"a.".repeat(127), "-", "-", "-");
    }
}
