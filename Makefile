# Two commands to know: make run, make test.

GO      ?= go
BIN     ?= ./strata
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)

# Other people's programs that the tests and benchmarks talk to.
PEERS = nbdkit libnbd-bin python3-libnbd qemu-utils qemu-system-x86 nbd-server nbd-client \
        fio gnutls-bin openssl e2fsprogs fdisk parted gdisk util-linux iproute2 cpio busybox-static dmsetup gcc libc6-dev

# Pinned linters; they are no part of the module.
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK = golang.org/x/vuln/cmd/govulncheck@v1.8.0

.PHONY: build run test lab quick lint fuzz nightly bench docs peers clean

build:
	$(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o $(BIN) ./cmd/strata

# A cluster of one node in a fresh directory, with a volume. ARGS are for the node.
run: build
	$(BIN) node --demo $(ARGS)

# Whole nodes, whose leases are short, are tested one package after the other: they
# would not hear of each other in time on a machine that is busy with the rest.
NODES = ./cluster ./internal/node
LAB   = ./internal/e2e/cluster

# Where allocations are counted, which cannot be done under the race detector: by tests with
# Alloc in their names.
COUNTED = $$(grep -rl --include='*_test.go' --exclude-dir='.?*' AllocsPerRun . | grep -v internal/lint | xargs -n 1 dirname | sort -u)

test: peers
	$(GO) vet ./...
	$(GO) test -run Alloc -timeout 5m $(COUNTED)
	$(GO) test -race -timeout 15m $$($(GO) list ./... | grep -vxF "$$($(GO) list $(NODES) $(LAB))")
	$(GO) test -race -p 1 -timeout 15m $(NODES)
	$(MAKE) lab

# Clusters of processes in network namespaces, and what befalls them. Needs root: CI
# fails without, others are told that nothing is tested.
lab: peers
	@[ "$$(id -u)" -eq 0 ] || echo 'make lab: NOT TESTED: network namespaces take root' >&2
	$(GO) test -count 1 -timeout 15m $(LAB)

# The tests without the race detector and without waiting for packages.
quick:
	$(GO) test ./...

lint:
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	@./.ci/govulncheck $(GO) $(GOVULNCHECK)

# Every fuzz target for FUZZTIME.
FUZZTIME ?= 10s
fuzz:
	@./.ci/fuzz $(GO) $(FUZZTIME)

# What CI has no time for: NIGHTLY times as many random histories and power cuts,
# more than a million states of snapshot stores, and of the time for fuzzing.
NIGHTLY ?= 100
nightly:
	BLOCKTEST_TIMES=$(NIGHTLY) $(GO) test -count 1 -timeout 24h ./block/... ./source/... ./layer/... ./lock/... ./internal/cow/... ./snapshot/... ./cluster/...
	STRATA_E2E_TIMES=1 STRATA_E2E_ROUNDS=$(NIGHTLY) $(GO) test -count 1 -timeout 24h $(LAB)
	@./.ci/fuzz $(GO) $$(($(NIGHTLY) * 5))s

# What to measure: serve, snapshots, cluster or all.
PART ?= all
bench: build peers
	$(GO) run ./internal/bench -strata $(BIN) -part $(PART)

docs:
	$(GO) generate ./...

# Installs what is missing of PEERS, where that is possible, and fetches the
# kernel that a virtual machine runs in the tests.
peers:
	@./.ci/peers $(PEERS)
	@./.ci/kernel

clean:
	rm -rf $(BIN) .cache
