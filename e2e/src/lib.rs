//! The kit of which tests and demonstrations of pod-reloader are made, on a real Kubernetes control plane.
//!
//! [`ControlPlane::start`] boots etcd, kube-apiserver and kube-controller-manager on free loopback ports, without root
//! and without a node: Deployments, `ReplicaSets`, revisions and rollout history are real, pods stay pending. What it
//! starts goes away with it, also when the process that started it is killed.
//!
//! ```text
//! ControlPlane::start ──> kubeconfig(user), client(user), kubectl(user)
//!         │                      └── Operator::spawn(binary, ...)     the built operator as a child process
//!         ├── audit()            └── Registration::apply(...)         its MutatingWebhookConfiguration
//!         └── stop_api_server, pause(component), ...
//! ```
//!
//! [`RealCluster::start`] boots the same with a node, on which pods run and Services answer. That takes root.
//!
//! [`Testbed::shared`] is such a cluster, or any that is given, with pod-reloader installed and a namespace for each scenario.
//!
//! A [`World`] is a control plane with replicas of the built operator and their registration: all tests of a binary can
//! share one, and those that break things have one of their own. Its proxies misbehave on demand, and [`Release`] is the
//! chart, installed there.
//!
//! A [`Space`] is a namespace on any of these, with what tests do and see there.
//!
//! Nothing here sleeps for a fixed time: everything awaits a condition ([`wait::eventually`]); [`let_pass`] is for tests
//! of time itself.

pub mod audit;
pub mod authority;
pub mod chart;
pub mod claim;
mod client;
pub mod control_plane;
pub mod helm;
pub mod image;
pub mod installation;
pub mod kinds;
pub mod kubectl;
pub mod node;
pub mod objects;
pub mod operator;
pub mod paths;
pub mod pods;
pub mod policy;
pub mod ports;
pub mod process;
mod random;
pub mod registration;
pub mod space;
pub mod testbed;
pub mod tool;
pub mod user;
pub mod wait;
pub mod workload;
pub mod world;

pub use audit::{Audit, Entry, Mark};
pub use authority::{Authority, Pair};
pub use control_plane::{Component, ControlPlane, Options};
pub use helm::{Helm, Registry};
pub use image::Image;
pub use installation::Installation;
pub use kubectl::Kubectl;
pub use node::{NodePart, RealCluster};
pub use operator::{Operator, OperatorOptions};
pub use pods::SeenPod;
pub use registration::{FailurePolicy, Registration};
pub use space::Space;
pub use testbed::{Scenario, Testbed};
pub use tool::Tool;
pub use user::User;
pub use wait::{TIMEOUT, eventually, give_up, let_pass};
pub use workload::Workload;
pub use world::{SETTLE_WINDOW, World, operator_binary, release::Release};
