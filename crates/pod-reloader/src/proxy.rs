//! Which proxy to use for the API server, by the usual variables, as Go's clients read them. (kube asks `NO_PROXY`
//! about the proxy instead of the server, and reads no variable in a cluster.)

use std::net::IpAddr;

use axum::http::Uri;

/// What the environment says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    https: String,
    http: String,
    exempt: String,
}

impl Environment {
    /// Reads `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, or the same in lower case.
    pub(crate) fn read() -> Self {
        let read = |name: &str| {
            let value = |name: String| std::env::var(name).ok().filter(|value| !value.is_empty());
            value(name.to_owned()).or_else(|| value(name.to_ascii_lowercase())).unwrap_or_default()
        };
        Self { https: read("HTTPS_PROXY"), http: read("HTTP_PROXY"), exempt: read("NO_PROXY") }
    }

    /// The URL of the proxy for a server.
    pub(crate) fn proxy_for(&self, server: &Uri) -> Option<String> {
        let scheme = server.scheme_str().unwrap_or("https");
        let port = server.port_u16().unwrap_or(if scheme == "http" { 80 } else { 443 });
        let host = server.host().unwrap_or_default();
        let proxy = if scheme == "http" { &self.http } else { &self.https };
        if proxy.is_empty() || is_exempt(&self.exempt, host, port) {
            return None;
        }
        let has_scheme = proxy.contains("://");
        Some(if has_scheme { proxy.clone() } else { format!("http://{proxy}") })
    }
}

/// Whether a server is reached without a proxy: one on this machine, or one that `NO_PROXY` covers.
fn is_exempt(no_proxy: &str, host: &str, port: u16) -> bool {
    let host = host.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
    let address = host.parse::<IpAddr>().ok();
    if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
        return true;
    }
    no_proxy.split(',').map(|entry| entry.trim().to_ascii_lowercase()).any(|entry| {
        if entry == "*" {
            return true;
        }
        if let Some((network, length)) = entry.split_once('/') {
            return address.is_some_and(|address| is_within(address, network, length));
        }
        let (name, entry_port) = split_port(&entry);
        if entry_port.is_some_and(|entry_port| entry_port != port) {
            return false;
        }
        match (name.parse::<IpAddr>(), address) {
            (Ok(entry), Some(address)) => entry == address,
            (Err(_), None) => is_domain_of(name, &host),
            _ => false,
        }
    })
}

/// `example.com` stands for itself and what is below it, `.example.com` and `*.example.com` for the latter alone.
fn is_domain_of(entry: &str, host: &str) -> bool {
    let entry = entry.strip_prefix('*').unwrap_or(entry);
    match entry.strip_prefix('.') {
        Some("") => false,
        Some(_) => host.ends_with(entry),
        None => {
            !entry.is_empty()
                && host.strip_suffix(entry).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        }
    }
}

/// An entry's name or address, and its port if it has one; an IPv6 address with a port is in brackets.
fn split_port(entry: &str) -> (&str, Option<u16>) {
    if entry.parse::<IpAddr>().is_ok() {
        return (entry, None);
    }
    let (name, port) = match entry.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => (name, port.parse().ok()),
        _ => (entry, None),
    };
    (name.trim_start_matches('[').trim_end_matches(']'), port)
}

fn is_within(address: IpAddr, network: &str, length: &str) -> bool {
    let (Ok(network), Ok(length)) = (network.parse::<IpAddr>(), length.parse::<u32>()) else { return false };
    let (address, network, width) = match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            (u128::from(address.to_bits()), u128::from(network.to_bits()), 32)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => (address.to_bits(), network.to_bits(), 128),
        _ => return false,
    };
    // A shift by the whole width leaves nothing to compare.
    length <= width && ((address ^ network).checked_shr(width - length).unwrap_or_default() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c6_no_proxy_is_read_as_other_clients_read_it() {
        let all =
            "api.corp, .svc,*.wild.example,10.96.0.0/12,192.0.2.7,fd00::/8,api2.corp:6443,[fd01::1]:6443,,";
        for (no_proxy, host, port, expected) in [
            (all, "api.corp", 443, true),
            (all, "API.corp.", 443, true),
            (all, "a.api.corp", 443, true),
            (all, "myapi.corp", 443, false),
            (all, "kubernetes.default.svc", 443, true),
            (all, "svc", 443, false),
            (all, "a.wild.example", 443, true),
            (all, "wild.example", 443, false),
            (all, "10.96.0.1", 443, true),
            (all, "10.111.255.255", 443, true),
            (all, "10.112.0.1", 443, false),
            (all, "192.0.2.7", 6443, true),
            (all, "192.0.2.8", 6443, false),
            (all, "[fd12::1]", 443, true),
            (all, "fe12::1", 443, false),
            (all, "api2.corp", 6443, true),
            (all, "api2.corp", 443, false),
            ("[fd01::1]:6443", "[fd01::1]", 6443, true),
            ("[fd01::1]:6443", "[fd01::1]", 443, false),
            ("fd01::1", "[fd01::1]", 443, true),
            ("*", "anything", 443, true),
            ("0.0.0.0/0", "1.2.3.4", 443, true),
            ("10.0.0.0/33,10.0.0.0/x,/8,x/8", "10.0.0.1", 443, false),
            (".,*.,:,:80,[]", "host", 80, false),
            ("10.0.0.1", "name", 443, false),
            ("", "localhost", 443, true),
            ("", "127.0.0.3", 443, true),
            ("", "[::1]", 443, true),
            ("", "api.corp", 443, false),
        ] {
            assert_eq!(is_exempt(no_proxy, host, port), expected, "{no_proxy:?} {host}:{port}");
        }
    }

    #[test]
    fn c6_the_proxy_is_that_of_the_servers_scheme() {
        let environment = Environment {
            https: "proxy.corp:3128".into(),
            http: "http://plain.corp:80".into(),
            exempt: "10.0.0.0/8".into(),
        };
        let proxy = |environment: &Environment, server: &str| environment.proxy_for(&server.parse().unwrap());
        assert_eq!(proxy(&environment, "https://api:6443/x").as_deref(), Some("http://proxy.corp:3128"));
        assert_eq!(proxy(&environment, "http://api").as_deref(), Some("http://plain.corp:80"));
        assert_eq!(proxy(&environment, "https://10.96.0.1"), None);
        assert_eq!(proxy(&Environment::default(), "https://api"), None);
    }
}
