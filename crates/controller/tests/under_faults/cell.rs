//! One cell of the table: a fault, two changes, and what must hold.

use std::time::Duration;

use pod_reloader_stub_api::{Fault, FaultRule, RequestKind, RuleId, StubApi, objects};
use tokio::time::sleep;

use crate::support::replica::{Options, Replica};
use crate::support::{SETTLE_WINDOW, in_paused_time, last_revision, paint, revisions, server, shop};

/// A change is seen within that time, whatever hung (A 1), and then some backoff.
const BOUND: Duration = Duration::from_secs(60 + 30);
/// A user whom the fault does not concern is not delayed by more than a second beyond the window.
const BYSTANDERS_BOUND: Duration = SETTLE_WINDOW.saturating_add(Duration::from_secs(1));
/// Requests that the two changes and the fault may take, renewed watches included; those for the Lease not.
const MAX_REQUESTS: usize = 150;

/// Whose requests have the fault.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Row {
    Reconciler(RequestKind),
    Key(RequestKind),
    Election(RequestKind),
}

impl Row {
    pub(crate) fn kind(self) -> RequestKind {
        let (Self::Reconciler(kind) | Self::Key(kind) | Self::Election(kind)) = self;
        kind
    }

    fn client(self) -> &'static str {
        match self {
            Self::Reconciler(_) => "replica",
            Self::Key(_) => "replica/key",
            Self::Election(_) => "replica/lease",
        }
    }

    /// Whether a request does not show whom it is made for.
    fn concerns_all(self) -> bool {
        use RequestKind::{List, WatchStart, WatchStream};
        !matches!(self, Self::Reconciler(_)) || matches!(self.kind(), List | WatchStart | WatchStream)
    }
}

/// A cell of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    pub(crate) row: Row,
    pub(crate) fault: Fault,
    /// How often it strikes.
    pub(crate) times: u64,
}

impl Cell {
    /// Runs the history; an error says which promise is broken.
    pub(crate) fn run(self, seed: u64) -> Result<(), String> {
        let broken = in_paused_time(self.history(seed));
        if broken.is_empty() { Ok(()) } else { Err(format!("{self:?}: {}", broken.join("; "))) }
    }

    async fn history(self, seed: u64) -> Vec<String> {
        let stub = server(seed);
        shop(&stub, "shop", 1);
        shop(&stub, "other", 1);
        // A server that streams lists is never asked for pages.
        stub.set_watch_list(!matches!(self.row, Row::Reconciler(RequestKind::List)));
        // The key is made, and the Lease taken, at the beginning.
        let first = (!matches!(self.row, Row::Reconciler(_))).then(|| stub.fail(self.rule()));
        let is_electing = matches!(self.row, Row::Election(_));
        let options = if is_electing { Options::electing("replica") } else { Options::new("replica") };
        let replica = Replica::start(&stub, options);
        sleep(if first.is_some() { BOUND } else { Duration::from_secs(30) }).await;
        let before = ["shop", "other"].map(|namespace| revisions(&stub, namespace));

        let rule = self.strike(&stub);
        let requests = count_requests(&stub);
        let edited_at = stub.elapsed();
        paint(&stub, "shop", "blue");
        paint(&stub, "other", "blue");
        sleep(BOUND).await;
        let mut broken = vec![];
        let after = ["shop", "other"].map(|namespace| revisions(&stub, namespace));
        if before != [1, 1] {
            broken.push(format!("{before:?} revisions at first"));
        }
        if after[0] != before[0] + 1 {
            broken.push(format!("{} revisions of the one concerned", after[0] - before[0]));
        }
        if after[1] != before[1] + 1 {
            broken.push(format!("{} revisions of the bystander", after[1] - before[1]));
        } else if !self.row.concerns_all() {
            let waited = last_revision(&stub, "other", "web").saturating_sub(edited_at);
            if waited > BYSTANDERS_BOUND {
                broken.push(format!("the bystander waited {waited:?}"));
            }
        }
        let made = count_requests(&stub) - requests;
        if made > MAX_REQUESTS {
            broken.push(format!("{made} requests"));
        }
        if self.times > 0 && stub.hits(rule) + first.map_or(0, |first| stub.hits(first)) == 0 {
            broken.push("the fault never struck: the history is no test".into());
        }
        // What comes late must not come twice.
        let is_reconcilers = matches!(self.row, Row::Reconciler(_));
        sleep(Duration::from_mins(if is_reconcilers { 10 } else { 2 })).await;
        let later = ["shop", "other"].map(|namespace| revisions(&stub, namespace));
        if later != after {
            broken.push(format!("later {later:?} revisions instead of {after:?}"));
        }
        if replica.budget.peak() > replica.budget.total() {
            broken.push(format!("{} bytes were reserved", replica.budget.peak()));
        }
        if replica.budget.reserved() > 0 {
            broken.push(format!("{} bytes are still reserved", replica.budget.reserved()));
        }
        if !replica.health.silent().is_empty() {
            broken.push(format!("silent watches: {:?}", replica.health.silent()));
        }
        if !replica.stop().await {
            broken.push("the replica does not stop".into());
        }
        broken
    }

    fn rule(self) -> FaultRule {
        let rule = FaultRule::new(self.fault).kind(self.row.kind()).client(self.row.client());
        rule.times(self.times)
    }

    /// From now on the fault strikes, and what it strikes is asked for.
    fn strike(self, stub: &StubApi) -> RuleId {
        let rule = match self.row {
            row if row.concerns_all() => self.rule(),
            Row::Reconciler(RequestKind::Namespace) => self.rule().name("shop"),
            _ => self.rule().namespace("shop"),
        };
        let rule = stub.fail(rule);
        match self.row.kind() {
            // A version that is forgotten needs a list.
            RequestKind::List => {
                stub.compact();
                stub.put(objects::config_map("third", "unused", &[]));
                stub.compact();
                stub.restart();
            }
            RequestKind::WatchStart => stub.restart(),
            // A conflict has the workload read.
            RequestKind::GetWorkload => {
                let conflicts = FaultRule::new(Fault::Status(409)).kind(RequestKind::Patch).namespace("shop");
                stub.fail(conflicts.times(3));
            }
            _ => {}
        }
        rule
    }
}

fn count_requests(stub: &StubApi) -> usize {
    stub.count(|entry| entry.kind() != RequestKind::Lease)
}
