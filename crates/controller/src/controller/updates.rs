//! What the watches report: of workloads, of config objects, and of the namespaces that are selected. What has
//! workloads follow more is in `opting_in`.

use std::sync::Arc;

use kube::Resource;
use pod_reloader_core::kind::KindRef;
use pod_reloader_core::name::{ConfigKind, ConfigRef};
use pod_reloader_core::reference::WorkloadRef;
use pod_reloader_core::workload::Idle;
use pod_reloader_k8s::objects::{ConfigMeta, NamespaceMeta, WorkloadObject};
use tokio::time::Instant;

use super::Controller;
use crate::index::Presence;
use crate::selection::Effect;
use crate::watch::{Change, Coverage, Update};

impl Controller {
    pub(super) fn take(&mut self, update: Update) {
        match update {
            Update::Workload(coverage, change) => self.take_workload(&coverage, change),
            Update::Object(coverage, change) => self.take_object(&coverage, change),
            Update::Relisted(coverage, change) => self.take_relisted(&coverage, change),
            Update::Namespace(coverage, change) => self.take_namespace(&coverage, &change),
            Update::Label(coverage, change) => self.take_label(&coverage, &change),
        }
    }

    fn take_namespace(&mut self, coverage: &Coverage<()>, change: &Change<NamespaceMeta>) {
        let name = |namespace: &NamespaceMeta| namespace.meta().name.clone().unwrap_or_default();
        let effect = match change {
            Change::ListBegins => {
                self.selection.begin_list(coverage);
                Effect::Nothing
            }
            Change::Listed(namespace) => self.selection.select(&name(namespace), Some(coverage)),
            Change::Applied(namespace) => self.selection.select(&name(namespace), None),
            Change::Deleted(namespace) => self.selection.deselect(&name(namespace)),
            Change::ListEnds => self.selection.end_list(coverage),
            Change::ListFailed => Effect::Nothing,
        };
        match effect {
            Effect::Nothing => {}
            Effect::Relist => self.steering.relist(),
            Effect::Left(namespaces) => self.leave(&namespaces),
        }
        self.begin_workloads();
    }

    /// These namespaces are no longer selected: their workloads are left alone.
    fn leave(&mut self, namespaces: &[String]) {
        let is_left = |workload: &&Arc<WorkloadRef>| namespaces.contains(&workload.namespace);
        let left: Vec<_> = self.index.workloads().filter(is_left).cloned().collect();
        for workload in left {
            self.selection.pass_over(&workload.namespace);
            self.workload_is_gone(&workload);
        }
    }

    fn take_workload(&mut self, coverage: &Coverage<KindRef>, change: Change<WorkloadObject>) {
        let is_event = matches!(change, Change::Applied(_));
        match change {
            Change::ListBegins => self.index.begin_workloads(coverage),
            Change::Listed(object) | Change::Applied(object) => {
                let Some(workload) = object.reference(coverage.kind).map(Arc::new) else { return };
                if !self.selection.contains(&workload.namespace) {
                    if object.workload.is_managed() || object.workload.idle == Some(Idle::StandIn) {
                        self.selection.pass_over(&workload.namespace);
                    }
                    return;
                }
                let is_new = is_event && !self.index.contains(&workload);
                self.index.list_workload(coverage, &workload);
                self.workload_is(&workload, object, Instant::now());
                if is_new && let Some(snapshot) = self.index.snapshot(&workload) {
                    self.reconciler.warn_of_secrets(&snapshot.view);
                }
                // Every workload event is compared again (5.3).
                self.reconcile_now(&workload);
            }
            Change::Deleted(object) => {
                if let Some(workload) = object.reference(coverage.kind) {
                    self.workload_is_gone(&workload);
                    if object.workload.idle == Some(Idle::StandIn) {
                        self.reconcile_jobs_of(&workload.namespace);
                    }
                }
            }
            Change::ListEnds => {
                for workload in self.index.end_workloads(coverage) {
                    self.workload_is_gone(&workload);
                }
                self.workloads_are_over(coverage);
            }
            Change::ListFailed => self.workloads_are_over(coverage),
        }
    }

    fn take_object(&mut self, coverage: &Coverage<ConfigKind>, change: Change<ConfigMeta>) {
        let reference = |object: &ConfigMeta| {
            let meta = object.meta();
            Some(ConfigRef::new(coverage.kind, meta.namespace.clone()?, meta.name.clone()?))
        };
        match change {
            Change::ListBegins => {
                self.opt_ins.lock().begin_marks(coverage);
                self.index.begin_objects(coverage);
                self.first_lists.objects_begin(coverage.kind);
            }
            Change::Listed(object) | Change::Applied(object) => {
                let Some(name) = reference(&object) else { return };
                self.index.list_object(coverage, &name);
                let version = object.version(coverage.kind);
                self.take_mark(&name, version.marks.follow, Some(coverage));
                self.object_is(&name, &Presence::Version(version.into()));
            }
            Change::Deleted(object) => {
                if let Some(name) = reference(&object) {
                    self.take_mark(&name, false, None);
                    self.object_is(&name, &Presence::Absent);
                }
            }
            Change::ListEnds => {
                self.opt_ins.lock().end_marks(coverage);
                for name in self.index.end_objects(coverage) {
                    self.object_is(&name, &Presence::Absent);
                }
                self.objects_are_over(coverage);
            }
            Change::ListFailed => self.objects_are_over(coverage),
        }
    }

    fn workloads_are_over(&mut self, coverage: &Coverage<KindRef>) {
        if self.first_lists.workloads_are_over(coverage.kind) {
            self.steering.begin_objects();
        }
    }

    fn objects_are_over(&mut self, coverage: &Coverage<ConfigKind>) {
        for workload in self.first_lists.objects_are_over(coverage.kind) {
            self.reconcile_now(&workload);
        }
    }
}
