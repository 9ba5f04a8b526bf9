//! What a request's body alone determines. The body is not needed any more after that.

use std::cell::Cell;

use pod_reloader_core::admission::{Admission, classify};
use pod_reloader_core::dialect::own::Auto;
use pod_reloader_core::kind::KindRef;
use pod_reloader_core::reference::is_valid_namespace;
use pod_reloader_core::surroundings::Surroundings;
use pod_reloader_core::template_diff;
use pod_reloader_core::workload::Workload;
use pod_reloader_k8s::FIELD_MANAGER;
use serde_json::value::RawValue;

use crate::admit::Admitter;
use crate::metrics::Outcome;
use crate::review::{Request, Response, ReviewError};
use crate::warning;

/// A request without its body.
pub(crate) struct Prepared {
    /// To be given back in the response.
    pub(crate) uid: String,
    pub(crate) operation: String,
    pub(crate) plan: Plan,
}

/// What remains to be done.
pub(crate) enum Plan {
    /// A kind that the webhook was not registered for.
    UnknownKind(String),
    /// Nothing more to find out.
    Answered(KindRef, Outcome, Response),
    /// Annotations are to be set.
    Open(Box<Open>),
}

/// A write of an opted-in workload.
pub(crate) struct Open {
    pub(crate) kind: KindRef,
    pub(crate) namespace: String,
    pub(crate) name: Option<String>,
    pub(crate) dry_run: bool,
    pub(crate) new: Workload,
    pub(crate) old: Option<Workload>,
    /// Whether the pod template is another; where it matters.
    pub(crate) template_changed: bool,
}

impl Prepared {
    /// About how many bytes it takes.
    pub(crate) fn weight(&self) -> usize {
        const BASE: usize = 4096;
        let Plan::Open(open) = &self.plan else { return BASE };
        let of = |workload: &Workload| {
            workload.annotations.bytes + workload.template.annotations.bytes + workload.text_bytes()
        };
        BASE + of(&open.new) + open.old.as_ref().map_or(0, of)
    }
}

impl Admitter {
    /// Reads a review of a workload in a namespace with that label (7.4).
    pub(crate) fn prepare(&self, body: &[u8], label: Auto) -> Result<Prepared, ReviewError> {
        let request = Request::parse(body)?;
        let plan = match self.workload_kind(&request) {
            None => {
                let kind = request.kind.kind.chars().filter(char::is_ascii_alphanumeric);
                Plan::UnknownKind(kind.take(40).collect())
            }
            Some(kind) => match self.open(&request, kind, label) {
                Ok(open) => Plan::Open(Box::new(open)),
                Err((outcome, warning)) => {
                    let warnings =
                        warning.into_iter().map(|why| format!("pod-reloader: {why}; it is left alone"));
                    let response = Response { warnings: warnings.collect(), ..Response::default() };
                    Plan::Answered(kind, outcome, response)
                }
            },
        };
        Ok(Prepared { uid: request.uid, operation: request.operation, plan })
    }

    /// Reads the objects; the error is for what is answered at once, perhaps with a warning.
    fn open(
        &self,
        request: &Request<'_>,
        kind: KindRef,
        label: Auto,
    ) -> Result<Open, (Outcome, Option<String>)> {
        let left_alone = |why: &str| (Outcome::LeftAlone, Some(why.to_owned()));
        let is_subresource = request.sub_resource.as_deref().is_some_and(|name| !name.is_empty());
        if is_subresource || !matches!(request.operation.as_str(), "CREATE" | "UPDATE") {
            return Err((Outcome::LeftAlone, None));
        }
        // Another installation answers for these workloads: an answer of this one would interfere.
        if self.key.is_standing_down() {
            return Err((Outcome::LeftAlone, None));
        }
        if self.is_own_patch(request) {
            return Err((Outcome::OwnPatch, None));
        }
        let (new, old) = read_objects(request, kind)
            .map_err(|unreadable| left_alone(&format!("cannot read the {unreadable}")))?;
        let namespace = request.namespace.as_deref().filter(|namespace| !namespace.is_empty());
        let Some(namespace) = namespace.or(new.namespace.as_deref()).map(str::to_owned) else {
            return Err(left_alone("the request names no namespace"));
        };
        // It becomes part of paths that are asked for with our rights.
        if !is_valid_namespace(&namespace) {
            return Err(left_alone("the request's namespace is no valid name"));
        }
        if !self.scope.contains(&namespace) || !self.is_selected(request) {
            return Err((Outcome::LeftAlone, None));
        }
        let old = old.map(|old| old.placed_in(&namespace));
        // What a CREATE says was recorded is asked for, and does not count otherwise.
        let new = new.placed_in(&namespace);
        let recorded = old.as_ref().unwrap_or(&new).recorded_as_followed();
        let surroundings = Surroundings {
            namespace: if self.scope.heeds_label_of(&namespace) { label } else { Auto::Off },
            is_followed: &|_| false,
            may_be_marked: &|object| recorded.contains(object),
        };
        let new = new.surrounded_by(&surroundings);
        let old = old.map(|old| old.surrounded_by(&surroundings));
        let template_changed = Cell::new(true);
        let differs = || {
            if let (Some(old), Some(new)) = (request.old_object, request.object) {
                template_changed.set(template_diff::differs(kind, old.get(), new.get()));
            }
            template_changed.get()
        };
        if classify(new.hash_mode(self.mode), &new, old.as_ref(), differs) == Admission::LeaveAlone {
            let mistake = new.mistakes.first().filter(|_| !new.is_ignored && !new.is_deleting);
            let warning = warning::no_template(kind, &new).or_else(|| mistake.map(ToString::to_string));
            return Err((Outcome::LeftAlone, warning));
        }
        let name = request.name.clone().or_else(|| new.name.clone());
        Ok(Open {
            kind,
            namespace,
            name,
            dry_run: request.dry_run.unwrap_or_default(),
            new,
            old,
            template_changed: template_changed.get(),
        })
    }

    fn workload_kind(&self, request: &Request<'_>) -> Option<KindRef> {
        let named = &request.kind;
        let kind = self.scope.kinds.by_kind(&named.group, &named.version, &named.kind);
        kind.filter(|kind| kind.is_reviewed())
    }

    /// Whether the workload has the labels (1.6), before or after the write: as the API server has it for the
    /// `objectSelector` of a webhook.
    fn is_selected(&self, request: &Request<'_>) -> bool {
        let selector = &self.scope.object_selector;
        let is_meant = |object: Option<&RawValue>| object.is_some_and(|it| selector.matches_json(it.get()));
        selector.is_empty()
            || is_meant(request.object)
            || (request.operation == "UPDATE" && is_meant(request.old_object))
    }

    /// The reconciler's patches pass as they are, also those of other replicas: they share the user name (4.3).
    fn is_own_patch(&self, request: &Request<'_>) -> bool {
        let own_user = self.own_user.borrow();
        let user = request.user_info.as_ref().and_then(|user| user.username.as_deref());
        let manager = request.options.as_ref().and_then(|options| options.field_manager.as_deref());
        own_user.is_some()
            && user == own_user.as_deref()
            && manager == Some(FIELD_MANAGER)
            && request.operation == "UPDATE"
    }
}

/// The new object and, on an UPDATE, the old one; the error names what could not be read.
fn read_objects(request: &Request<'_>, kind: KindRef) -> Result<(Workload, Option<Workload>), &'static str> {
    let read = |object: Option<&RawValue>| Workload::read(kind, object?.get()).ok();
    let new = read(request.object).ok_or("object")?;
    let old = match request.operation.as_str() {
        "UPDATE" => Some(read(request.old_object).ok_or("old object")?),
        _ => None,
    };
    Ok((new, old))
}
