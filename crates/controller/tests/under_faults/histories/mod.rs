//! Seeded random histories: owners, other controllers, faults and restarts over the real index, queue, reconciler and
//! webhook, beside an oracle that knows what running pods saw.
//!
//! `HISTORY_SEED=n` runs that one alone, and prints its requests; `HISTORY_SECONDS=n` goes on for so long.

mod oracle;
mod play;
mod shop;

use std::time::{Duration, Instant};

use crate::support::in_paused_time;
use play::{Level, Play};
use tokio::time::timeout;

/// Real time that is spent unless `HISTORY_SECONDS` is set; `make test` sets it to more.
const SECONDS: u64 = 3;
/// Virtual time that a history may take, the rest at its end included.
const MAX_DURATION: Duration = Duration::from_mins(30);
const MAX_REQUESTS: usize = 10_000;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

/// Runs one; an error describes all of it.
fn run(seed: u64) -> Result<(), String> {
    in_paused_time(async {
        let mut play = Play::new(seed, Level::of(seed));
        let mut broken = vec![];
        if timeout(MAX_DURATION, play.run()).await.is_err() {
            broken.push("it does not end".to_owned());
        }
        if play.stub.log().len() > MAX_REQUESTS {
            broken.push(format!("{} requests", play.stub.log().len()));
        }
        broken.extend(oracle::judge(&play));
        if broken.is_empty() {
            return Ok(());
        }
        Err(format!(
            "seed {seed}, {:?}:\n{}\n\nwhat happened:\n{}\n\nrequests:\n{}",
            play.level,
            broken.join("\n"),
            play.transcript(),
            if std::env::var_os("HISTORY_SEED").is_some() {
                play.stub.transcript()
            } else {
                "with HISTORY_SEED".into()
            },
        ))
    })
}

#[test]
fn c3_over_any_history_no_reload_is_missed_and_none_is_needless_over_the_stub() {
    if let Some(seed) = number("HISTORY_SEED") {
        return run(seed).unwrap_or_else(|error| panic!("{error}"));
    }
    let (began, limit) = (Instant::now(), Duration::from_secs(number("HISTORY_SECONDS").unwrap_or(SECONDS)));
    let mut failures = vec![];
    let mut seed = 0;
    while began.elapsed() < limit {
        failures.extend(run(seed).err());
        seed += 1;
        if failures.len() >= 5 {
            break;
        }
    }
    eprintln!("{seed} histories");
    assert!(failures.is_empty(), "{} of {seed} histories:\n{}", failures.len(), failures.join("\n\n"));
}
