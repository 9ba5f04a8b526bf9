//! The smallest patches that give a workload the annotations it should have.

use json_patch::{AddOperation, PatchOperation, RemoveOperation, ReplaceOperation, jsonptr::PointerBuf};
use serde_json::{Map, Value, json};

use crate::admission::Baseline;
use crate::annotation;
use crate::guard::Guard;
use crate::kind::{KindRef, Shape};
use crate::observed::without_witnesses;
use crate::workload::{AnnotationRoom, PodTemplate, Workload};

/// The annotations that a workload should have. SAP's trigger is never among them (4.5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// The config hash on the pod template.
    pub hash: Option<String>,
    /// observed-config on the workload.
    pub observed: Option<String>,
}

/// An annotation had to be left out, or the API server would have refused the object (4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// For observed-config on the workload.
    Observed,
    /// For the config hash on the pod template.
    Hash,
}

impl Target {
    /// The annotations as they are.
    pub fn of(baseline: Baseline<'_>) -> Self {
        Self { hash: baseline.hash.map(str::to_owned), observed: baseline.observed.map(str::to_owned) }
    }

    /// Leaves out what would take the workload's annotations past what the API server allows, if it is not there
    /// in that size already: witnesses first.
    pub fn fitted_to(mut self, workload: &Workload) -> (Self, Vec<NoRoom>) {
        let mut left_out = vec![];
        let trigger = entry_bytes(annotation::CONFIG_HASH, workload.sap_trigger.as_deref());
        let observed = entry_bytes(annotation::OBSERVED_CONFIG, workload.observed.as_deref());
        let others = workload.annotations.bytes.saturating_sub(trigger + observed);
        let fits = |observed: &String| {
            others + entry_bytes(annotation::OBSERVED_CONFIG, Some(observed))
                <= annotation::MAX_TOTAL_BYTES - annotation::HEADROOM_BYTES
        };
        if let Some(observed) = self.observed.take() {
            // Witnesses spare reads, and are no loss to anything else.
            let shorter = |observed: String| without_witnesses(&observed).filter(fits);
            self.observed = if fits(&observed) { Some(observed) } else { shorter(observed) };
            if self.observed.is_none() {
                left_out.push(NoRoom::Observed);
            }
        }
        let template = &workload.template;
        let hash = entry_bytes(annotation::CONFIG_HASH, template.config_hash.as_deref());
        let others = template.annotations.bytes.saturating_sub(hash);
        if others + entry_bytes(annotation::CONFIG_HASH, self.hash.as_deref()) > annotation::MAX_TOTAL_BYTES
            && self.hash.take().is_some()
        {
            left_out.push(NoRoom::Hash);
        }
        (self, left_out)
    }

    /// Whether the workload already is as it should be.
    pub fn is_met_by(&self, workload: &Workload) -> bool {
        workload.sap_trigger.is_none()
            && workload.observed == self.observed
            && workload.template.config_hash == self.hash
    }

    /// The JSON Patch (RFC 6902) for an admission response; empty when all is right.
    pub fn admission_patch(&self, kind: KindRef, workload: &Workload) -> json_patch::Patch {
        let mut operations = vec![];
        let map = PointerBuf::from_tokens(["metadata", "annotations"]);
        let AnnotationRoom { is_present, .. } = workload.annotations;
        let mut on_workload = Edit { operations: &mut operations, map, is_present };
        on_workload.set(annotation::OBSERVED_CONFIG, workload.observed.as_deref(), self.observed.as_deref());
        on_workload.set(annotation::CONFIG_HASH, workload.sap_trigger.as_deref(), None);

        let template = &workload.template;
        if self.hash.is_some() {
            add_missing(kind, template, &mut operations);
        }
        let map = kind.annotations_pointer();
        let AnnotationRoom { is_present, .. } = template.annotations;
        Edit { operations: &mut operations, map, is_present }.set(
            annotation::CONFIG_HASH,
            template.config_hash.as_deref(),
            self.hash.as_deref(),
        );
        json_patch::Patch(operations)
    }

    /// The JSON Patch for the reconciler where the workload moves too fast for [`Self::merge_patch`], as text of type
    /// `application/json-patch+json`: the edits of [`Self::admission_patch`] behind tests on all that the decision
    /// read. `guard` has to be of the same version as `workload`. `None` when all is right.
    pub fn guarded_patch(&self, workload: &Workload, guard: &Guard<'_>) -> Option<String> {
        let edits = self.admission_patch(guard.kind(), workload).0;
        if edits.is_empty() {
            return None;
        }
        let edits = edits.iter().map(|edit| serde_json::to_string(edit).expect("operations are JSON"));
        let operations: Vec<_> = guard.tests().into_iter().chain(edits).collect();
        Some(format!("[{}]", operations.join(",")))
    }

    /// The merge patch (RFC 7386) for the reconciler, guarded by the resource version that the decision read;
    /// `None` when all is right.
    pub fn merge_patch(&self, kind: KindRef, workload: &Workload) -> Option<Value> {
        let mut on_workload = Map::new();
        if workload.observed != self.observed {
            on_workload.insert(annotation::OBSERVED_CONFIG.into(), json!(self.observed));
        }
        if workload.sap_trigger.is_some() {
            on_workload.insert(annotation::CONFIG_HASH.into(), Value::Null);
        }
        let is_hash_right = workload.template.config_hash == self.hash;
        if on_workload.is_empty() && is_hash_right {
            return None;
        }
        let mut patch = json!({"metadata": {"resourceVersion": workload.resource_version}});
        if !on_workload.is_empty() {
            patch["metadata"]["annotations"] = Value::Object(on_workload);
        }
        if !is_hash_right {
            let members = kind.template.iter().chain(kind.to_annotations());
            let annotations = members.fold(&mut patch, |parent, member| &mut parent[*member]);
            *annotations = json!({ annotation::CONFIG_HASH: self.hash });
        }
        Some(patch)
    }
}

/// Adds the objects around the map of annotations that are not there.
fn add_missing(kind: KindRef, template: &PodTemplate, operations: &mut Vec<PatchOperation>) {
    match kind.shape {
        Shape::PodTemplate if !template.has_metadata => {
            operations.push(add(kind.template_pointer(&["metadata"]), json!({})));
        }
        Shape::PodTemplate => {}
        Shape::Annotations => {
            // All but the map itself.
            let missing = (template.steps..kind.template.len().saturating_sub(1))
                .filter_map(|steps| kind.missing_member(steps));
            operations.extend(missing.map(|member| add(member, json!({}))));
        }
    }
}

/// Edits one map of annotations.
struct Edit<'a> {
    operations: &'a mut Vec<PatchOperation>,
    map: PointerBuf,
    is_present: bool,
}

impl Edit<'_> {
    fn set(&mut self, key: &str, before: Option<&str>, after: Option<&str>) {
        let path = self.map.with_trailing_token(key);
        match (before, after) {
            (before, after) if before == after => {}
            (None, Some(value)) => {
                if !self.is_present {
                    self.operations.push(add(self.map.clone(), json!({})));
                    self.is_present = true;
                }
                let operation = AddOperation { path, value: json!(value) };
                self.operations.push(PatchOperation::Add(operation));
            }
            (Some(_), Some(value)) => {
                let operation = ReplaceOperation { path, value: json!(value) };
                self.operations.push(PatchOperation::Replace(operation));
            }
            (_, None) => self.operations.push(PatchOperation::Remove(RemoveOperation { path })),
        }
    }
}

fn add(path: PointerBuf, value: Value) -> PatchOperation {
    PatchOperation::Add(AddOperation { path, value })
}

fn entry_bytes(key: &str, value: Option<&str>) -> usize {
    value.map_or(0, |value| key.len() + value.len())
}
