//! Enough file descriptors for all that the process may hold at once.
//!
//! Each port holds a bounded number of them ([`Limits::descriptors`]). The soft limit of the process is raised to what
//! all ports may hold and what is kept for the rest. Where the hard limit does not allow that, the ports get less:
//! accept(2) and the client of the API server never find the process without a descriptor.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::server::Limits;

/// Raises the limit of open files, or takes the ports' limits down to what fits. `reserve` is for everything else.
pub fn provide(ports: &mut [Limits], reserve: usize) {
    let needed = ports.iter().map(Limits::descriptors).sum::<usize>() + reserve;
    let available = raise(needed);
    tracing::debug!(needed, available, "file descriptors");
    if available < needed {
        fit(ports, available, reserve);
        let connections = ports.iter().map(|limits| limits.connections).collect::<Vec<_>>();
        tracing::warn!(
            needed,
            available,
            ?connections,
            "few files may be open at once: ports take fewer connections"
        );
    }
}

/// The soft limit of open files, after it was raised to that number as far as the hard limit allows.
fn raise(needed: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let bytes =
        |limit: Option<u64>| limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let current = bytes(limit.current);
    let wanted = needed.min(bytes(limit.maximum));
    if current >= wanted {
        return current;
    }
    let raised = Rlimit { current: Some(wanted as u64), maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => wanted,
        Err(error) => {
            tracing::warn!(%error, "cannot raise the limit of open files");
            current
        }
    }
}

/// Divides what is available in the proportions of what was wanted. At most half is kept for the rest, as ports that
/// take no connection are of no use.
fn fit(ports: &mut [Limits], available: usize, reserve: usize) {
    let room = available - reserve.min(available / 2);
    let wanted = ports.iter().map(Limits::descriptors).sum::<usize>().max(1);
    for limits in ports {
        *limits = limits.with_descriptors(limits.descriptors() * room / wanted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports() -> [Limits; 3] {
        [Limits::webhook(), Limits::admin(), Limits::admin()]
    }

    fn descriptors(ports: &[Limits]) -> usize {
        ports.iter().map(Limits::descriptors).sum()
    }

    #[test]
    fn c4_9_ports_never_take_the_descriptors_that_are_kept_for_the_rest() {
        for available in [1024, 700, 512, 256, 128] {
            let mut ports = ports();
            let reserve = 300;
            fit(&mut ports, available, reserve);
            let kept = available - descriptors(&ports);
            assert!(kept >= reserve.min(available / 2), "{kept} of {available}");
            for limits in &ports {
                assert!(limits.connections >= 2 && limits.leaving >= 1, "{limits:?} of {available}");
            }
            assert!(ports[0].connections >= ports[1].connections);
        }
        // With next to nothing each port still takes a connection.
        let mut ports = ports();
        fit(&mut ports, 64, 300);
        assert!(ports.iter().all(|limits| limits.connections >= 2));
        assert!(64 - descriptors(&ports) > 28);
        // As many as there can be, not just some.
        let mut ports = self::ports();
        fit(&mut ports, 1024, 0);
        assert_eq!(descriptors(&ports), descriptors(&self::ports()));
    }

    #[test]
    fn c4_9_the_soft_limit_is_raised_to_what_is_needed() {
        let before = getrlimit(Resource::Nofile);
        let hard = before.maximum.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap());
        let needed = 300.min(hard);
        // Of the whole test process, whose tests need fewer.
        setrlimit(Resource::Nofile, Rlimit { current: Some(needed as u64 - 10), ..before }).unwrap();
        assert_eq!(raise(needed), needed);
        assert_eq!(getrlimit(Resource::Nofile).current, Some(needed as u64));
        // What is more than needed is left alone, and the hard limit is never exceeded.
        assert_eq!(raise(needed - 20), needed);
        assert!(raise(usize::MAX) <= hard);
        setrlimit(Resource::Nofile, before).unwrap();
    }
}
