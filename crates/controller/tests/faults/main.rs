//! Every request kind meets every fault (issue's D 17), as a table of histories.
#![allow(clippy::unwrap_used, reason = "in tests a panic is a failure")]

mod history;

use history::Cell;
use pod_reloader_stub_api::{Fault, RequestKind};

/// Often enough for each of the five watches.
const TIMES: u64 = 5;

/// The kinds of request that the reconciler makes.
const KINDS: [RequestKind; 8] = [
    RequestKind::List,
    RequestKind::WatchStart,
    RequestKind::WatchStream,
    RequestKind::GetMetadata,
    RequestKind::GetContent,
    RequestKind::GetWorkload,
    RequestKind::Patch,
    RequestKind::CreateEvent,
];

fn cells() -> impl Iterator<Item = Cell> {
    KINDS.into_iter().flat_map(|kind| {
        let faults = Fault::ALL.into_iter().filter(move |fault| fault.concerns(kind));
        faults.map(move |fault| Cell { kind, fault, times: TIMES })
    })
}

/// Fails with all cells that break a promise, so that one run shows them all.
#[test]
fn c5_7_each_change_is_one_revision_whatever_request_has_whatever_fault() {
    let broken: Vec<_> = cells().filter_map(|cell| cell.run(1).err()).collect();
    assert!(broken.is_empty(), "{} cells:\n{}", broken.len(), broken.join("\n"));
}

/// Without a fault all of it holds: the table's own test.
#[test]
fn c5_7_each_change_is_one_revision_without_faults() {
    for seed in 0..20 {
        let cell = Cell { kind: RequestKind::List, fault: Fault::Reset, times: 0 };
        cell.run(seed).unwrap();
    }
}
