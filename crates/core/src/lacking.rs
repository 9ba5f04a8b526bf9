//! What has to be known of a workload's references before anything can be decided.

use std::collections::BTreeMap;

use crate::decide::Input;
use crate::lookup::{Depth, Lookup, Lookups, Query};
use crate::name::ConfigRef;
use crate::observed::Observed;
use crate::reference::Reference;

/// What has to be known of the references and is not. `observed` is what they will be compared with.
pub(crate) fn lacking(
    input: &Input<'_>,
    known: &Lookups,
    references: &BTreeMap<&ConfigRef, &Reference>,
    observed: Option<&Observed>,
    needs_content: bool,
) -> Vec<Query> {
    let recorded = observed.filter(|observed| observed.is_comparable(input.key));
    let mut lacking = vec![];
    for (&object, reference) in references {
        // A digest over other keys than those that count now has to be compared once more.
        let before = observed.and_then(|observed| observed.records.get(object)).map(|record| &record.keys);
        // Of what is followed for its mark, the mark is asked for first.
        let is_open = known.contains_key(object) || !reference.needs_mark;
        let also = before.filter(|keys| **keys != reference.keys && is_open);
        let depths = if needs_content {
            let first = first_depth(input, known.get(object), reference, recorded);
            [Some(first), also.cloned().map(Depth::Content)]
        } else {
            [Some(Depth::Version), None]
        };
        for depth in depths.into_iter().flatten() {
            if !known.get(object).is_some_and(|lookup| lookup.answers(&depth, input.key)) {
                lacking.push(Query { object: object.clone(), depth });
            }
        }
    }
    lacking
}

/// How much of a reference has to be known where content counts: the version alone if it is, or may be, the one in which
/// the recorded digest was seen.
fn first_depth(
    input: &Input<'_>,
    known: Option<&Lookup>,
    Reference { object, keys, needs_mark, .. }: &Reference,
    recorded: Option<&Observed>,
) -> Depth {
    let has_witness = || recorded.is_some_and(|it| it.witness_of(object, keys).is_some());
    let is_proven =
        |version| recorded.is_some_and(|it| it.proven(input.key, object, keys, version).is_some());
    match known {
        // Without its mark, its content is not ours to read.
        None if *needs_mark => Depth::Version,
        None if has_witness() => Depth::Version,
        Some(Lookup::Found(found))
            if found.digest(input.key, keys).is_none() && is_proven(&found.version) =>
        {
            Depth::Version
        }
        _ => Depth::Content(keys.clone()),
    }
}
