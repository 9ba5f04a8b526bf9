//! The client at the other end of a connection.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// A client as far as shares are concerned: an IPv4 address or the /64 of an IPv6 address, which hosts get as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Peer(IpAddr);

impl Peer {
    pub(super) fn of(address: SocketAddr) -> Self {
        match address.ip().to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into())
            }
            ip @ IpAddr::V4(_) => Self(ip),
        }
    }
}

/// The address without its disguise: a socket for both families shows IPv4 clients as mapped IPv6 addresses.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c4_9_a_peer_is_an_ipv4_address_or_the_64_of_an_ipv6_address() {
        let peer = |text: &str| Peer::of(text.parse().unwrap());
        assert_eq!(peer("10.0.0.1:1"), peer("[::ffff:10.0.0.1]:2"));
        assert_ne!(peer("10.0.0.1:1"), peer("10.0.0.2:1"));
        assert_eq!(peer("[2001:db8:0:1::1]:1"), peer("[2001:db8:0:1:ffff::2]:2"));
        assert_ne!(peer("[2001:db8:0:1::1]:1"), peer("[2001:db8:0:2::1]:1"));
        // Each has an address of its own there.
        assert_ne!(peer("[::ffff:10.0.0.1]:1"), peer("[::ffff:10.0.0.2]:1"));
    }

    #[test]
    fn c4_9_ipv4_clients_of_a_socket_for_both_families_are_shown_as_such() {
        let shown = |text: &str| canonical(text.parse().unwrap()).to_string();
        assert_eq!(shown("[::ffff:10.0.0.1]:5"), "10.0.0.1:5");
        assert_eq!(shown("10.0.0.1:5"), "10.0.0.1:5");
        assert_eq!(shown("[2001:db8::1]:5"), "[2001:db8::1]:5");
    }
}
