//! The room that texts of workloads take: the names of keys that their templates use, exclude lists, observed-config. Most
//! have a few hundred bytes; some could have as much as a thousand references take.

use std::collections::HashMap;
use std::sync::Arc;

use pod_reloader_core::workload::Workload;

/// As much counts as one more object.
const BYTES_PER_UNIT: usize = 400;

/// How much there is of them, in units.
#[derive(Debug, Default)]
pub(super) struct Words {
    pub(super) total: usize,
    of: HashMap<Arc<str>, usize>,
}

impl Words {
    /// What a workload has of them.
    pub(super) fn of(workload: &Workload) -> usize {
        workload.text_bytes() / BYTES_PER_UNIT
    }

    pub(super) fn of_namespace(&self, namespace: &str) -> usize {
        self.of.get(namespace).copied().unwrap_or_default()
    }

    /// A workload of that namespace has so many, where it had so many before.
    pub(super) fn change(&mut self, namespace: &str, before: usize, after: usize) {
        if before == after {
            return;
        }
        self.total = self.total + after - before;
        let of_namespace = self.of_namespace(namespace) + after - before;
        if of_namespace == 0 {
            self.of.remove(namespace);
        } else if let Some(count) = self.of.get_mut(namespace) {
            *count = of_namespace;
        } else {
            self.of.insert(namespace.into(), of_namespace);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pod_reloader_core::kind::apps::DEPLOYMENT;
    use pod_reloader_core::reference::WorkloadRef;
    use tokio::time::Instant;

    use super::super::{Applied, Index};
    use super::*;

    fn reading(keys: usize) -> Workload {
        let env: Vec<_> = (0..keys)
            .map(|i| format!(r#"{{"valueFrom":{{"configMapKeyRef":{{"name":"c","key":"{i:0>100}"}}}}}}"#))
            .collect();
        let json = format!(
            r#"{{"metadata":{{"annotations":{{"pod-reloader.cs.sap.com/auto":"true"}}}},
                "spec":{{"template":{{"spec":{{"containers":[{{"env":[{}]}}]}}}}}}}}"#,
            env.join(",")
        );
        Workload::read(DEPLOYMENT, &json).unwrap()
    }

    #[test]
    fn c5_2_keys_without_number_take_room_as_references_do() {
        let now = Instant::now();
        let mut index = Index::new(Duration::ZERO, true, 3_000);
        let mut apply = |namespace: &str, name: &str, keys| {
            let workload = WorkloadRef { kind: DEPLOYMENT, namespace: namespace.into(), name: name.into() };
            index.apply_workload(&workload.into(), reading(keys).placed_in(namespace), now).0
        };
        let fitting = (0..100).take_while(|i| apply("greedy", &i.to_string(), 500) == Applied::Managed);
        let fitting = fitting.count();
        assert!((2..10).contains(&fitting), "{fitting}");
        assert_eq!(apply("shop", "web", 3), Applied::Managed, "others have room");
        assert_eq!(apply("greedy", "0", 1), Applied::Managed, "one that shrinks makes room");
        assert_eq!(apply("greedy", "again", 500), Applied::Managed);
        let all = index.workloads().cloned().collect::<Vec<_>>();
        for workload in all {
            index.delete_workload(&workload);
        }
        assert_eq!((index.words.total, index.words.of.len()), (0, 0));
    }
}
