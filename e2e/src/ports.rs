//! Free ports on the loopback interface.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::Context as _;

/// Used where the system does not say which ports it hands out to outgoing connections.
const USUAL_EPHEMERAL_START: u16 = 32768;
const LOWEST: u16 = 12000;

/// Picks `N` different ports that no process listens on now.
///
/// They lie below the range from which the system takes the ports of outgoing connections. A port from that range
/// (which binding port 0 would give) can be taken by any connection while a server is stopped for a moment; a client
/// that tries to reach the stopped server can even be connected to itself. Another process can still be faster: start
/// the server again on other ports if one of these is taken.
pub fn free<const N: usize>() -> anyhow::Result<[u16; N]> {
    let range = LOWEST..ephemeral_start();
    // All are held until the last is found, so that they differ.
    let mut held = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = (0..200)
            .find_map(|_| {
                let random = getrandom::u32().ok()? % u32::from(range.end - range.start);
                let candidate = range.start + u16::try_from(random).ok()?;
                TcpListener::bind((Ipv4Addr::LOCALHOST, candidate)).ok()
            })
            .with_context(|| {
                format!("no free port found on 127.0.0.1 between {} and {}", range.start, range.end)
            })?;
        *port = listener.local_addr().context("a listener without an address")?.port();
        held.push(listener);
    }
    Ok(ports)
}

fn ephemeral_start() -> u16 {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .filter(|start| *start > LOWEST + 1000)
        .unwrap_or(USUAL_EPHEMERAL_START)
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, time::Duration};

    use crate::eventually;

    #[tokio::test]
    async fn ports_differ_and_can_be_bound() {
        let ports = super::free::<8>().unwrap();
        let mut unique = ports.to_vec();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), ports.len());
        for port in ports {
            // A child that another thread is just starting holds the listener until it becomes the new program.
            let bound = eventually(format!("port {port} to be free"), Duration::from_secs(5), || async {
                TcpListener::bind(("127.0.0.1", port)).map_err(anyhow::Error::new)
            });
            bound.await.unwrap();
        }
    }
}
