//! Problems with what users wrote, and references that cannot be read: published when they begin, and resolved when
//! they end.

use pod_reloader_core::name::ConfigRef;
use pod_reloader_core::observed::{Observed, Seen};
use pod_reloader_core::workload::SettleWindow;
use pod_reloader_k8s::evaluate::Evaluation;

use crate::conditions::Condition;
use crate::evaluate::not_found;
use crate::fact::{Fact, InvalidLists, Unreadable};
use crate::index::View;
use crate::reconciler::Reconciler;

impl Reconciler {
    /// Warns of what is wrong with the lists themselves.
    pub(crate) fn warn_of_lists(&self, view: &View) {
        self.warn_of_secrets_at_first(view);
        let references = &view.workload.references;
        let lists = InvalidLists {
            bad_names: strings(references.bad_names()),
            bad_count: references.bad_count(),
            left_out: references.left_out(),
            has_bad_settle_window: view.workload.settle_window == SettleWindow::Invalid,
            mistakes: strings(&view.workload.mistakes),
        };
        let fact = (!lists.is_empty()).then_some(Fact::InvalidLists(lists));
        self.publish_or_resolve(view, fact, Condition::InvalidReference);
    }

    /// Warns of Secrets that are listed where none are followed (5.9).
    pub(crate) fn warn_of_secrets(&self, view: &View) {
        if self.reader.follows_secrets() {
            return;
        }
        let count = view.workload.references.secrets().len();
        let fact = (count > 0).then_some(Fact::SecretsNotFollowed { count });
        self.publish_or_resolve(view, fact, Condition::SecretsNotFollowed);
    }

    /// Likewise, unless the workload says itself that this is known: that spares thousands of Events at every start.
    fn warn_of_secrets_at_first(&self, view: &View) {
        let secrets = view.workload.references.secrets();
        if self.reader.follows_secrets() || secrets.is_empty() {
            return self.warn_of_secrets(view);
        }
        let hash = view.workload.template.config_hash.as_deref();
        let observed = view.workload.observed.as_deref();
        let recorded = observed.and_then(|text| Observed::parse(text, &view.workload_ref.namespace, hash));
        let is_known = |object: &&ConfigRef| {
            let record = recorded.as_ref().and_then(|recorded| recorded.records.get(*object));
            record.is_some_and(|record| record.seen == Seen::Unfollowed)
        };
        if !secrets.iter().all(is_known) {
            self.warn_of_secrets(view);
        }
    }

    /// Warns of references that cannot be read, once it is clear that they stay so, and of those that may be typos.
    pub(crate) fn warn_of_references(&self, view: &View, evaluation: &Evaluation) {
        // What may pass with the next attempt neither begins nor ends the condition.
        let unreadable = evaluation.reads.unreadable();
        if unreadable.len() == 0 || evaluation.is_tolerant {
            let unreadable: Vec<_> = unreadable
                .map(|(object, why)| Unreadable { name: object.to_string(), why: why.to_string() })
                .collect();
            let fact = (!unreadable.is_empty()).then_some(Fact::ReferencesUnreadable(unreadable));
            self.publish_or_resolve(view, fact, Condition::ReferenceUnreadable);
        }
        let not_found = strings(&not_found(view, evaluation));
        let fact = (!not_found.is_empty()).then_some(Fact::ReferencesNotFound(not_found));
        self.publish_or_resolve(view, fact, Condition::ReferenceNotFound);
    }

    fn publish_or_resolve(&self, view: &View, fact: Option<Fact>, condition: Condition) {
        match fact {
            Some(fact) => self.publish(view, &fact),
            None => self.facts.resolve(&view.workload_ref, &[condition]),
        }
    }
}

fn strings<T: ToString>(items: &[T]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}
