//! 9.1 to 9.3: kinds that are not built in, as custom resources of a real API server, with what the chart makes for them:
//! registration, rights and policies.

mod argo;
mod coming;
mod custom;
mod rollouts;
mod setup;
mod stolen;
