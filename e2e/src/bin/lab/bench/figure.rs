//! One measured quantity, over the rounds, beside its limit.

use serde::Serialize;

/// What a figure is measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum Unit {
    /// Seconds.
    #[serde(rename = "s")]
    Seconds,
    /// Milliseconds.
    #[serde(rename = "ms")]
    Milliseconds,
    /// MiB (2^20 bytes).
    #[serde(rename = "MiB")]
    Mebibytes,
    /// Per second.
    #[serde(rename = "1/s")]
    PerSecond,
    /// Percent of one core.
    #[serde(rename = "% of a core")]
    Percent,
    /// A number of things.
    #[serde(rename = "")]
    Count,
}

impl Unit {
    /// As it is shown.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::Milliseconds => "ms",
            Self::Mebibytes => "MiB",
            Self::PerSecond => "1/s",
            Self::Percent => "% of a core",
            Self::Count => "",
        }
    }
}

/// The values of one quantity, one of each round.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Samples(Vec<f64>);

impl Samples {
    /// One value for each round.
    pub(super) fn new(values: Vec<f64>) -> Self {
        Self(values)
    }

    /// The value of another round.
    pub(super) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// `None` where there are no rounds.
    pub(super) fn median(&self) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => None,
            even if even % 2 == 0 => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
            _ => Some(sorted[middle]),
        }
    }

    /// The smallest and the largest value.
    pub(super) fn spread(&self) -> Option<(f64, f64)> {
        let min = self.0.iter().copied().min_by(f64::total_cmp)?;
        let max = self.0.iter().copied().max_by(f64::total_cmp)?;
        Some((min, max))
    }

    /// How many rounds there were.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// What the same machine can do at best, measured in the same run.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Limit {
    /// What was measured.
    pub(super) what: String,
    /// In the figure's unit; of the same rounds, where there are as many.
    pub(super) samples: Samples,
}

/// What a figure should be. Shown, and never enforced: times depend on the machine.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Target {
    /// The ratio to the limit is at most this.
    Ratio(f64),
    /// The median is less than this, in the figure's unit.
    Below(f64),
    /// The median is at least this, in the figure's unit.
    AtLeast(f64),
}

/// See the module.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Figure {
    /// The scenario that measured it.
    pub(super) scenario: &'static str,
    /// How the scenario was set up (`1000 workloads`).
    pub(super) case: String,
    /// The quantity (`last workload patched`).
    pub(super) what: String,
    /// Of all values.
    pub(super) unit: Unit,
    /// Our own.
    pub(super) samples: Samples,
    /// What it is compared with.
    pub(super) limit: Option<Limit>,
    /// What it should be.
    pub(super) target: Option<Target>,
    /// Of programs that do the same, by their names.
    pub(super) peers: Vec<(String, Samples)>,
}

impl Figure {
    /// A figure without limit and target.
    pub(super) fn new(
        scenario: &'static str,
        case: impl Into<String>,
        what: impl Into<String>,
        unit: Unit,
        samples: Samples,
    ) -> Self {
        let (case, what) = (case.into(), what.into());
        Self { scenario, case, what, unit, samples, limit: None, target: None, peers: vec![] }
    }

    /// Beside that limit.
    pub(super) fn limit(mut self, what: impl Into<String>, samples: Samples) -> Self {
        self.limit = Some(Limit { what: what.into(), samples });
        self
    }

    /// With that target.
    pub(super) fn target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    /// The same quantity of other programs.
    pub(super) fn peers(mut self, peers: Vec<(String, Samples)>) -> Self {
        self.peers = peers;
        self
    }

    /// The median against that of the limit.
    pub(super) fn ratio(&self) -> Option<f64> {
        let limit = self.limit.as_ref()?.samples.median()?;
        (limit > 0.0).then_some(self.samples.median()? / limit)
    }

    /// The smallest and the largest ratio of a round; `None` where rounds cannot be paired.
    pub(super) fn ratio_spread(&self) -> Option<(f64, f64)> {
        let limit = &self.limit.as_ref()?.samples;
        let paired = limit.len() == self.samples.len() && limit.0.iter().all(|value| *value > 0.0);
        let ratios = self.samples.0.iter().zip(&limit.0).map(|(ours, limit)| ours / limit);
        if paired { Samples(ratios.collect()).spread() } else { None }
    }

    /// Whether the target is met; `None` without one, or where nothing was measured.
    pub(super) fn is_met(&self) -> Option<bool> {
        Some(match self.target? {
            Target::Ratio(most) => self.ratio()? <= most,
            Target::Below(limit) => self.samples.median()? < limit,
            Target::AtLeast(least) => self.samples.median()? >= least,
        })
    }
}

/// The exponent of the power law that fits best: the slope of a straight line through the logarithms. `None` where
/// there are fewer than two sizes.
pub(super) fn exponent(points: &[(f64, f64)]) -> Option<f64> {
    let logarithms: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x.ln(), y.ln())).collect();
    let count = count_as_f64(logarithms.len());
    let mean_x = logarithms.iter().map(|point| point.0).sum::<f64>() / count;
    let mean_y = logarithms.iter().map(|point| point.1).sum::<f64>() / count;
    let covariance: f64 = logarithms.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let variance: f64 = logarithms.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    (variance > 0.0).then_some(covariance / variance)
}

/// A count as a value of a figure.
#[expect(clippy::cast_precision_loss, reason = "no count here comes near 2^52")]
pub(super) fn count_as_f64(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[f64]) -> Samples {
        Samples::new(values.to_vec())
    }

    fn figure(ours: &[f64], limit: &[f64]) -> Figure {
        Figure::new("fan_out", "", "last", Unit::Seconds, samples(ours)).limit("bare", samples(limit))
    }

    fn is_near(value: Option<f64>, expected: f64) -> bool {
        value.is_some_and(|value| (value - expected).abs() < 1e-9)
    }

    #[test]
    fn the_median_lies_in_the_middle() {
        assert_eq!(samples(&[]).median(), None);
        assert!(is_near(samples(&[3.0, 1.0, 2.0]).median(), 2.0));
        assert!(is_near(samples(&[4.0, 1.0, 2.0, 3.0]).median(), 2.5));
        assert_eq!(samples(&[2.0, 3.0, 1.0]).spread(), Some((1.0, 3.0)));
    }

    #[test]
    fn a_ratio_is_one_of_medians_and_its_spread_one_of_rounds() {
        let figure = figure(&[2.0, 3.0, 9.0], &[1.0, 2.0, 3.0]);
        assert!(is_near(figure.ratio(), 1.5));
        assert_eq!(figure.ratio_spread(), Some((1.5, 3.0)));
    }

    #[test]
    fn rounds_that_cannot_be_paired_have_no_spread() {
        assert_eq!(figure(&[2.0, 3.0], &[1.0]).ratio_spread(), None);
        assert_eq!(figure(&[2.0], &[0.0]).ratio(), None);
    }

    #[test]
    fn a_target_is_met_or_not() {
        let figure = figure(&[1.1], &[1.0]);
        assert_eq!(figure.is_met(), None);
        assert_eq!(figure.clone().target(Target::Ratio(1.15)).is_met(), Some(true));
        assert_eq!(figure.clone().target(Target::Ratio(1.05)).is_met(), Some(false));
        assert_eq!(figure.clone().target(Target::Below(1.1)).is_met(), Some(false));
        assert_eq!(figure.target(Target::AtLeast(1.1)).is_met(), Some(true));
    }

    #[test]
    fn the_exponent_of_a_power_law_is_found() {
        let quadratic = [(1.0, 3.0), (10.0, 300.0), (100.0, 30_000.0)];
        assert!(is_near(exponent(&quadratic), 2.0));
        assert_eq!(exponent(&[(5.0, 1.0)]), None);
        assert_eq!(exponent(&[]), None);
    }
}
