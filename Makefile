SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
export CARGO_TERM_COLOR ?= auto

CARGO ?= cargo
CARGO_DENY_VERSION := 0.20.2

.PHONY: help
help: ## list targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: tools
tools: ## check that the build tools are installed
	@for tool in $(CARGO) cc; do \
	  command -v $$tool >/dev/null || { echo "error: '$$tool' is missing. Needed: Rust 1.95 or newer (https://rustup.rs), a C linker (apt-get install build-essential), and Go 1.26 or newer (https://go.dev/dl) unless KUBEBUILDER_ASSETS holds a control plane"; exit 1; }; \
	done

.PHONY: build
build: tools ## the release binary, static and reproducible: target/release/pod-reloader
	@e2e/image/binary.sh

.PHONY: reproduce
reproduce: tools ## build the release binary in two places, and compare
	@e2e/image/reproduce.sh

.PHONY: control-plane
control-plane: ## etcd, kube-apiserver, kube-controller-manager, kubectl and helm, in e2e/bin
	@e2e/control-plane/build.sh
	@e2e/tools/build.sh helm

.PHONY: node
node: ## also kubelet, kube-proxy, kube-scheduler and CoreDNS, in e2e/bin
	@e2e/control-plane/build.sh node
	@e2e/tools/build.sh helm coredns

.PHONY: chart-tools
chart-tools: ## helm, a registry, cert-manager and the other tools of the chart and its tests, in e2e/bin
	@e2e/tools/build.sh

.PHONY: chart
chart: ## the packaged chart, in target/chart (REGISTRY=...: with the image of that registry)
	@e2e/tools/build.sh helm
	@charts/package.sh

.PHONY: chart-docs
chart-docs: ## make the chart's README.md and values.schema.json from its values.yaml
	@e2e/tools/build.sh helm-docs helm-values-schema
	@charts/generate.sh

.PHONY: chart-test
chart-test: chart-tools tools ## the chart's tests alone
	$(CARGO) build --locked --workspace --bins --tests
	$(CARGO) test --locked --workspace --test chart

.PHONY: manifests
manifests: ## plain manifests and a Kustomize base, in target/manifests (IMAGE=..., VALUES=..., NAMESPACE=...)
	@e2e/tools/build.sh helm
	@charts/manifests.sh

.PHONY: image
image: tools ## the image and its bills of materials, in target/image, without a container engine (ARCHITECTURES=...)
	@e2e/image/build.sh

# A registry on this machine has no TLS, as other tools take it, too.
export PLAIN_HTTP ?= $(if $(filter localhost localhost:% localhost/% 127.0.0.1:%,$(REGISTRY)),1)
.PHONY: publish
publish: tools ## push image, attachments and chart to REGISTRY=registry.example.com/team (COSIGN_KEY=...: signed)
	@test -n "$(REGISTRY)" || { echo "error: where to? make publish REGISTRY=registry.example.com/team"; exit 1; }
	@e2e/image/base.sh --check
	@e2e/image/sign.sh --check
	@$(MAKE) --no-print-directory advisories
	@e2e/tools/build.sh helm oras $(if $(COSIGN_KEY)$(COSIGN_KEYLESS),cosign)
	@ARCHITECTURES="$(or $(ARCHITECTURES),all)" e2e/image/build.sh
	@e2e/image/push.sh "$(REGISTRY)"
	@REGISTRY="$(REGISTRY)" PUSH=1 charts/package.sh
	@e2e/image/sign.sh "$(REGISTRY)"

.PHONY: archives
archives: image ## archives to download, with manifests for krew and Homebrew, in target/archives (DOWNLOADS=https://...)
	@e2e/image/archives.sh

.PHONY: pin-base
pin-base: ## write the digest that the build image's tag has today into the Dockerfile (needs Docker Hub)
	@e2e/tools/build.sh crane
	@e2e/image/base.sh

# One program stands behind the targets that boot clusters, show the demo, measure and pack images.
LAB := $(or $(CARGO_TARGET_DIR),target)/debug/lab
.PHONY: lab
lab: tools
	@$(CARGO) build --quiet --locked -p pod-reloader-e2e --bin lab

.PHONY: demo
override REAL := $(filter-out 0 no false,$(REAL))
demo: $(if $(REAL),real-ready,control-plane build lab) ## show what pod-reloader does, on a real control plane (KEEP=1: leave it running; REAL=1: with a node and pods, needs root)
	@$(LAB) demo $(if $(REAL),--node,--operator target/release/pod-reloader) $(if $(KEEP),--keep)

.PHONY: demo-stop
demo-stop: lab ## stop what `make demo KEEP=1` left running
	@$(LAB) demo --stop

.PHONY: cluster
cluster: control-plane tools lab ## boot only the control plane, until Ctrl-C
	@$(LAB) up

.PHONY: e2e-images
e2e-images: tools ## the images of the examples' applications, in target/image, without a container engine
	@e2e/apps/build.sh

# Debian's packages are installed if that is possible; what is still missing is printed.
.PHONY: node-packages
node-packages:
	@[ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null || e2e/node/packages.sh

# All that a cluster with a node and pod-reloader takes.
.PHONY: real-ready
real-ready: node-packages node image e2e-images lab
	@e2e/tools/build.sh helm registry
	@$(LAB) check

.PHONY: real-up
real-up: real-ready ## boot a cluster with a node and pod-reloader, in the background (needs root)
	@$(LAB) up --node --install --background

.PHONY: real-down
real-down: lab ## stop that cluster, and delete it
	@$(LAB) down

# Only from the command line: the KUBECONFIG of a shell may be a production cluster.
GIVEN := $(if $(filter command,$(firstword $(origin KUBECONFIG))),$(abspath $(KUBECONFIG)))
.PHONY: e2e
ifeq ($(GIVEN),)
e2e: real-ready chart-tools ## the scenarios of docs/examples, on a cluster of their own (needs root) or on KUBECONFIG=... (REGISTRY=...: with images from there)
	@POD_RELOADER_E2E_KUBECONFIG= tests/run.sh --test scenarios --test installation --test real_cluster
else
e2e: control-plane e2e-images $(if $(REGISTRY),publish,image)
	@e2e/tools/build.sh helm registry crane
	$(if $(REGISTRY),@e2e/apps/push.sh "$(REGISTRY)")
	@POD_RELOADER_E2E_KUBECONFIG="$(GIVEN)" POD_RELOADER_E2E_REGISTRY="$(REGISTRY)" tests/run.sh --test scenarios
endif

.PHONY: test
test: node chart-tools image e2e-images ## all tests, against the real control plane where Kubernetes is involved
	@ALL_HISTORIES=1 HISTORY_SECONDS=$${HISTORY_SECONDS:-20} tests/run.sh

# Always the whole workspace, and the suites by name: Cargo builds the dependencies anew for each other choice of
# packages, since these choose other features.
SUITES := $(wildcard crates/*/tests/*.rs) $(patsubst %/main.rs,%,$(wildcard crates/*/tests/*/main.rs tests/stub-api/tests/*/main.rs))
IN_PROCESS := $(basename $(notdir $(SUITES)))
.PHONY: check
check: fmt-check lint ## formatting, clippy and all tests that need no control plane, in a few minutes
	$(CARGO) test --workspace --locked --lib --bins $(addprefix --test ,$(IN_PROCESS))

.PHONY: fmt
fmt: ## format the code
	$(CARGO) fmt --all

.PHONY: fmt-check
fmt-check: ## check that the code is formatted
	$(CARGO) fmt --all --check

.PHONY: lint
lint: core-check serving-check provider-check ## clippy, with warnings as errors
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

.PHONY: core-check
core-check: ## check that core has no async runtime and no Kubernetes client
	@! $(CARGO) tree --locked -p pod-reloader-core -e normal --prefix none | grep -E '^(tokio|hyper|kube|k8s-openapi|axum|tracing) ' \
	  || { echo "error: pod-reloader-core must not depend on the above"; exit 1; }

.PHONY: serving-check
serving-check: ## check that serving has no Kubernetes client, and knows nothing of what is served
	@! $(CARGO) tree --locked -p pod-reloader-serving -e normal --prefix none \
	  | grep -E '^(kube|kube-[a-z]+|k8s-openapi|json-patch|rcgen|pod-reloader-(certs|controller|core|k8s|webhook)) ' \
	  || { echo "error: pod-reloader-serving must not depend on the above"; exit 1; }

# What is in the binary, with the default features and for FIPS.
PROVIDERS = $(CARGO) tree --locked -p pod-reloader -e normal,build --prefix none
FIPS := --no-default-features --features fips
.PHONY: provider-check
provider-check: ## check that each build has one provider of cryptography
	@! $(PROVIDERS) | grep -E '^aws-lc' || { echo "error: only the build for FIPS may have aws-lc-rs"; exit 1; }
	@! $(PROVIDERS) $(FIPS) | grep -E '^ring ' || { echo "error: the build for FIPS must not have ring"; exit 1; }

# In a folder of its own: other features would have everything else built anew.
.PHONY: fips-check
fips-check: tools provider-check ## check that the FIPS build serves, with the validated module (some minutes at first)
	@for tool in cmake go; do \
	  command -v $$tool >/dev/null || { echo "error: '$$tool' is missing, which builds AWS-LC (apt-get install cmake; https://go.dev/dl)"; exit 1; }; \
	done
	$(CARGO) test --locked -p pod-reloader -p pod-reloader-core -p pod-reloader-serving $(FIPS) --target-dir target/fips --test clients --test hashes --test serves

.PHONY: fips
fips: tools ## the release binary with aws-lc-rs in FIPS mode: target/fips/release/pod-reloader
	$(CARGO) build --release --locked -p pod-reloader $(FIPS) --target-dir target/fips

.PHONY: doc
doc: ## documentation of all crates, with warnings as errors
	RUSTDOCFLAGS=-Dwarnings $(CARGO) doc --workspace --no-deps --locked --document-private-items

.PHONY: cargo-deny
cargo-deny:
	@command -v cargo-deny >/dev/null || $(CARGO) install cargo-deny --version $(CARGO_DENY_VERSION) --locked

.PHONY: deny
deny: cargo-deny ## licences and sources of all dependencies, and duplicates among those of the default build
	$(CARGO) deny --config .cargo/deny.toml check --hide-inclusion-graph bans
	$(CARGO) deny --all-features --config .cargo/deny.toml check --hide-inclusion-graph licenses sources

.PHONY: advisories
advisories: cargo-deny ## security advisories of dependencies, from the RustSec database or a copy (ADVISORIES=warn)
	@e2e/advisories/check.sh

.PHONY: clean
clean: ## remove what was built here
	rm -rf target e2e/bin e2e/run

# The clients cost something, too: they are optimized like the operator.
.PHONY: bench
override QUICK := $(filter-out 0 no false,$(QUICK))
bench: control-plane build ## measure what pod-reloader costs, each figure beside its limit (QUICK=1: three minutes; SCENARIOS=..., ROUNDS=..., PEER=description.json)
	$(CARGO) build --profile lab --locked -p pod-reloader-e2e --bin lab
	POD_RELOADER_BINARY=$(or $(POD_RELOADER_BINARY),$(CURDIR)/target/release/pod-reloader) \
	  $(or $(CARGO_TARGET_DIR),target)/lab/lab bench $(if $(QUICK),--quick) $(if $(ROUNDS),--rounds=$(ROUNDS)) \
	  $(addprefix --peer=,$(PEER)) $(SCENARIOS)

.PHONY: bench-memory
bench-memory: control-plane build lab ## measure peak memory under a limit of 128 MiB, whatever tenants do (SCENARIOS=...; 30 minutes)
	POD_RELOADER_BINARY=$(CURDIR)/target/release/pod-reloader $(LAB) memory $(SCENARIOS)
