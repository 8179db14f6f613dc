//! Addresses of servers: what they are made of, where a redirect leads, and which are one origin.

use std::fmt;

/// Longest address that is followed.
const LONGEST: usize = 16 << 10;

/// An http or https address without user, password and fragment.
///
/// Shown without its query, which in signed addresses is as good as a password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Address {
    secure: bool,
    /// In lower case; an IPv6 address with its brackets.
    host: String,
    port: u16,
    /// Path and query, from the first slash.
    target: String,
}

impl Address {
    /// Reads an absolute address.
    ///
    /// # Errors
    ///
    /// Why it is none that is followed.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > LONGEST {
            return Err("it is too long");
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) || text.contains('\\') {
            return Err("it has spaces, control characters or other signs that belong in no address");
        }
        let (scheme, rest) = text.split_once("://").ok_or("it has no scheme such as https://")?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err("its scheme is neither https nor http"),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err("it carries a user or password");
        }
        let (host, port) = match authority.rfind(':').filter(|_| !authority.ends_with(']')) {
            Some(at) => (&authority[..at], Some(&authority[at + 1..])),
            None => (authority, None),
        };
        let port = match port {
            None | Some("") => Some(if secure { 443 } else { 80 }),
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok().filter(|&p| p > 0),
            Some(_) => None,
        };
        let port = port.ok_or("its port is no number up to 65535")?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_host = match bracketed {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)),
        };
        if !is_host {
            return Err("it names no host");
        }
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        Ok(Self { secure, host: host.to_ascii_lowercase(), port, target })
    }

    /// Where a `Location` leads from here.
    ///
    /// # Errors
    ///
    /// Why it is not followed.
    pub(crate) fn follow(&self, location: &str) -> Result<Self, &'static str> {
        let path = self.target.split('?').next().unwrap_or_default();
        let scheme = if self.secure { "https" } else { "http" };
        let is_absolute = location.split(['/', '?', '#']).next().is_some_and(|start| start.contains(':'));
        let text = match location {
            "" => return Err("it is empty"),
            _ if is_absolute => location.to_owned(),
            _ if location.starts_with("//") => format!("{scheme}:{location}"),
            _ => {
                let start = match location.as_bytes()[0] {
                    b'/' => "",
                    b'?' | b'#' => path,
                    _ => &path[..=path.rfind('/').unwrap_or(0)],
                };
                format!("{scheme}://{}:{}{start}{location}", self.host, self.port)
            }
        };
        let next = Self::parse(&text)?;
        match self.secure && !next.secure {
            true => Err("it leaves https for http"),
            false => Ok(next),
        }
    }

    /// The address of something below this one: `path` is appended as it is.
    pub(crate) fn below(&self, path: &str) -> Self {
        let base = self.target.trim_end_matches('/');
        Self { target: format!("{base}/{}", path.trim_start_matches('/')), ..self.clone() }
    }

    /// Whether scheme, host and port are the same.
    pub(crate) fn is_origin_of(&self, other: &Self) -> bool {
        (self.secure, &self.host, self.port) == (other.secure, &other.host, other.port)
    }

    /// Whether what is sent there can be read on the way: http, and not to this machine.
    pub(crate) fn is_in_the_clear(&self) -> bool {
        let address = self.host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        !self.secure && self.host != "localhost" && !address.is_ok_and(|address| address.is_loopback())
    }

    /// In full, for the request itself.
    pub(crate) fn in_full(&self) -> String {
        format!("{}{}", self.origin(), self.target)
    }

    fn origin(&self) -> String {
        match (self.secure, self.port) {
            (true, 443) => format!("https://{}", self.host),
            (false, 80) => format!("http://{}", self.host),
            (secure, port) => format!("http{}://{}:{port}", if secure { "s" } else { "" }, self.host),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.target.split('?').next().unwrap_or_default();
        write!(f, "{}{}", self.origin(), path.trim_end_matches('/'))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"))
    }

    #[test]
    fn an_address_is_shown_without_its_query() {
        let signed = address("HTTPS://CDN.example:443/a/b?Signature=secret#part");
        assert_eq!(signed.to_string(), "https://cdn.example/a/b");
        assert_eq!(format!("{signed:?}"), "https://cdn.example/a/b");
        assert_eq!(signed.in_full(), "https://cdn.example/a/b?Signature=secret");
        assert_eq!(address("http://[::1]:8080").to_string(), "http://[::1]:8080");
        assert_eq!(address("http://host?x=1").in_full(), "http://host/?x=1");
        assert_eq!(address("https://host/hub/").below("api/x").in_full(), "https://host/hub/api/x");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "host/path",
            "ftp://host/",
            "file:///etc/passwd",
            "https://",
            "https:///x",
            "https://user@host/",
            "https://user:secret@host/",
            "https://good.example@evil.example/",
            "https://host:0/",
            "https://host:65536/",
            "https://host:+80/",
            "https://ho st/",
            "https://host/a b",
            "https://host/\r\nX: y",
            "https://host\\@evil/",
            "https://host/\u{e9}",
            "https://[::1",
            "https://[zz]/",
            "https://ho%73t/",
            "javascript:alert(1)",
        ] {
            assert!(Address::parse(text).is_err(), "{text:?}");
        }
        assert!(Address::parse(&format!("https://host/{}", "x".repeat(LONGEST))).is_err());
    }

    #[test]
    fn locations_are_read_as_rfc_3986_says_and_https_is_not_left() {
        let from = address("https://host/a/b/c?d=e");
        for (location, expected) in [
            ("/x?y", "https://host/x?y"),
            ("x", "https://host/a/b/x"),
            ("?q", "https://host/a/b/c?q"),
            ("//other/x", "https://other/x"),
            ("https://other:8443/x", "https://other:8443/x"),
        ] {
            assert_eq!(from.follow(location).unwrap().in_full(), expected, "{location}");
        }
        for location in
            ["", "http://host/x", "http://other/x", "file:///etc/passwd", "data:text/plain,x", "//u:p@host/"]
        {
            assert!(from.follow(location).is_err(), "{location}");
        }
        let plain = address("http://127.0.0.1:1234/a");
        assert!(plain.follow("http://127.0.0.1:1235/b").is_ok() && plain.follow("https://host/b").is_ok());
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let endpoint = address("https://host/hub");
        for same in ["https://HOST/x", "https://host:443/"] {
            assert!(endpoint.is_origin_of(&address(same)), "{same}");
        }
        for other in
            ["http://host/", "https://host:444/", "https://host.evil/", "https://evil/host", "https://www.host/"]
        {
            assert!(!endpoint.is_origin_of(&address(other)), "{other}");
        }
    }
}
