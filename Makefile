# Two commands do it all on a fresh machine: `make demo` and `make test`.
#
#   make demo      set up, build, and run the main job end to end against the lab
#   make test      set up and run every test
#   make lint      set up and run every check that is not a test
#   make lab       build the lab: VMware's simulator and guest disks
#   make fuzz      throw random bytes at every decoder (SECONDS=600)
#   make fuzz-files  damage real images of every file system under its reader (SECONDS=3600, of each); root, for loop devices
#   make boot      back up a Debian, restore its disks, and boot them in qemu to their login
#   make torture   kill -9 every role at random moments (ROUNDS=100 SEED=… GUEST=small|debian)
#   make vsphere-faults  vCenter fails at every call of a backup (FAULTS=2000 KILLS=60 SEED=… ONLY=METHOD|CLASS)
#   make least-privilege  the e2e tests with an account that holds the roles of deploy/vsphere-role and nothing else
#   make hotadd-kills    kill -9 proxy and controller while disks are attached to proxies (KILLS=200); root, for loop devices
#   make fleet     VMs under policies, proxies that come, go and die, in accelerated time (VMS=200 MINUTES=120 SPEED=6 SEED=…); root, for network namespaces
#   make scale     whether throughput grows with proxies (VMS=16 MIB=384 ROUNDS=3)
#   make serve-rate  how fast a point is read through `point serve`, against a restore (MIB=1024 ROUNDS=5)
#   make sim       break the storage of the store in every way, in memory (SIM_STATES=100000)
#   make crash     cut the repository's power on ext4 and XFS (STATES=2000 KNOCKOUT=all FS=… SEED=…)
#   make bench-transports  what each way to a disk costs (BENCH_MIB=512, BENCH_ROUNDS=3); root, for loop devices
#   make microbench   what each stage of the data path costs in CPU time, compared with the run before
#   make growth     what cost and memory follow: virtual size, disks at a time, points of a VM (POINTS=1000)
#   make cutters   which cutter finds what on the disks of the demo (IMAGES=server,day2,clone: of make bench)
#   make bench     Stillwater and its peers on the same bytes, in turn (QUICK=1, PAIRS=5, PEERS=restic,borg,borg-fixed)

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

ROUNDS ?= 100
SIM_STATES ?= 100000
SEED ?=
GUEST ?= small
STATES ?= 2000
KNOCKOUT ?=
FS ?= ext4,xfs
QUICK ?=
PAIRS ?= $(if $(QUICK),1,5)
PEERS ?= restic,borg,borg-fixed
REPLAY ?=
STATE ?=
CARGO_TEST_FLAGS ?=
BENCH_FLAGS ?=
FUZZ_FILES_SECONDS = $(if $(filter command line environment,$(origin SECONDS)),$(SECONDS),3600)
FUZZ_SECONDS = $(if $(filter command line environment,$(origin SECONDS)),$(SECONDS),600)

# Guest disks, made once; what dpkg has to say about its chroot goes to a log.
define images
	@echo "guest disks: $(1)"
	@mkdir -p tests/lab/build
	@tests/lab/images.sh $(1) >tests/lab/build/images.log 2>&1 || { cat tests/lab/build/images.log; exit 1; }
endef

.PHONY: help setup lab demo boot test sim lint torture vsphere-faults least-privilege hotadd-kills fleet scale serve-rate fuzz fuzz-files crash bench growth bench-transports cutters microbench binaries advisories

help:
	@sed -n 's/^#   //p' Makefile

setup:
	@tests/setup.sh

# The three roles and the tool, as the tests and the demo run them.
binaries: setup
	cargo build --locked --bins -p stillwater-controller -p stillwater-proxy -p stillwater-repository -p stillwater-cli -p stillwater-files

lab: setup
	tests/lab/build.sh
	$(call images,small)

demo: lab binaries
	$(call images,debian)
	$(call images,sibling)
	cargo run --locked --quiet -p stillwater-tests --bin demo

test: lab binaries
	tests/lab/selftest.sh
	cargo test --locked --doc --workspace --quiet
	cargo nextest run --locked --workspace $(CARGO_TEST_FLAGS)

boot: lab binaries
	tests/setup.sh boot
	$(call images,debian)
	cargo run --locked --quiet -p stillwater-tests --bin boot

torture: lab binaries
	$(call images,$(GUEST))
	cargo run --locked --quiet -p stillwater-tests --bin torture -- --rounds $(ROUNDS) --guest $(GUEST) $(if $(SEED),--seed $(SEED))

# FAULTS, KILLS, SEED and ONLY come from the environment.
vsphere-faults: lab binaries
	cargo run --locked --quiet -p stillwater-tests --bin vsphere-faults

# Everything that speaks to a vCenter, in a lab that refuses what the shipped roles do not hold.
least-privilege: lab binaries
	STILLWATER_LAB_ROLES=backup,restore,guest,hot-add cargo nextest run --locked -p stillwater-tests --profile ci \
		-E 'not binary(sim) and not binary(open)'

# KILLS comes from the environment. Not by nextest, whose time for one test is too short.
hotadd-kills: lab binaries
	KILLS=$${KILLS:-200} cargo test --locked --quiet -p stillwater-tests --test transports -- --exact nothing_stays_attached_when_a_role_is_killed

# VMS, MINUTES, SPEED and SEED come from the environment. Faster roles keep more promises in less time.
fleet: lab
	cargo build --locked --release --bins -p stillwater-controller -p stillwater-proxy -p stillwater-repository -p stillwater-cli -p stillwater-tests
	target/release/fleet

# VMS, MIB and ROUNDS come from the environment.
scale: lab
	cargo build --locked --release --bins -p stillwater-controller -p stillwater-proxy -p stillwater-repository -p stillwater-cli -p stillwater-tests
	target/release/scale

# MIB and ROUNDS come from the environment.
serve-rate: lab
	cargo build --locked --release --bins -p stillwater-controller -p stillwater-proxy -p stillwater-repository -p stillwater-cli -p stillwater-tests
	target/release/serve-rate

# Root only; tests/crash/README.md tells what it does and how to replay a state.
crash: setup
	tests/setup.sh crash
	cargo build --locked --quiet --bins -p stillwater-repository -p stillwater-crash
	cargo run --locked --quiet -p stillwater-crash -- --fs $(FS) --states $(STATES) $(if $(SEED),--seed $(SEED)) \
		$(if $(KNOCKOUT),--knockout $(KNOCKOUT)) $(if $(REPLAY),--replay $(REPLAY) --state $(STATE))

fuzz: setup
	cargo run --locked --quiet -p stillwater-fuzz --bin fuzz -- --seconds $(FUZZ_SECONDS)

# Counts cases and panics of each reader; memory and time are bounded, so that a case that takes too much of either ends it.
fuzz-files: setup
	cargo test --locked --quiet -p stillwater-guestfs --test kernel --no-run
	ulimit -v 8388608; GUESTFS_DAMAGE_SECONDS=$(FUZZ_FILES_SECONDS) timeout $$(($(FUZZ_FILES_SECONDS) * 6 + 300)) \
		cargo test --locked --quiet -p stillwater-guestfs --test kernel damage:: -- --nocapture --test-threads 2

# Crash states that are distinct; the seeds that fail are printed with the command that repeats them.
sim: setup
	SIM_STATES=$(SIM_STATES) cargo nextest run --locked --cargo-profile sim --profile sim -p stillwater-tests --test sim

lint: setup
	tests/setup.sh lint
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets --quiet -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --document-private-items --quiet
	cargo xtask layers
	cargo xtask reasons
	cargo deny --locked --config .cargo/deny.toml check licenses bans sources
	cd proto && buf lint && buf breaking --against baseline/v0.1.0.binpb

# Needs the network: fetches the RustSec database.
advisories: setup
	tests/setup.sh lint
	cargo deny --locked --config .cargo/deny.toml check advisories

# Release builds of everything: with the dev profile the peers would win.
bench: lab
	tests/setup.sh bench
	$(call images,$(if $(QUICK),debian,server))
	$(call images,$(if $(QUICK),debianday2,day2))
	$(call images,$(if $(QUICK),sibling,clone))
	cargo build --locked --release --bins -p stillwater-controller -p stillwater-proxy -p stillwater-repository -p stillwater-cli -p stillwater-bench
	target/release/bench $(if $(QUICK),--quick) --rounds $(PAIRS) --peers $(PEERS) --to target/bench.md $(BENCH_FLAGS)

# What grows with what, without peers. POINTS comes from the environment.
growth: lab
	tests/setup.sh bench
	cargo build --locked --release --bins -p stillwater-controller -p stillwater-proxy -p stillwater-repository -p stillwater-cli -p stillwater-bench
	target/release/bench growth --points $(or $(POINTS),1000)

# IMAGES comes from the environment: names of disks that `make bench` made.
cutters: lab
	$(if $(IMAGES),,$(call images,debian))
	$(if $(IMAGES),,$(call images,debianday2))
	$(if $(IMAGES),,$(call images,sibling))
	cargo bench --locked -p stillwater-micro --bench cutters

microbench: lab
	cargo bench --locked -p stillwater-micro --bench data_path

# BENCH_MIB and BENCH_ROUNDS come from the environment.
bench-transports: setup
	tests/lab/build.sh
	cargo bench --locked -p stillwater-disk --bench transports
