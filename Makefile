# make run    start the worker, on a private PostgreSQL unless DATABASE_URL is set
# make test   run all tests, on PostgreSQL servers of their own
# make help   list the rest

# Where Go's own installer puts it, for shells that do not know yet.
export PATH := $(PATH):/usr/local/go/bin

VERSION := $(shell git describe --always --dirty 2>/dev/null || echo dev)
COMMIT  := $(shell git rev-parse HEAD 2>/dev/null)
# A static binary that does not tell where it was built.
BUILD   := CGO_ENABLED=0 go build -buildvcs=false -trimpath -ldflags='-s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)'
DOCS    := go run -buildvcs=false -tags docs -ldflags='-X main.version=$(VERSION)' ./cmd/worker docs
TOOL    := go tool -modfile=tools/go.mod
SQLC    := $(TOOL) sqlc
SOURCES := cmd internal sql test bench tools

# For make run: arguments of the worker, and the folder of the private PostgreSQL.
ARGS     ?=
DATA_DIR ?=
# For make fuzz: how long each target runs, as a duration or as 10000x executions, and
# one to run alone.
FUZZTIME ?= 30s
TARGET   ?=
# For make model: how much is searched, and one model or mutation to search alone.
SCOPE ?= small
MODEL ?=
# For make soak: how long it runs, the seed of a run to be repeated, a source to run
# alone, and a file for the report as JSON.
SOAK   ?= 10m
SEED   ?=
SOURCE ?=
REPORT ?=
# For make stress and make test-runs, see the scripts; their defaults are there.
export BUDGET FAST SLOW BUSY TESTS RUNS RACE LOG
# For make bench: which benchmarks run, and their flags.
BENCH      ?= .
BENCHFLAGS ?=

# For make check-unit: the Debian, which debootstrap makes where there is none.
DEBIAN ?= $(HOME)/.cache/provwatch-debian

# For make dist: the time that man pages are of.
EPOCH := $(shell git log -1 --format=%ct 2>/dev/null || echo 0)

.PHONY: dist release-files sbom sbom-of check-deploy check-image check-unit help run build test race stress test-runs soak test-matrix bench bench-plots lint prune-prose generate fuzz model screenshots clean go postgres cc chromium alertmanager pgbouncer systemd spin

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1\t\2/p' Makefile | expand -t 20

run: build ## start the worker with a status page, on a private PostgreSQL unless DATABASE_URL is set; ARGS="--log-level debug", DATA_DIR=folder
	@DATA_DIR='$(DATA_DIR)' exec scripts/run.sh $(ARGS)

build: go ## build bin/worker
	@$(BUILD) -o bin/worker ./cmd/worker

dist: build ## build what is released into dist: the worker, man pages, completions, SBOM and checksums
	@mkdir -p dist
	@cp bin/worker dist/worker
	@$(MAKE) --no-print-directory release-files OUTPUT=dist
	@$(MAKE) --no-print-directory sbom-of BINARY=dist/worker OUTPUT=dist/worker.cdx.json
	@rm -f dist/checksums.txt && cd dist && find . -type f -printf '%P\n' | LC_ALL=C sort | xargs sha256sum >../checksums.tmp && mv ../checksums.tmp checksums.txt
	@cat dist/checksums.txt

# Man pages and completions, into the folder OUTPUT.
release-files: build
	@rm -rf $(OUTPUT)/man $(OUTPUT)/completions && mkdir -p $(OUTPUT)/completions
	@SOURCE_DATE_EPOCH=$(EPOCH) $(DOCS) man $(OUTPUT)/man
	@for shell in bash zsh fish powershell; do bin/worker completion $$shell >$(OUTPUT)/completions/worker.$$shell; done

sbom: build ## write dist/worker.cdx.json: the modules that bin/worker is made of, as CycloneDX
	@mkdir -p dist
	@$(MAKE) --no-print-directory sbom-of BINARY=bin/worker OUTPUT=dist/worker.cdx.json

# The SBOM of the file BINARY, into the file OUTPUT.
sbom-of: go
	cd tools/deploy && go tool cyclonedx-gomod bin -json -std -noserial -notimestamp -version '$(VERSION)' -output '$(abspath $(OUTPUT))' '$(abspath $(BINARY))'

check-deploy: go cc systemd ## check the files of deploy against the worker and the metrics that it has
	cd tools/deploy && go vet ./...
	@MODULE=tools/deploy scripts/test.sh -race -count 1 ./...

# Its build uses the modules and the build cache of this machine.
check-image: go postgres ## build the image of deploy/Dockerfile with podman, on stand-ins for its bases, and run it
	cd tools/deploy && go vet -tags image ./... && go test -tags image -count 1 -run '^TestImage$$' -v .

check-unit: go ## boot a Debian with systemd in a container, as root, and run deploy/systemd in it; DEBIAN=folder
	cd tools/deploy && go vet -tags nspawn ./... && DEBIAN='$(abspath $(DEBIAN))' go test -tags nspawn -count 1 -run '^TestBootedUnit$$' -v .

test: go postgres cc chromium alertmanager pgbouncer ## run all tests, and count what is skipped
	@scripts/test.sh ./...

race: go postgres cc chromium alertmanager pgbouncer ## run all tests with the race detector, which takes three times as long
	@scripts/test.sh -race ./...

stress: go postgres cc chromium alertmanager pgbouncer ## run the tests most sensitive to load beside busy processes; BUDGET=3600 (seconds), FAST=200, SLOW=30 (runs), BUSY=4, TESTS=NATS, LOG=file
	@scripts/stress-tests.sh

test-runs: go postgres cc chromium alertmanager pgbouncer ## run all tests several times; RUNS=6, BUSY=4, RACE=1, LOG=file
	@scripts/test-runs.sh

test-matrix: go cc pgbouncer ## run the tests of the whole worker on PostgreSQL 14 to 18; VERSIONS="14 18", RUN=WAL
	@scripts/test-matrix.sh $(if $(RUN),-run '$(RUN)')

bench: go postgres ## run the benchmarks of docs/benchmarks.md; BENCH=Writers, BENCHFLAGS="-fsync off"
	go test -tags bench -run '^$$' -bench '$(BENCH)' -benchtime 1x -timeout 3h ./bench $(BENCHFLAGS)

bench-plots: go postgres ## measure how cost grows, within 10 minutes, and draw docs/plots
	go test -tags bench -run '^$$' -bench '^Benchmark(Seed|Sustained|Full|Standbys)$$' -benchtime 1x -timeout 10m ./bench -results results/plots \
		-seed-sizes 10,100,1000,10000,100000 -seed-rounds 10 -seed-slow 10000 -seed-rows 10000 \
		-sustained-sizes 10,100,1000,10000,100000 -sustained-cases "1 news" -sustained-rounds 3 -backlog 30000 -live 0 \
		-full-sizes 100,1000,10000,100000 -full-rounds 15 \
		-standby-changes 60 -standby-idle 2s -standby-busy 2s
	cd tools && go run ./plots ../bench/results/plots ../docs/plots

soak: go postgres cc ## run workers under faults and check their alerts against what was committed, and, with the limits as shipped, each state without alerts and the replacement of a frozen leader; SOAK=60s, SEED=n, SOURCE=wal, REPORT=file
	go test -race -tags soak -run '^TestSoak$$' -count 1 -timeout 1h -v ./test/soak -args -length $(SOAK) $(if $(SEED),-seed $(SEED)) $(if $(SOURCE),-source $(SOURCE)) $(if $(REPORT),-report $(abspath $(REPORT)))
	PROVWATCH_TEST_SHIPPED_LIMITS=1 go test -race -tags e2e -run '^TestReadiness$$|^TestLeader$$/^FrozenIsReplaced$$' -count 1 -parallel 10 -timeout 1h -v ./test

lint: go ## check formatting, vet, staticcheck, complexity, length, the order of files, prose, generated code and documents, and go.mod
	@unformatted=$$(gofmt -l $(SOURCES)); \
	if [ -n "$$unformatted" ]; then echo "not formatted, run gofmt -w:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	go vet -tags e2e,soak,bench,docs ./...
	cd tools && go vet ./...
	$(TOOL) staticcheck -tags e2e,soak,bench,docs ./...
	$(TOOL) gocognit -over 30 $(SOURCES)
	@long=$$(git ls-files '*.go' | grep -v '\.sql\.go$$' | xargs awk 'FNR == 451 { print FILENAME }'); \
	if [ -n "$$long" ]; then echo "longer than 450 lines, split by what they hold:"; echo "$$long"; exit 1; fi
	cd tools && go test ./prose ./filecycles && go run ./prose .. && GOFLAGS=-tags=docs go run ./filecycles .. ./...
	$(SQLC) diff -f sql/sqlc.yaml
	@written=$$(mktemp) && $(DOCS) configuration $$written && \
	{ diff -u docs/configuration.md $$written || { echo "docs/configuration.md is not up to date, run make generate"; rm $$written; exit 1; }; } && rm $$written
	go mod tidy -diff

screenshots: go postgres chromium ## take the pictures of docs/screenshots again
	@taken=$$(mktemp -d) && trap "rm -r $$taken" EXIT && \
	PROVWATCH_SCREENSHOTS=$$taken go test -tags e2e -run '^TestStatusPage$$/^InABrowser$$' -count 1 ./test && \
	for name in docs/screenshots/*.png; do cp "$$taken/$${name##*/}" docs/screenshots || exit; done

prune-prose: go ## remove sentences that were rewritten from the list of those that the prose check knows
	cd tools && go run ./prose -prune ..

generate: go ## generate internal/store from sql/, and docs/configuration.md from the commands and flags
	$(SQLC) generate -f sql/sqlc.yaml
	$(DOCS) configuration docs/configuration.md

fuzz: go ## run each fuzz target for FUZZTIME; TARGET=FuzzHint
	@FUZZTIME='$(FUZZTIME)' TARGET='$(TARGET)' scripts/fuzz.sh

model: cc spin ## verify the models of docs/model.md and find each mutation; SCOPE=large, MODEL=wal/NO_TERM
	@SCOPE='$(SCOPE)' scripts/model.sh $(MODEL)

clean: ## remove what was built
	rm -rf bin dist release

go:
	@command -v go >/dev/null || { echo "Go is needed to build the worker: install Go 1.26 or later from https://go.dev/dl/" >&2; exit 1; }
	@go list -m >/dev/null || { echo "This Go cannot build the worker: install Go 1.26 or later from https://go.dev/dl/" >&2; exit 1; }

postgres:
	@scripts/install-postgres.sh

cc:
	@scripts/install-cc.sh

chromium:
	@scripts/install-chromium.sh

alertmanager:
	@scripts/install-alertmanager.sh

pgbouncer:
	@scripts/install-pgbouncer.sh

systemd:
	@scripts/install-systemd.sh

spin:
	@scripts/install-spin.sh
