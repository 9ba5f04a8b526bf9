//! What the audience reads.

use std::time::Instant;

use pod_reloader_e2e::Kubectl;

/// Prints the story and keeps count of what came true.
#[derive(Debug)]
pub(crate) struct Narrator {
    started: Instant,
    met: usize,
    missed: Vec<String>,
}

impl Narrator {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), met: 0, missed: Vec::new() }
    }

    /// Opens a chapter.
    pub(crate) fn chapter(title: &str) {
        println!("\n{title}");
    }

    /// An explanation.
    pub(crate) fn note(text: &str) {
        println!("  {text}");
    }

    /// An expectation that was met.
    pub(crate) fn met(&mut self, text: &str) {
        println!("  ✓ {text}");
        self.met += 1;
    }

    /// An expectation that was not met; the story goes on if it can.
    pub(crate) fn missed(&mut self, text: &str) {
        println!("  ✗ {text}");
        self.missed.push(text.to_owned());
    }

    /// One or the other.
    pub(crate) fn expect(&mut self, holds: bool, met: &str, missed: &str) {
        if holds { self.met(met) } else { self.missed(missed) }
    }

    /// Runs a command as the audience could, and shows it with what it printed.
    pub(crate) async fn run(kubectl: &Kubectl, args: &[&str]) -> anyhow::Result<()> {
        let shown: Vec<_> = args.iter().map(|arg| quote(arg)).collect();
        println!("  $ kubectl {}", shown.join(" "));
        for line in kubectl.run(args).await?.lines().filter(|line| !line.is_empty()) {
            println!("    {line}");
        }
        Ok(())
    }

    /// Sums up; whether everything came true.
    pub(crate) fn summary(&self) -> bool {
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
