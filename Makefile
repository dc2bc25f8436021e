# `make test` is the one entry point, for people and for CI: it installs what it needs and may install
# (as root on Debian), then runs every check. Each piece can be run alone.

export CARGO_TERM_COLOR ?= auto
export INSTA_UPDATE ?= no
FUZZ_TARGETS := request routes_yaml journal_batch

.PHONY: test tools fmt lint unit doc fuzz-check fuzz bench image soak demo

test: tools fmt lint unit doc fuzz-check

# A C compiler and linker are all that the build wants beyond rustup.
tools:
	@command -v cc >/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && apt-get install -y -qq build-essential; \
	  else echo "a C compiler is missing: apt-get install build-essential"; exit 1; fi; }
	@command -v cargo >/dev/null || { echo "cargo is missing: install it with rustup"; exit 1; }

fmt:
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check

lint:
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --lib --bins --no-default-features -- -D warnings

# A test that hangs ends here and fails; all of them take some minutes.
unit:
	cargo test --locked --lib --bins --tests --no-run
	timeout 900 cargo test --locked --lib --bins --tests
	timeout 600 cargo test --locked --doc

doc:
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --lib

# The corpus is replayed by `unit` (tests/it/fuzz.rs); here the targets themselves are kept compiling.
fuzz-check:
	cargo check --locked --manifest-path fuzz/Cargo.toml --target-dir target/fuzz-check

# Ten minutes each: `cargo install cargo-fuzz`, then `make fuzz`.
fuzz:
	for target in $(FUZZ_TARGETS); do cargo fuzz run -s none $$target -- -max_total_time=600 || exit 1; done

# Some minutes; BENCH_ROUNDS=1 BENCH_SECONDS=1 for a quick look.
bench:
	cargo bench --locked --bench road

# Builds the image without an engine and runs it as an engine would; as root on Debian, some minutes.
image:
	tests/image.sh

demo:
	cargo run --release -- demo

# Every simulation with 10,000 seeds and 200 rounds of kill -9, some hours; KURIER_SIM_SEEDS=500 KURIER_CRASH_ROUNDS=20
# for a shorter one. Ends with a report; docs/simulation.md says what is played.
soak:
	tests/soak.sh
