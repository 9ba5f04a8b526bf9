//! Ten changes a second over objects that many workloads follow: how many reloads does each workload get?

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::Bench;
use super::expectation::Expectation;
use super::figure::{Figure, Samples, Unit, count_as_f64};
use super::memory::{KEPT_MIB, MOST_MIB};
use super::raw::{JSON, Outgoing};
use super::reviews::{create_configmaps, names};
use super::stage::{Controllers, LONG, Stage, change_configmap, create_named, deployment};

/// On the command line.
pub(super) const NAME: &str = "burst";
/// Objects, and workloads.
const COUNT: usize = 200;
/// Each workload follows so many objects that are changed one after the other: within a second, that is.
const REFERENCES: usize = 10;
const INTERVAL: Duration = Duration::from_millis(100);
/// Changes that follow each other faster than this are one reload, whatever the machine does: the settle window is 2 s
/// by default, ...
const SURELY_ONE: Duration = Duration::from_millis(1500);
/// ... and slower than this are two.
const SURELY_TWO: Duration = Duration::from_secs(5);

/// Measures it for a minute, in a quick run for 10 s.
pub(super) async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let stage = Stage::new(Controllers::All).await?;
    let empty = bench.empty_mib(&stage).await?;
    let namespace = bench.ours.namespace();
    stage.namespace(&namespace).await?;
    create_configmaps(&stage, &namespace, COUNT).await?;
    let mut running = bench.ours.start(&stage, &[]).await?;
    let model = deployment("model", serde_json::json!({}))?;
    let annotations: Vec<_> =
        (0..COUNT).map(|i| bench.ours.annotations(&names(i, REFERENCES, COUNT))).collect();
    let own = namespace.clone();
    let create = move |i: usize| {
        let mut model = model.clone();
        model["metadata"]["annotations"] = annotations[i].clone();
        create_named(&own, &model, &format!("app-{i}"))
    };
    stage.create_all(COUNT, create).await?;
    running.settled(COUNT).await?;
    let before_revisions = settled_revisions(&stage, &namespace, COUNT).await?;
    let resources = running.resources();
    let before = resources.resident_mib()?;
    resources.reset_peak()?;
    let changes = change_all(&stage, &namespace, bench.choose(10, 60)).await?;
    // The last change has to be heard of, and its window has to end.
    tokio::time::sleep(SURELY_ONE).await;
    running.settled(COUNT).await?;
    tokio::time::sleep(bench.given_back_after()).await;
    let (peak, after) = (resources.peak_mib()?, resources.resident_mib()?);
    let revisions = settled_revisions(&stage, &namespace, before_revisions.values().sum()).await?;
    bench.ours.stop(&stage, running).await?;

    let seconds = bench.choose(10, 60);
    let case = format!("{} changes in {seconds} s, {COUNT} workloads", changes.len());
    let (made, least) = check_revisions(bench, &changes, &before_revisions, &revisions);
    bench.expectations.push(Expectation::below_mib(format!("{NAME}: resident at most"), peak, MOST_MIB));
    let what = format!("{NAME}: resident afterwards");
    bench.expectations.push(Expectation::back_to_mib(what, after, before, KEPT_MIB));
    let one = |value: f64| Samples::new(vec![value]);
    let new = |what: &str, unit, value| Figure::new(NAME, &case, what, unit, one(value));
    bench.figures.extend([
        new("new revisions", Unit::Count, count_as_f64(made)).limit("ideal", one(count_as_f64(least))),
        new("resident before", Unit::Mebibytes, before).limit("idle, nothing exists", one(empty)),
        new("resident at most", Unit::Mebibytes, peak).limit("idle, nothing exists", one(empty)),
        new("resident afterwards", Unit::Mebibytes, after).limit("before", one(before)),
    ]);
    Ok(())
}

/// Checks each workload's new revisions; gives how many there are in all, and how many there ought to be at least.
fn check_revisions(
    bench: &mut Bench,
    changes: &[(usize, Instant)],
    before: &HashMap<String, usize>,
    after: &HashMap<String, usize>,
) -> (usize, usize) {
    let (mut made, mut least, mut most) = (0, 0, 0);
    for workload in 0..COUNT {
        let count = |revisions: &HashMap<String, usize>| {
            revisions.get(&format!("app-{workload}")).copied().unwrap_or_default()
        };
        let new = count(after).saturating_sub(count(before));
        let (fewest, highest) = ideal(workload, changes);
        made += new;
        least += fewest;
        most += highest;
        if !(fewest..=highest).contains(&new) {
            bench.expectations.push(Expectation::within(
                format!("{NAME}: new revisions of app-{workload}"),
                new,
                fewest,
                highest,
            ));
        }
    }
    bench.expectations.push(Expectation::within(format!("{NAME}: new revisions"), made, least, most));
    (made, least)
}

/// Changes one object after the other; gives which, and when that was acknowledged.
async fn change_all(stage: &Stage, namespace: &str, seconds: u64) -> anyhow::Result<Vec<(usize, Instant)>> {
    let mut connection = stage.admin.connect().await?;
    let mut ticks = tokio::time::interval(INTERVAL);
    let mut changes = vec![];
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        ticks.tick().await;
        let (object, value) = (changes.len() % COUNT, format!("changed {}", changes.len()));
        connection.send(&change_configmap(namespace, &format!("c{object}"), &value)).await?;
        changes.push((object, Instant::now()));
    }
    Ok(changes)
}

/// The fewest and the most reloads that a workload's changes are, with a settle window.
fn ideal(workload: usize, changes: &[(usize, Instant)]) -> (usize, usize) {
    let follows = |object: usize| (object + COUNT - workload) % COUNT < REFERENCES;
    let times: Vec<Instant> =
        changes.iter().filter(|(object, _)| follows(*object)).map(|(_, time)| *time).collect();
    let spans_longer_than =
        |least: Duration| times.windows(2).filter(|pair| pair[1].duration_since(pair[0]) > least).count();
    if times.is_empty() {
        (0, 0)
    } else {
        (1 + spans_longer_than(SURELY_TWO), 1 + spans_longer_than(SURELY_ONE))
    }
}

/// How many revisions each Deployment has, once no more come and there are as many as that in all.
async fn settled_revisions(
    stage: &Stage,
    namespace: &str,
    at_least: usize,
) -> anyhow::Result<HashMap<String, usize>> {
    let end = Instant::now() + LONG;
    let mut before = HashMap::new();
    loop {
        let now = revisions(stage, namespace).await?;
        let count: usize = now.values().sum();
        if count >= at_least && now == before {
            return Ok(now);
        }
        ensure!(Instant::now() < end, "{count} revisions after {LONG:?}, and more may come");
        before = now;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn revisions(stage: &Stage, namespace: &str) -> anyhow::Result<HashMap<String, usize>> {
    let path = format!("/apis/apps/v1/namespaces/{namespace}/replicasets");
    let list = stage.admin.request(&Outgoing::get(path, JSON)).await?;
    let mut counts = HashMap::new();
    for set in list["items"].as_array().context("a list has items")? {
        let owner = set["metadata"]["ownerReferences"][0]["name"].as_str().unwrap_or_default();
        *counts.entry(owner.to_owned()).or_default() += 1;
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_within_the_window_are_one_reload() {
        let begin = Instant::now();
        let at = |object, milliseconds| (object, begin + Duration::from_millis(milliseconds));
        let changes = [at(0, 0), at(9, 900), at(5, 20_000), at(10, 30_000)];
        assert_eq!(ideal(0, &changes), (2, 2));
        assert_eq!(ideal(50, &changes), (0, 0));
        assert_eq!(ideal(0, &[at(0, 0), at(1, 3000)]), (1, 2));
        // The objects of the last workloads are the first ones, too.
        assert_eq!(ideal(199, &[at(199, 0), at(8, 100)]), (1, 1));
    }
}
