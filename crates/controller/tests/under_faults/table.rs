//! Every request kind meets every fault, as a table of histories.

use pod_reloader_stub_api::{Fault, RequestKind};

use crate::cell::{Cell, Row};
use crate::support::thinned;

/// Often enough for each of the five watches.
const TIMES: u64 = 5;

/// The kinds of request that a replica makes, and which part of it does.
const ROWS: [Row; 16] = [
    Row::Reconciler(RequestKind::List),
    Row::Reconciler(RequestKind::WatchStart),
    Row::Reconciler(RequestKind::WatchStream),
    Row::Reconciler(RequestKind::GetMetadata),
    Row::Reconciler(RequestKind::GetContent),
    Row::Reconciler(RequestKind::GetWorkload),
    Row::Reconciler(RequestKind::Namespace),
    Row::Reconciler(RequestKind::Patch),
    Row::Reconciler(RequestKind::CreateEvent),
    Row::Key(RequestKind::List),
    Row::Key(RequestKind::WatchStart),
    Row::Key(RequestKind::WatchStream),
    // The creation of the Secret.
    Row::Key(RequestKind::Other),
    Row::Election(RequestKind::Lease),
    Row::Election(RequestKind::WatchStart),
    Row::Election(RequestKind::WatchStream),
];

fn cells() -> impl Iterator<Item = Cell> {
    ROWS.into_iter().flat_map(|row| {
        let faults = Fault::ALL.into_iter().filter(move |fault| fault.concerns(row.kind()));
        faults.map(move |fault| Cell { row, fault, times: TIMES })
    })
}

/// Fails with all cells that break a promise, so that one run shows them all.
fn run_all(cells: impl Iterator<Item = Cell>) {
    let broken: Vec<_> = thinned(cells).filter_map(|cell| cell.run(1).err()).collect();
    assert!(broken.is_empty(), "{} cells:\n{}", broken.len(), broken.join("\n"));
}

#[test]
fn c5_7_each_change_is_one_revision_whatever_request_has_whatever_fault() {
    run_all(cells().filter(|cell| matches!(cell.row, Row::Reconciler(_))));
}

#[test]
fn c5_7_each_change_is_one_revision_whatever_happens_to_key_and_election() {
    run_all(cells().filter(|cell| !matches!(cell.row, Row::Reconciler(_))));
}

/// Without a fault all of it holds: the table's own test.
#[test]
fn c5_7_each_change_is_one_revision_without_faults() {
    for seed in thinned(0..20) {
        let cell = Cell { row: Row::Reconciler(RequestKind::List), fault: Fault::Reset, times: 0 };
        cell.run(seed).unwrap();
    }
}
