//! How memory and time grow with the number of workloads.

use super::Bench;
use super::fan_out;
use super::figure::{Figure, Samples, Unit, count_as_f64, exponent};

/// On the command line.
pub(super) const NAME: &str = "growth";

/// Measures fan-outs at three sizes, once each, and gives the exponents of the power laws that fit best: 1 is linear.
pub(super) async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let sizes = bench.choose([100, 200, 400], [500, 2000, 8000]);
    let (mut memory, mut time, mut limit) = (vec![], vec![], vec![]);
    for size in sizes {
        let rounds = fan_out::measure(bench, size, 1, false).await?;
        let count = count_as_f64(size);
        for round in rounds.subjects.iter().take(1).flatten() {
            // What an operator without workloads takes does not grow.
            memory.push((count, round.before - rounds.empty));
            time.push((count, round.all));
            let case = format!("{size} workloads");
            let resident = Samples::new(vec![round.before]);
            let empty = Samples::new(vec![rounds.empty]);
            let resident = Figure::new(NAME, &case, "resident when settled", Unit::Mebibytes, resident);
            bench.figures.push(resident.limit("idle, nothing exists", empty));
        }
        limit.extend(rounds.bare.iter().map(|bare| (count, bare.all.as_secs_f64())));
    }
    let [least, _, most] = sizes;
    let case = format!("{least} to {most} workloads");
    let new = |what: &str, points: &[(f64, f64)]| {
        // Below what memory is measured to, nothing can be said.
        let is_measured = points.iter().all(|(_, value)| *value > 0.0);
        let samples = exponent(points).filter(|_| is_measured).into_iter().collect();
        Figure::new(NAME, &case, what, Unit::Count, Samples::new(samples))
    };
    let bare = exponent(&limit).into_iter().collect();
    let figures = [
        new("exponent of memory beyond an empty operator's", &memory),
        new("exponent of the fan-out's time", &time).limit("bare client", Samples::new(bare)),
    ];
    bench.figures.extend(figures);
    Ok(())
}
