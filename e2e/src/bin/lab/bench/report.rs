//! The table and the JSON of a run.

use std::fmt::Write;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;
use serde_json::{Value, json};

use super::expectation::Expectation;
use super::figure::{Figure, Samples, Target};

/// Where a run took place.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Machine {
    /// When it began, in UTC.
    date: String,
    cores: usize,
    processor: String,
    memory_gib: f64,
    kernel: String,
    /// Of one, five and fifteen minutes before it began: what else the machine did.
    load_average: String,
}

impl Machine {
    /// This one, now.
    pub(super) fn now() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let field = |path: &str, name: &str| {
            let text = read(path);
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_once(':').map_or("", |(_, value)| value.trim()).to_owned()
        };
        let memory = field("/proc/meminfo", "MemTotal");
        let kib: f64 = memory.trim_end_matches(" kB").parse().unwrap_or_default();
        Self {
            date: k8s_openapi::jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M").to_string(),
            cores: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            processor: field("/proc/cpuinfo", "model name"),
            memory_gib: (kib / 1024.0 / 1024.0).round(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_average: read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" "),
        }
    }

    fn text(&self) -> String {
        let Self { date, cores, processor, memory_gib, kernel, load_average } = self;
        format!(
            "{date} UTC: {cores} cores ({processor}), {memory_gib} GiB, Linux {kernel}; load averages at the \
             start {load_average}"
        )
    }
}

/// All that a run has shown.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Where and when.
    pub(super) machine: Machine,
    /// Fewer cases and shorter spans.
    pub(super) quick: bool,
    /// The commit or file of the binary, as far as it says.
    pub(super) binary: String,
    /// In the order of the scenarios.
    pub(super) figures: Vec<Figure>,
    /// Likewise.
    pub(super) expectations: Vec<Expectation>,
    /// Scenarios that broke off, with their errors.
    pub(super) failures: Vec<(String, String)>,
}

impl Report {
    /// Whether all that is checked holds.
    pub(super) fn is_good(&self) -> bool {
        self.failures.is_empty() && self.expectations.iter().all(|expectation| expectation.holds)
    }

    /// The table in Markdown, and the expectations that do not hold.
    pub(super) fn markdown(&self) -> String {
        let mut peers: Vec<&str> = vec![];
        for (name, _) in self.figures.iter().flat_map(|figure| &figure.peers) {
            if !peers.contains(&name.as_str()) {
                peers.push(name);
            }
        }
        let mut text = format!("{}\n\n", self.machine.text());
        let further = columns(peers.iter().map(|name| (*name).to_owned()));
        let _ = writeln!(
            text,
            "| scenario | case | figure | ours: median (min-max) | limit | ratio (min-max) | target | met |{further}"
        );
        let _ = writeln!(text, "|---|---|---|--:|--:|--:|--:|---|{}", "--:|".repeat(peers.len()));
        for figure in &self.figures {
            let further = columns(peers.iter().map(|name| of_peer(figure, name)));
            let _ = writeln!(text, "{}{further}", row(figure));
        }
        let _ = writeln!(text, "\n{} counts and sizes were checked.", self.expectations.len());
        for Expectation { what, got, wanted, .. } in self.expectations.iter().filter(|one| !one.holds) {
            let _ = writeln!(text, "- OFF: {what}: {got}, wanted: {wanted}");
        }
        for (scenario, error) in &self.failures {
            let _ = writeln!(text, "- FAILED: {scenario}: {error}");
        }
        text
    }

    /// Writes it as JSON, with what is derived from the samples.
    pub(super) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut json = serde_json::to_value(self).context("a report is JSON")?;
        for (figure, value) in self.figures.iter().zip(json["figures"].as_array_mut().into_iter().flatten()) {
            value["median"] = json!(figure.samples.median());
            value["ratio"] = json!(figure.ratio());
            value["met"] = json!(figure.is_met());
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let text: Value = json;
        std::fs::write(path, format!("{text:#}\n"))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

fn row(figure: &Figure) -> String {
    let unit = figure.unit.text();
    let limit = figure
        .limit
        .as_ref()
        .map_or_else(String::new, |limit| format!("{} ({})", with_spread(&limit.samples, unit), limit.what));
    let ratio = figure.ratio().map_or_else(String::new, |ratio| {
        let spread = figure.ratio_spread().filter(|_| figure.samples.len() > 1);
        spread.map_or_else(|| format!("{ratio:.2}"), |(min, max)| format!("{ratio:.2} ({min:.2}-{max:.2})"))
    });
    let target = match figure.target {
        None => String::new(),
        Some(Target::Ratio(most)) => format!("ratio <= {most}"),
        Some(Target::Below(limit)) => format!("< {limit} {unit}"),
        Some(Target::AtLeast(least)) => format!(">= {least} {unit}"),
    };
    let met = figure.is_met().map_or("", |met| if met { "met" } else { "not met" });
    format!(
        "| {} | {} | {} | {} | {limit} | {ratio} | {target} | {met} |",
        figure.scenario,
        figure.case,
        figure.what,
        with_spread(&figure.samples, unit)
    )
}

/// Further cells of a row.
fn columns(cells: impl Iterator<Item = String>) -> String {
    cells.fold(String::new(), |row, cell| row + " " + &cell + " |")
}

fn of_peer(figure: &Figure, name: &str) -> String {
    let found = figure.peers.iter().find(|(peer, _)| peer == name);
    found.map_or_else(String::new, |(_, samples)| with_spread(samples, figure.unit.text()))
}

/// `1.52 (1.40-1.71) s`.
fn with_spread(samples: &Samples, unit: &str) -> String {
    let (Some(median), Some((min, max))) = (samples.median(), samples.spread()) else {
        return String::new();
    };
    let text = if samples.len() > 1 {
        format!("{} ({}-{}) {unit}", number(median), number(min), number(max))
    } else {
        format!("{} {unit}", number(median))
    };
    text.trim_end().to_owned()
}

/// About three digits.
fn number(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude >= 100.0 || value.fract() == 0.0 {
        format!("{value:.0}")
    } else if magnitude >= 10.0 {
        format!("{value:.1}")
    } else if magnitude >= 1.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::figure::Unit;
    use super::*;

    #[test]
    fn a_row_has_ratio_and_target() {
        let figure =
            Figure::new("start", "10 workloads", "ready", Unit::Seconds, Samples::new(vec![1.0, 2.0, 3.0]))
                .limit("bare list", Samples::new(vec![0.5, 1.25, 2.0]))
                .target(Target::Ratio(2.0));
        assert_eq!(
            row(&figure),
            "| start | 10 workloads | ready | 2 (1-3) s | 1.25 (0.500-2) s (bare list) | 1.60 (1.50-2.00) \
             | ratio <= 2 | met |"
        );
    }

    #[test]
    fn numbers_have_about_three_digits() {
        let shown: Vec<String> = [0.0123, 1.234, 12.34, 1234.5, 7.0].map(number).into();
        assert_eq!(shown, ["0.012", "1.23", "12.3", "1234", "7"]);
    }
}
