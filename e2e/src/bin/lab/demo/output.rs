//! What the demo prints.

use std::time::Instant;

use pod_reloader_e2e::Kubectl;

/// Prints the demo and keeps count of the expectations that were met.
#[derive(Debug)]
pub(super) struct Output {
    started: Instant,
    met: usize,
    missed: Vec<String>,
}

impl Output {
    pub(super) fn new() -> Self {
        Self { started: Instant::now(), met: 0, missed: Vec::new() }
    }

    /// Begins a step.
    pub(super) fn step(title: &str) {
        println!("\n{title}");
    }

    /// An explanation.
    pub(super) fn note(text: &str) {
        println!("  {text}");
    }

    /// An expectation that was met.
    pub(super) fn met(&mut self, text: &str) {
        println!("  ✓ {text}");
        self.met += 1;
    }

    /// An expectation that was not met; the demo goes on if it can.
    pub(super) fn missed(&mut self, text: &str) {
        println!("  ✗ {text}");
        self.missed.push(text.to_owned());
    }

    /// One or the other.
    pub(super) fn expect(&mut self, holds: bool, met: &str, missed: &str) {
        if holds { self.met(met) } else { self.missed(missed) }
    }

    /// Runs a command as a user could, and shows it with what it printed.
    pub(super) async fn run(kubectl: &Kubectl, args: &[&str]) -> anyhow::Result<()> {
        let shown: Vec<_> = args.iter().map(|arg| quote(arg)).collect();
        println!("  $ kubectl {}", shown.join(" "));
        for line in kubectl.run(args).await?.lines().filter(|line| !line.is_empty()) {
            println!("    {line}");
        }
        Ok(())
    }

    /// Sums up; whether all expectations were met.
    pub(super) fn summary(&self) -> bool {
        let elapsed = self.started.elapsed().as_secs_f64();
        println!();
        if self.missed.is_empty() {
            println!("All {} expectations were met, in {elapsed:.0} s.", self.met);
        } else {
            println!("{} of {} expectations were not met:", self.missed.len(), self.met + self.missed.len());
            for text in &self.missed {
                println!("  ✗ {text}");
            }
        }
        self.missed.is_empty()
    }
}

/// As one would type it in a shell.
fn quote(arg: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./,:".contains(c);
    if !arg.is_empty() && arg.chars().all(plain) {
        arg.to_owned()
    } else {
        format!("'{}'", arg.replace('\'', r"'\''"))
    }
}
