//! Runs scripts and tools, and takes what they say.

#![allow(clippy::unwrap_used, reason = "in tests a panic is a failure")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Did it succeed, and what did it say?
pub fn output(command: &mut Command) -> (bool, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.success(), String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr))
}

/// What it prints; it has to succeed.
pub fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(
        status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr)
    );
    String::from_utf8(stdout).unwrap()
}

/// What it says; it has to fail.
pub fn fails(command: &mut Command) -> String {
    let (succeeded, text) = output(command);
    assert!(!succeeded, "{command:?} succeeded: {text}");
    text
}
