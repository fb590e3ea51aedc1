# The commands of this project; `make` alone lists them.

# What set-up made comes first: the Node, the Python and the browser that the demo and the tests use.
export PATH := $(CURDIR)/target/tools/bin:$(PATH)
# Where the demo and the tests look for what was built, whatever this machine's cargo is told elsewhere.
export CARGO_TARGET_DIR := $(CURDIR)/target
# For the demo; each can be given on the command line.
export VIDEO CHECK PORT PAGE_PORT

# The edge's default feature is the Cloudflare runtime, which is for wasm; no other package here has default features.
native := -p edge -p rewrite -p transcoder -p tests -p rewriting --no-default-features
wasm := -p edge -p hello -p rewriting --lib --target wasm32-unknown-unknown

# Folders are among the sources, so that a file that went away is a change too.
edge := $(shell find edge/src edge/rewrite ! -name '.*') edge/Cargo.toml

.PHONY: help setup worker demo test bench load fuzz lint

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

setup: ## bring the tools that are missing (some minutes, once per machine)
	@.ci/setup

worker: edge/build/index.js ## build the Worker into edge/build

edge/build/index.js: $(edge) Cargo.toml Cargo.lock package-lock.json .ci/build-worker
	@.ci/build-worker

# Set-up comes first in these, whole: it asks for what the system lacks before minutes of compiling, not after.
demo: ## the studio with a protected clip; VIDEO=my.mp4 your own, CHECK=1 check it and stop, PORT=8787
	@.ci/setup worker ffmpeg $(if $(CHECK),browser)
	@$(MAKE) --no-print-directory worker
	@# Not --release: ffmpeg does the work, and compiling takes half as long, less with what the tests compiled.
	cargo build --locked -p transcoder
	@node tests/demo/demo.mjs

test: ## every test: Rust, the built Worker, real players
	@.ci/setup worker ffmpeg browser python nginx vlc
	@$(MAKE) --no-print-directory worker
	cargo test --locked $(native)

bench: ## what the gate costs, its playlists, segments and cold start, beside other Workers (5 minutes)
	@.ci/setup worker
	@$(MAKE) --no-print-directory worker target/bench/hello/index.js target/bench/rewriting/index.js
	@node tests/bench/bench.mjs

load: ## a minute of mixed traffic, whose every answer is looked at, and memory; SECONDS=600 goes on for longer
	@.ci/setup worker
	@$(MAKE) --no-print-directory worker
	@SECONDS=$(or $(SECONDS),60) node tests/bench/load-test.mjs

target/bench/hello/index.js: $(wildcard tests/bench/hello/* tests/bench/hello/src/*) Cargo.lock .ci/build-worker
	@.ci/build-worker tests/bench/hello target/bench/hello

target/bench/rewriting/index.js: $(wildcard tests/bench/rewriting/* tests/bench/rewriting/src/*) \
    $(edge) Cargo.toml Cargo.lock .ci/build-rewriting
	@.ci/build-rewriting

fuzz: ## look for what breaks the edge's readers; SECONDS=600 for each of them
	@.ci/fuzz $(or $(SECONDS),60)

lint: ## formatting, clippy, documentation, dependencies
	@.ci/setup node npm wasm clippy cargo-deny
	cargo fmt --all --check
	cargo fmt --manifest-path edge/fuzz/Cargo.toml --check
	cargo clippy --locked $(native) --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps $(native)
	@# With -p, because features are united over all that is built: this proves that the transcoder wants no runtime.
	cargo check --locked -p transcoder
	@# The wasm toolchain made of Debian's packages (.ci/setup), which has no clippy.
	if [ -d target/tools/wasm-toolchain ]; then \
	    PATH="$(CURDIR)/target/tools/wasm-toolchain/bin:$$PATH" cargo check --locked $(wasm); \
	else \
	    cargo clippy --locked $(wasm) -- -D warnings && \
	    RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps $(wasm); \
	fi
	.ci/audit
