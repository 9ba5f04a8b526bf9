//! 4.2: a reference that must not be read is left out and does not hold up the others, whatever else cannot be asked.

mod support;

use serde_json::json;
use support::{Webhook, deployment, reading, review};

/// `private` is forbidden, `gone` is absent and recorded with a digest, `needed` is required and not listed, and whether it
/// is there cannot be asked. On an owner's rollout what is required beside the lists never held up a decision: "whether they
/// have to wait for what could not be asked for is not known; then one reload too many is the lesser harm".
#[tokio::test(start_paused = true)]
async fn c4_2_a_forbidden_reference_does_not_make_a_failing_question_about_another_object_undecided() {
    for has_forbidden in [false, true] {
        let webhook = Webhook::new();
        let lists = if has_forbidden { "a,gone,private" } else { "a,gone" };
        for name in ["a", "gone"] {
            webhook.stub.put(&format!("configmaps/{name}"), "1");
        }
        webhook.stub.fail("configmaps/private", 403);
        let containers = reading(&["a", "needed"]);
        let old = webhook.review(&review("CREATE", &deployment(lists, &containers), None)).await.object;

        webhook.stub.put("configmaps/a", "2");
        webhook.stub.fail("configmaps/gone", 404);
        // Lists, by which existence is asked.
        webhook.stub.fail("configmaps", 500);
        let mut new = old.clone();
        new["spec"]["template"]["spec"]["containers"][0]["image"] = json!("app:2");
        let admitted = webhook.review(&review("UPDATE", &new, Some(&old))).await;
        if has_forbidden {
            let warnings = admitted.warnings.join("\n");
            assert!(warnings.contains("1 reference(s) cannot be read and are not followed"), "{warnings}");
            assert!(
                warnings.contains("configmap private: forbidden") && !warnings.contains("needed"),
                "{warnings}"
            );
        }
        assert!(
            admitted.is_patched,
            "with a forbidden reference: {has_forbidden}: the rollout does not carry the change of `a`: {:?}",
            admitted.warnings
        );
    }
}
