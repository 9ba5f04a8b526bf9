//! Warnings about what users wrote, and about what cannot be read: each is told once, while it stands.

use pod_reloader_core::annotation::SETTLE_WINDOW;
use pod_reloader_core::reference::MAX_REFERENCES;
use pod_reloader_core::workload::SettleWindow;

use crate::evaluate::Evaluation;
use crate::events::Reason;
use crate::index::View;
use crate::reconcile::Reconciler;
use crate::tidings::join;

impl Reconciler {
    /// Warns of what is wrong with the lists themselves.
    pub(crate) fn warn_of_lists(&self, view: &View) {
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

    /// Warns of references that cannot be read, once it is clear that it stays so, and of those that may be typos.
    pub(crate) fn warn_of_references(&self, view: &View, evaluation: &Evaluation) {
        if evaluation.unreadable.is_empty() {
            self.recorder.resolve(&view.reference, &[Reason::ReferenceUnreadable]);
        } else if evaluation.is_lasting {
            let names = join(evaluation.unreadable.iter().map(|(name, _)| name));
            let unreadable = evaluation.unreadable.iter().map(|(name, why)| format!("{name}: {why}"));
            let note = format!("cannot be read: {}", join(unreadable));
            self.recorder.warn_about(view, Reason::ReferenceUnreadable, names, note);
        }
        if evaluation.not_found.is_empty() {
            self.recorder.resolve(&view.reference, &[Reason::ReferenceNotFound]);
        } else {
            let note = format!(
                "listed, but not there, and the pod template does not use it either; is the name right? {}",
                join(&evaluation.not_found)
            );
            self.recorder.warn_once(view, Reason::ReferenceNotFound, note);
        }
    }
}
