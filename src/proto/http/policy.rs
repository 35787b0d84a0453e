//! Whose requests are served, judged by Host and Origin.
//!
//! Whoever gets in can run commands here, and any web page that a user opens can make the browser send requests to
//! 127.0.0.1. Two headers tell such requests apart, and no page can forge them: `Host` holds the name that the browser
//! resolved (so a name that was rebound to 127.0.0.1 shows), `Origin` the page that asks.

use std::net::IpAddr;

use super::Head;

/// Whose requests are served.
#[derive(Debug, Clone)]
pub struct HostPolicy {
    bound: IpAddr,
    allow_hosts: Vec<String>,
    public: Option<(String, String, Option<u16>)>,
    cors_origins: Vec<String>,
}

/// Why a request is not served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// 400: a Host or an Origin that cannot be read.
    Malformed,
    /// 403: a Host that is not ours.
    Host(String),
    /// 403: a page of somebody else's.
    Origin(String),
}

impl Refused {
    /// The response's status.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Refused::Malformed => 400,
            Refused::Host(_) | Refused::Origin(_) => 403,
        }
    }

    /// For the log: what was wrong, as the flag that would allow it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Refused::Malformed => "nothing (a malformed Host or Origin)".into(),
            Refused::Host(host) => format!("--allow-host {host}"),
            Refused::Origin(origin) if origin == "null" => "nothing (Origin: null)".into(),
            Refused::Origin(origin) => format!("--cors-origin {origin}"),
        }
    }
}

impl HostPolicy {
    /// The policy of a server bound to `bound`. `public`: scheme, host and port of `--public-url`.
    #[must_use]
    pub fn new(
        bound: IpAddr,
        allow_hosts: Vec<String>,
        public: Option<(String, String, Option<u16>)>,
        cors_origins: Vec<String>,
    ) -> HostPolicy {
        HostPolicy { bound, allow_hosts, public, cors_origins }
    }

    /// Whether the request names us.
    ///
    /// # Errors
    /// How it does not.
    pub fn check_host(&self, head: &Head) -> Result<(), Refused> {
        // Only HTTP/1.0 gets here without one, and browsers do not speak that.
        let Some(text) = head.header("host") else { return Ok(()) };
        let host = Authority::parse(text).ok_or(Refused::Malformed)?.host;
        let address: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
        let known = match address {
            Some(ip) => ip.to_canonical().is_loopback() || (ip == self.bound && !ip.is_unspecified()),
            None => host == "localhost",
        };
        let allowed = known
            || self.allow_hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(&host))
            || self.public.as_ref().is_some_and(|(_, public, _)| public.eq_ignore_ascii_case(&host));
        if allowed { Ok(()) } else { Err(Refused::Host(host)) }
    }

    /// Whether the page that asks, if it is a page, may ask.
    ///
    /// # Errors
    /// Which page it is.
    pub fn check_origin(&self, head: &Head) -> Result<(), Refused> {
        let Some(text) = head.header("origin") else { return Ok(()) };
        let refused = || Refused::Origin(text.to_owned());
        if text == "null" {
            return Err(refused());
        }
        let origin = Origin::parse(text).ok_or(Refused::Malformed)?;
        let own = head.header("host").and_then(|host| Origin::parse(&format!("http://{host}")));
        let public = self.public.as_ref().map(|(scheme, host, port)| Origin::new(scheme, host, *port));
        let cors =
            self.cors_origins.iter().any(|allowed| allowed == "*" || Origin::parse(allowed).as_ref() == Some(&origin));
        if cors || own.as_ref() == Some(&origin) || public.as_ref() == Some(&origin) { Ok(()) } else { Err(refused()) }
    }
}

impl HostPolicy {
    /// The headers that let a page of another origin read the response; none where that is not wanted. The origin was
    /// checked before. Credentials are allowed to named origins only, never to all.
    #[must_use]
    pub fn cors_headers(&self, head: &Head) -> Vec<(&'static str, String)> {
        let Some(origin) = head.header("origin") else { return Vec::new() };
        let asked = Origin::parse(origin);
        let named = self.cors_origins.iter().any(|allowed| asked.is_some() && Origin::parse(allowed) == asked);
        if named {
            vec![
                ("Access-Control-Allow-Origin", origin.to_owned()),
                ("Access-Control-Allow-Credentials", "true".into()),
                ("Vary", "Origin".into()),
            ]
        } else if self.cors_origins.iter().any(|allowed| allowed == "*") {
            vec![("Access-Control-Allow-Origin", "*".into())]
        } else {
            Vec::new()
        }
    }

    /// The answer's headers to a preflight request; `None` where no page of another origin may ask.
    #[must_use]
    pub fn preflight_headers(&self, head: &Head) -> Option<Vec<(&'static str, String)>> {
        let mut headers = self.cors_headers(head);
        if headers.is_empty() {
            return None;
        }
        headers.push(("Access-Control-Allow-Methods", "GET,HEAD,PUT,PATCH,POST,DELETE".into()));
        if let Some(asked) = head.header("access-control-request-headers") {
            headers.push(("Access-Control-Allow-Headers", asked.to_owned()));
        }
        Some(headers)
    }
}

/// `host` or `host:port`; IPv6 addresses keep their brackets.
#[derive(Debug, PartialEq, Eq)]
struct Authority {
    host: String,
    port: Option<u16>,
}

impl Authority {
    fn parse(text: &str) -> Option<Authority> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (inner, after) = rest.split_once(']')?;
                inner.parse::<std::net::Ipv6Addr>().ok()?;
                (&text[..inner.len() + 2], after)
            }
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
        if host.is_empty() || !host.bytes().all(plain) {
            return None;
        }
        let port = match port.strip_prefix(':') {
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => Some(port.parse().ok()?),
            None if port.is_empty() => None,
            _ => return None,
        };
        Some(Authority { host: host.to_ascii_lowercase(), port })
    }
}

/// Scheme, host and port, the port filled in where it is the scheme's own.
#[derive(Debug, PartialEq, Eq)]
struct Origin {
    scheme: String,
    host: String,
    port: Option<u16>,
}

impl Origin {
    fn new(scheme: &str, host: &str, port: Option<u16>) -> Origin {
        let scheme = scheme.to_ascii_lowercase();
        let usual = match scheme.as_str() {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        };
        Origin { scheme, host: host.to_ascii_lowercase(), port: port.or(usual) }
    }

    fn parse(text: &str) -> Option<Origin> {
        let (scheme, authority) = text.split_once("://")?;
        let authority = Authority::parse(authority)?;
        Some(Origin::new(scheme, &authority.host, authority.port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::http::parse_head;

    fn policy(bound: &str) -> HostPolicy {
        let public = Some(("https".into(), "claude.example".into(), None));
        HostPolicy::new(
            bound.parse().expect("an address"),
            vec!["my.box".into()],
            public,
            vec!["http://app.example:8080".into()],
        )
    }

    fn status(policy: &HostPolicy, host: &str, origin: Option<&str>) -> u16 {
        let origin = origin.map_or(String::new(), |origin| format!("Origin: {origin}\r\n"));
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n{origin}\r\n");
        let (head, _) = parse_head(request.as_bytes()).expect("sound").expect("complete");
        policy
            .check_host(&head)
            .and_then(|()| policy.check_origin(&head))
            .map_or_else(|refused| refused.status(), |()| 200)
    }

    #[test]
    fn hosts() {
        let cases = [
            ("localhost", 200),
            ("LOCALHOST:1", 200),
            ("[::1]:9", 200),
            ("127.9.9.9", 200),
            ("127.0.0.1:3001", 200),
            ("[::ffff:127.0.0.1]", 200),
            ("my.box", 200),
            ("MY.BOX:80", 200),
            ("claude.example", 200),
            ("evil.com", 403),
            ("localhost.evil.com", 403),
            ("127.0.0.1.evil.com", 403),
            ("192.168.0.7", 403),
            ("localhost.", 403),
            ("0.0.0.0", 403),
            ("[::]", 403),
            ("localhost@evil.com", 400),
            ("localhost:x", 400),
            ("localhost:99999", 400),
            ("[::1", 400),
            ("a/b", 400),
            ("", 400),
        ];
        for (host, expected) in cases {
            assert_eq!(status(&policy("127.0.0.1"), host, None), expected, "{host}");
        }
        for (bound, host, expected) in [
            ("192.168.0.7", "192.168.0.7:1", 200),
            ("192.168.0.7", "192.168.0.8", 403),
            ("0.0.0.0", "192.168.0.7", 403),
            ("0.0.0.0", "0.0.0.0", 403),
            ("0.0.0.0", "localhost", 200),
        ] {
            assert_eq!(status(&policy(bound), host, None), expected, "{bound} {host}");
        }
    }

    #[test]
    fn origins() {
        let cases = [
            ("localhost:3001", "http://localhost:3001", 200),
            ("localhost:3001", "HTTP://LOCALHOST:3001", 200),
            ("localhost", "http://localhost:80", 200),
            ("claude.example", "https://claude.example", 200),
            ("claude.example", "https://claude.example:443", 200),
            ("localhost:3001", "http://app.example:8080", 200),
            ("localhost:3001", "http://localhost:3002", 403),
            ("localhost:3001", "https://localhost:3001", 403),
            ("localhost:3001", "http://127.0.0.1:3001", 403),
            ("localhost:3001", "http://evil.com", 403),
            ("localhost:3001", "http://app.example", 403),
            ("localhost:3001", "null", 403),
            ("localhost:3001", "file://", 400),
            ("localhost:3001", "x", 400),
        ];
        for (host, origin, expected) in cases {
            assert_eq!(status(&policy("127.0.0.1"), host, Some(origin)), expected, "{host} {origin}");
        }
        let open = HostPolicy::new("127.0.0.1".parse().expect("an address"), vec![], None, vec!["*".into()]);
        assert_eq!(status(&open, "localhost", Some("http://any.example")), 200);
        assert_eq!(status(&open, "localhost", Some("null")), 403);
    }

    #[test]
    fn other_origins_may_read_only_what_was_allowed() {
        let headers = |cors: &str, origin: &str| {
            let cors = Some(cors).filter(|cors| !cors.is_empty()).map(str::to_owned).into_iter().collect();
            let policy = HostPolicy::new("127.0.0.1".parse().expect("an address"), vec![], None, cors);
            let request = format!(
                "OPTIONS / HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\nAccess-Control-Request-Headers: x-a\r\n\r\n"
            );
            let (head, _) = parse_head(request.as_bytes()).expect("sound").expect("complete");
            let shown = |headers: Vec<(&str, String)>| {
                headers.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>().join("; ")
            };
            policy.preflight_headers(&head).map(shown)
        };
        let methods = "Access-Control-Allow-Methods: GET,HEAD,PUT,PATCH,POST,DELETE; Access-Control-Allow-Headers: x-a";
        let named =
            "Access-Control-Allow-Origin: http://a.example; Access-Control-Allow-Credentials: true; Vary: Origin";
        let cases = [
            ("", "http://localhost", None),
            ("http://a.example", "http://localhost", None),
            ("http://a.example", "http://a.example", Some(format!("{named}; {methods}"))),
            ("*", "http://b.example", Some(format!("Access-Control-Allow-Origin: *; {methods}"))),
        ];
        for (cors, origin, expected) in cases {
            assert_eq!(headers(cors, origin), expected, "{cors} {origin}");
        }
    }

    #[test]
    fn a_refusal_names_the_flag() {
        assert_eq!(Refused::Host("evil.com".into()).hint(), "--allow-host evil.com");
        assert_eq!(Refused::Origin("http://evil.com".into()).hint(), "--cors-origin http://evil.com");
    }
}
