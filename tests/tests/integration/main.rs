//! What users see, one module per part of `docs/behaviour.md`, all on one control plane.

mod table;
