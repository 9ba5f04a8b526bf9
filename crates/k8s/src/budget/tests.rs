use super::*;
use std::time::Duration;

#[test]
fn c5_2_the_budget_follows_from_the_memory_limit() {
    let mib = |bytes: u64| bytes * MIB as u64;
    for (limit, expected) in [
        (None, mib(24)),
        (Some(mib(128)), mib(24)),
        (Some(mib(64)), mib(12)),
        (Some(mib(16)), mib(8)),
        (Some(0), mib(8)),
        (Some(mib(512)), mib(96)),
        (Some(mib(64 * 1024)), mib(256)),
        (Some(u64::MAX), mib(256)),
    ] {
        assert_eq!(in_flight_bytes(limit), expected, "{limit:?}");
    }
}

#[test]
fn c5_2_the_lowest_limit_along_the_cgroups_path_counts() {
    let mount = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let file = mount.path().join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    };
    write("memory.max", "max\n");
    write("pods/memory.max", "1000\n");
    write("pods/one/memory.max", "2000\n");
    write("free/memory.max", "max\n");
    write("memory/memory.limit_in_bytes", "9223372036854771712\n");
    write("memory/box/memory.limit_in_bytes", "3000\n");
    for (groups, expected) in [
        ("0::/pods/one\n", Some(1000)),
        ("0::/free/not/mounted\n", None),
        ("0::/\n", None),
        ("", None),
        ("nonsense", None),
        ("4:cpu,memory:/box/inner\n3:pids:/\n0::/free\n", Some(3000)),
        ("4:memory:/\n", None),
    ] {
        assert_eq!(cgroup_limit(groups, mount.path()), expected, "{groups:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn c5_2_small_requests_never_wait_behind_large_ones() {
    let budget = Budget::new(16 * MIB);
    let mut large = budget.reserve("a", 64 * MIB).await;
    assert_eq!(large.bytes(), budget.largest());
    let deadline = || Instant::now() + Duration::from_secs(1);
    assert!(budget.reserve_until("b", SMALL_BYTES + 1, deadline()).await.is_none());
    let small = budget.reserve_until("b", SMALL_BYTES, deadline()).await.unwrap();
    assert_eq!(budget.reserved(), large.bytes() + SMALL_BYTES);
    large.shrink(MIB);
    let other = budget.reserve_until("b", 2 * MIB, deadline()).await.unwrap();
    assert_eq!(budget.reserved(), 3 * MIB + SMALL_BYTES);
    drop((large, small, other));
    assert_eq!(budget.reserved(), 0);
    assert!(budget.peak() <= budget.total());
}

#[tokio::test(start_paused = true)]
async fn c5_2_bodies_leave_room_for_the_reads_that_they_wait_for() {
    let budget = Budget::new(8 * MIB);
    let mut bodies = vec![];
    let soon = || Instant::now() + Duration::from_millis(1);
    for i in 0..4000 {
        bodies.extend(budget.reserve_body_until(&i.to_string(), 8 * KIB, soon()).await);
        bodies.extend(budget.reserve_body_until(&i.to_string(), 64 * KIB, soon()).await);
        bodies.extend(budget.reserve_body_until(&i.to_string(), 512 * KIB, soon()).await);
    }
    assert_eq!(budget.reserved(), budget.total() / 2);
    assert!(budget.reserve_until("a", 100 * KIB, soon()).await.is_some());
    assert!(budget.reserve_until("a", 2 * MIB, soon()).await.is_some());
    assert!(budget.peak() <= budget.total());
}

#[tokio::test(start_paused = true)]
async fn c5_2_what_is_reserved_never_passes_the_budget() {
    let budget = Budget::new(8 * MIB);
    let tasks: Vec<_> = (0..200_usize)
        .map(|i| {
            let budget = budget.clone();
            tokio::spawn(async move {
                let namespace = (i % 5).to_string();
                let never = Instant::now() + Duration::from_hours(1);
                let mut held = match i % 2 {
                    0 => budget.reserve(&namespace, i * 40 * KIB).await,
                    _ => budget.reserve_body_until(&namespace, i * 40 * KIB, never).await.unwrap(),
                };
                tokio::time::sleep(Duration::from_millis(10)).await;
                held.shrink(held.bytes() / 2);
                tokio::time::sleep(Duration::from_millis(10)).await;
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert!(budget.peak() <= budget.total() && budget.peak() > 5 * MIB, "{}", budget.peak());
    assert_eq!(budget.reserved(), 0);
}
