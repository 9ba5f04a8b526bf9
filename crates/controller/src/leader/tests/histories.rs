//! Seeded histories of two replicas against an API server that does what it should not.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::stub::{Fault, Server};
use super::{Replica, SECOND};

/// A small generator of pseudo-random numbers (xorshift).
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Faults in spells: a calm API server, one that is ill now and then, one that is hardly ever well.
fn fault(random: &mut Random, ill_in_ten: u64) -> Fault {
    if random.below(10) >= ill_in_ten {
        return Fault::Takes(Duration::from_millis(random.below(400)));
    }
    let time = Duration::from_millis(random.below(12_000));
    match random.below(7) {
        0 => Fault::HangsBefore,
        1 => Fault::HangsAfter,
        2 => Fault::LosesAnswer,
        3 => Fault::ArrivesLate(time),
        4 => Fault::Refused(409),
        5 => Fault::Refused(500),
        _ => Fault::Takes(time),
    }
}

/// Plays one history; returns how many terms each replica had.
async fn play(seed: u64) -> [usize; 2] {
    let server = Server::default();
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1);
    let mut faults = random.clone();
    // Each replica has spells of its own.
    let mut spells = [(0_u64, 0_u64); 2];
    server.state().on_any = Box::new(move |caller| {
        let (left, ill_in_ten) = &mut spells[usize::from(caller.starts_with(['b', '1']))];
        if *left == 0 {
            *left = 3 + faults.below(12);
            *ill_in_ten = [0, 0, 2, 5, 9, 10][usize::try_from(faults.below(6)).unwrap()];
        }
        *left -= 1;
        Some(fault(&mut faults, *ill_in_ten))
    });
    let mut replicas = [Replica::start(&server, "a"), Replica::start(&server, "b")];
    let end = Instant::now() + 240 * SECOND;
    let mut changes = 0;
    let mut terms = [0; 2];
    loop {
        let [a, b] = &mut replicas;
        let change = timeout_at(end, async {
            tokio::select! {
                _ = a.leads.changed() => {}
                _ = b.leads.changed() => {}
            }
        });
        if change.await.is_err() {
            break;
        }
        changes += 1;
        terms[0] += usize::from(a.leads());
        terms[1] += usize::from(b.leads());

        assert!(!(a.leads() && b.leads()), "seed {seed}: both lead");
        // Now and then a replica is stopped, in the middle of whatever it does, and starts again.
        if random.below(4) == 0 {
            let chosen = usize::try_from(random.below(2)).unwrap();
            let replica = &mut replicas[chosen];
            replica.stop.cancel();
            (&mut replica.task).await.unwrap();
            sleep(Duration::from_millis(random.below(20_000))).await;
            *replica = Replica::start(&server, &format!("{chosen}-{changes}"));
        }
    }
    // And when all is well again, one leads within the duration of a Lease and some more.
    server.state().on_any = Box::new(|_| None);
    sleep(40 * SECOND).await;
    let leaders = replicas.iter().filter(|replica| replica.leads()).count();
    assert_eq!(leaders, 1, "seed {seed}");
    for replica in replicas {
        replica.stop.cancel();
        replica.task.await.unwrap();
    }
    terms
}

/// The terms of the histories of these seeds, each in a runtime of its own.
fn play_all(seeds: impl Iterator<Item = u64>) -> [usize; 2] {
    let mut terms = [0; 2];
    for seed in seeds {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        for (sum, more) in terms.iter_mut().zip(runtime.unwrap().block_on(play(seed))) {
            *sum += more;
        }
    }
    terms
}

#[test]
fn c5_1_two_replicas_never_lead_at_once_whatever_happens_to_their_requests() {
    // Paused time needs a runtime of one thread, and one alone takes too long.
    let terms = std::thread::scope(|scope| {
        let halves = [0, 1].map(|first| scope.spawn(move || play_all((first..200).step_by(2))));
        halves.map(|half| half.join().unwrap())
    });
    let terms = [0, 1].map(|replica| terms.iter().map(|half| half[replica]).sum::<usize>());
    assert!(terms.iter().all(|terms| *terms > 200), "the histories are too calm: {terms:?} terms");
}
