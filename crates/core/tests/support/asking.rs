//! Decisions of which only what is asked for is known, as in the product.

use pod_reloader_core::decide::{
    Answer, Decision, Depth, Found, Input, Lookup, Lookups, Query, Verdict, decide,
};
use pod_reloader_core::observed::Observed;
use pod_reloader_core::witness::Witnesses;

/// What is decided where what is asked for is answered with what is asked for, and what that was.
pub fn decided_asking(input: &Input<'_>, there: &Lookups) -> (Decision, Vec<Query>) {
    let (mut known, mut asked) = (Lookups::new(), vec![]);
    loop {
        let queries = match decide(input, &known) {
            Answer::Decided(decision) => return (decision, asked),
            Answer::Lacks(queries) => queries,
        };
        for query in queries {
            assert!(!asked.contains(&query), "it asks again: {query:?}");
            let answer = match (&there[&query.object], &query.depth) {
                (Lookup::Found(found), Depth::Exists | Depth::Version) => {
                    Lookup::Found(Found::version(found.version.clone()))
                }
                (answer, _) => answer.clone(),
            };
            known.insert(query.object.clone(), answer);
            asked.push(query);
        }
    }
}

/// The verdict without witnesses, nor all that is missing: what is not asked for is not reported.
pub fn gist(verdict: &Verdict) -> Verdict {
    let plain = |observed: &Option<Observed>| {
        observed.clone().map(|observed| Observed { witnesses: Witnesses::new(), ..observed })
    };
    match verdict.clone() {
        Verdict::Observe(observed) => Verdict::Observe(plain(&observed)),
        Verdict::Reload { hash, observed, causes } => {
            Verdict::Reload { hash, observed: plain(&observed), causes }
        }
        Verdict::Act { observed, causes } => {
            Verdict::Act { observed: Observed { witnesses: Witnesses::new(), ..observed }, causes }
        }
        Verdict::Defer { causes, .. } => Verdict::Defer { missing: vec![], causes },
        other => other,
    }
}
