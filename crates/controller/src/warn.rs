//! Warnings about what users wrote, and about what cannot be read: each is told once, while it stands.

use pod_reloader_core::annotation::SETTLE_WINDOW;
use pod_reloader_core::name::ConfigRef;
use pod_reloader_core::observed::{Observed, Seen};
use pod_reloader_core::reference::MAX_REFERENCES;
use pod_reloader_core::workload::SettleWindow;

use pod_reloader_k8s::evaluate::Evaluation;

use crate::evaluate::not_found;
use crate::events::Reason;
use crate::index::View;
use crate::reconcile::Reconciler;
use crate::tidings::join;

impl Reconciler {
    /// Warns of what is wrong with the lists themselves.
    pub(crate) fn warn_of_lists(&self, view: &View) {
        self.warn_of_secrets_at_first(view);
        let references = &view.workload.references;
        let mut notes = vec![];
        if references.bad_count() > 0 {
            let bad = references.bad_names();
            let more = references.bad_count().saturating_sub(bad.len());
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            notes.push(format!("not valid as a name and left out: {}{more}", join(bad)));
        }
        if references.left_out() > 0 {
            notes.push(format!(
                "more than {} references; entries left out: {}",
                MAX_REFERENCES,
                references.left_out()
            ));
        }
        if view.workload.settle_window == SettleWindow::Invalid {
            notes.push(format!(
                "{SETTLE_WINDOW} is not a duration like 30s or 5m (at most 24h): the operator's default is used"
            ));
        }
        if notes.is_empty() {
            self.recorder.resolve(&view.reference, &[Reason::InvalidReference]);
        } else {
            self.recorder.warn_once(view, Reason::InvalidReference, notes.join("; "));
        }
    }

    /// Warns of Secrets that are listed where none are followed (5.9).
    pub(crate) fn warn_of_secrets(&self, view: &View) {
        if self.reader.follows_secrets() {
            return;
        }
        let count = view.workload.references.secrets().len();
        if count == 0 {
            self.recorder.resolve(&view.reference, &[Reason::SecretsNotFollowed]);
        } else {
            let note =
                format!("pod-reloader: Secrets are not followed here (--secrets=false); listed: {count}");
            // The number may change: that is no other trouble.
            self.recorder.warn_about(view, Reason::SecretsNotFollowed, String::new(), note);
        }
    }

    /// Likewise, unless the workload says itself that this is known: that spares thousands of Events at every start.
    fn warn_of_secrets_at_first(&self, view: &View) {
        let secrets = view.workload.references.secrets();
        if self.reader.follows_secrets() || secrets.is_empty() {
            return self.warn_of_secrets(view);
        }
        let hash = view.workload.template.config_hash.as_deref();
        let observed = view.workload.observed.as_deref();
        let recorded = observed.and_then(|text| Observed::parse(text, &view.reference.namespace, hash));
        let is_known = |object: &&ConfigRef| {
            let record = recorded.as_ref().and_then(|recorded| recorded.records.get(*object));
            record.is_some_and(|record| record.seen == Seen::Unfollowed)
        };
        if !secrets.iter().all(is_known) {
            self.warn_of_secrets(view);
        }
    }

    /// Warns of references that cannot be read, once it is clear that it stays so, and of those that may be typos.
    pub(crate) fn warn_of_references(&self, view: &View, evaluation: &Evaluation) {
        let unreadable = || evaluation.reads.unreadable();
        if unreadable().len() == 0 {
            self.recorder.resolve(&view.reference, &[Reason::ReferenceUnreadable]);
        } else if evaluation.is_tolerant {
            let names = join(unreadable().map(|(object, _)| object));
            let note = format!(
                "cannot be read: {}",
                join(unreadable().map(|(object, why)| format!("{object}: {why}")))
            );
            self.recorder.warn_about(view, Reason::ReferenceUnreadable, names, note);
        }
        let not_found = not_found(view, evaluation);
        if not_found.is_empty() {
            self.recorder.resolve(&view.reference, &[Reason::ReferenceNotFound]);
        } else {
            let note = format!(
                "listed, but not there, and the pod template does not use it either; is the name right? {}",
                join(not_found)
            );
            self.recorder.warn_once(view, Reason::ReferenceNotFound, note);
        }
    }
}
