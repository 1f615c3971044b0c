# Every target has one line of help: `make help`.
SHELL := /bin/bash
.DEFAULT_GOAL := help
JOBS ?= 2
FUZZ_SECONDS ?= 60
SEEDS ?= 1
CARGO := cargo

.PHONY: help run build test sim lint bench fuzz docs charts images e2e e2e-long crds

help: ## this help
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

run: ## build and start three nodes on localhost:9092 to 9094, data in ./dev-data; Ctrl-C stops them cleanly
	$(CARGO) run --release -j$(JOBS) -p chronik-broker --bin chronik -- dev --nodes 3

build: ## build the broker and the operator for release
	$(CARGO) build --release -j$(JOBS) --bins

test: ## every test that needs no Kubernetes: unit, property, real processes, real clients
	$(CARGO) build -j$(JOBS) --workspace --bins
	$(CARGO) test -j$(JOBS) --workspace
	tests/clients/run

# Its own profile: the runtime's draws can be seeded only by what Tokio calls unstable.
sim: ## run SEEDS (default 1) seeds of the simulated cluster from SEED (default: a fresh one) on
	RUSTFLAGS="--cfg tokio_unstable" SEED=$(SEED) SEEDS=$(SEEDS) $(CARGO) test -j$(JOBS) --profile sim \
		-p chronik-broker --lib sim::tests::by_hand -- --ignored --nocapture

lint: ## format, clippy, stale generated files, dependency licences and bans, unused dependencies
	$(CARGO) fmt --all --check
	$(CARGO) clippy -j$(JOBS) --workspace --all-targets -- -D warnings
	$(CARGO) run --quiet -j$(JOBS) -p chronik-operator -- crds print --into crds --check
	tests/lint

fuzz: ## every fuzz target for FUZZ_SECONDS (default 60) from its seeds; needs clang
	broker/fuzz/run $(FUZZ_SECONDS)

bench: build ## side by side with Apache Kafka; needs CHRONIK_PEER
	tests/bench/run

docs: ## write the generated reference pages anew
	UPDATE_DOCS=1 $(CARGO) test -j$(JOBS) -p chronik-broker -p chronik-operator --lib docs_

charts: ## write deploy/operator and the charts' snapshots anew from charts/; needs helm
	INSTA_UPDATE=always UPDATE_CHARTS=1 $(CARGO) test -j$(JOBS) -p chronik-k8s-tests --test charts

images: ## build the images of broker and operator into target/images; needs buildah or docker
	deploy/images/build

e2e: ## the Kubernetes tests against the cluster that KUBECONFIG names; needs kubectl, helm, buildah or docker
	tests/k8s/run

e2e-long: ## the same, and the operator is killed at every step of every operation
	CHRONIK_E2E_LONG=1 tests/k8s/run

crds: ## write crds/*.yaml anew from the types
	$(CARGO) run --quiet -j$(JOBS) -p chronik-operator -- crds print --into crds
