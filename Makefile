# What there is to run; `make` alone lists it. Tests and the demo share a cargo profile, installing and measuring another that
# takes longer to link; ccache compiles RocksDB once for both.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo demo-ha demo-history demo-down build install uninstall lint test bench sim soak search bless

SEED ?= 1
SOAK_SECONDS ?= 600
SOAK_SEED ?= 7
SOAK_SEEDS ?= 10000
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
DESTDIR ?=
BINARIES ?= target/release
FIGURES ?=
CASES ?= 5000

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## /  make \1\t/p' Makefile | expand -t 18

setup: ## install what building needs (libclang, ccache, the Docker Engine, busybox-static), where it is missing
	@scripts/setup

demo: setup ## a cluster of three nodes on this machine, and the main job in two minutes
	@scripts/cargo build --workspace --bins
	@scripts/demo

demo-ha: setup ## three managers and two workers, and a leader that is killed
	@scripts/cargo build --workspace --bins
	@scripts/demo-ha

demo-history: setup ## a bad update: found, explained, put back and proved from the log
	@scripts/cargo build --workspace --bins
	@scripts/demo-history

demo-down: ## remove every trace of any demo
	@scripts/demo-down

build: setup ## the binaries that are installed and measured, optimised over all crates (some minutes)
	scripts/cargo build --release --workspace --bins

install: ## put the binaries, the systemd unit, completions and an example config in place (DESTDIR, PREFIX, SYSCONFDIR)
	@PREFIX='$(PREFIX)' SYSCONFDIR='$(SYSCONFDIR)' DESTDIR='$(DESTDIR)' BINARIES='$(BINARIES)' scripts/install

uninstall: ## take away what install put in place; the config file and the state stay
	@PREFIX='$(PREFIX)' SYSCONFDIR='$(SYSCONFDIR)' DESTDIR='$(DESTDIR)' scripts/install remove

lint: setup ## format check, licences of dependencies where cargo-deny is installed, and clippy with warnings denied
	cargo fmt --all --check
	scripts/deny
	scripts/cargo clippy --workspace --all-targets -- -D warnings

test: lint ## lint, then all tests; those on real containers where a Docker Engine can be had
	scripts/engine with scripts/test

bench: build ## the figures of tests/BENCHMARKS.md, measured here (FIGURES="scheduling replay": only these)
	scripts/engine with target/release/bench $(FIGURES)

sim: setup ## one simulated cluster with faults (SEED=1; QUORUM=1: several managers, FLEET=1: with agents, REGISTERS=1: what clients see)
	scripts/cargo run -p tests --bin sim -- --seed $(SEED) $(if $(QUORUM),--quorum) $(if $(REGISTERS),--registers) $(if $(FLEET),--fleet)

search: setup ## look for failures that nobody has seen yet: random cases of the properties (CASES=5000)
	PROPTEST_CASES=$(CASES) scripts/cargo test -p tests --test properties

soak: setup ## faults under load on three real managers, as root (SOAK_SECONDS=600, SOAK_SEED=7), then ten simulated histories a seed (SOAK_SEEDS=10000)
	scripts/cargo build --workspace --bins
	SWARMLOG_SOAK_SECONDS=$(SOAK_SECONDS) SWARMLOG_SOAK_SEED=$(SOAK_SEED) scripts/cargo test -p tests --test it -- --nocapture --include-ignored as_root::what_managers
	SWARMLOG_SEEDS=$(SOAK_SEEDS) scripts/cargo test -p tests --test simulation -- --nocapture what_clients_see

bless: setup ## accept the scenarios' present transcripts as their goldens
	SWARMLOG_BLESS=1 scripts/cargo test -p tests --test scenarios
