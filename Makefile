# make run    start the worker, on a private PostgreSQL unless DATABASE_URL is set
# make test   run all tests, on PostgreSQL servers of their own
# make help   list the rest

# Where Go's own installer puts it, for shells that do not know yet.
export PATH := $(PATH):/usr/local/go/bin

VERSION := $(shell git describe --always --dirty 2>/dev/null || echo dev)
TOOL    := go tool -modfile=tools/go.mod
SQLC    := $(TOOL) sqlc

# For make run: arguments of the worker, and the folder of the private PostgreSQL.
ARGS     ?=
DATA_DIR ?=
# Variables that name providers, or a file that does, when they are not empty.
PROVIDER_VARIABLES := ^(CODER_AIBRIDGE_[^=]*|CODER_AI_GATEWAY_[^=]*|PROVWATCH_ENV_FILE)=.
# For make fuzz: how long each target runs.
FUZZTIME ?= 30s
# For make soak: how long it runs, the seed of a run to be repeated, a source to run
# alone, and a file for the report as JSON.
SOAK   ?= 10m
SEED   ?=
SOURCE ?=
REPORT ?=
# For make bench: which benchmarks run, and their flags.
BENCH      ?= .
BENCHFLAGS ?=

.PHONY: help run build test soak test-matrix bench bench-plots lint generate fuzz clean go postgres cc chromium

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1\t\2/p' Makefile | expand -t 20

run: build ## start the worker; ARGS="--log-level debug", DATA_DIR=folder
	@if [ -z "$$DATABASE_URL$$PGHOST$$PGPORT$$PGDATABASE$$PGUSER$$PGSERVICE" ]; then scripts/install-postgres.sh; fi
	@$(if $(findstring --env-file,$(ARGS)),,if ! env | grep -qE '$(PROVIDER_VARIABLES)'; then \
		echo "No provider variable is set: using the made-up providers of deploy/example.env" >&2; \
		export PROVWATCH_ENV_FILE=deploy/example.env; \
	fi;) \
	exec bin/worker run $(if $(DATA_DIR),--data-dir='$(DATA_DIR)') $(ARGS)

build: go ## build bin/worker
	@go build -buildvcs=false -ldflags='-X main.version=$(VERSION)' -o bin/worker ./cmd/worker

test: go postgres cc chromium ## run all tests with the race detector
	go test -race -timeout 10m ./...

test-matrix: go cc ## run the tests of the whole worker on PostgreSQL 14 to 18; VERSIONS="14 18"
	@scripts/test-matrix.sh

bench: go postgres ## run the benchmarks of docs/benchmarks.md; BENCH=Writers, BENCHFLAGS="-fsync off"
	go test -tags bench -run '^$$' -bench '$(BENCH)' -benchtime 1x -timeout 3h ./bench $(BENCHFLAGS)

bench-plots: go postgres ## measure how cost grows, within 10 minutes, and draw docs/plots
	go test -tags bench -run '^$$' -bench '^Benchmark(Seed|Sustained|Full|Standbys)$$' -benchtime 1x -timeout 10m ./bench -results results/plots \
		-seed-sizes 10,100,1000,10000,100000 -seed-rounds 10 -seed-slow 10000 -seed-rows 10000 \
		-sustained-sizes 10,100,1000,10000,100000 -sustained-cases "1 news" -sustained-rounds 3 -backlog 30000 -live 0 \
		-full-sizes 100,1000,10000,100000 -full-rounds 15 \
		-standby-changes 60 -standby-idle 2s -standby-busy 2s
	cd tools && go run ./plots ../bench/results/plots ../docs/plots

soak: go postgres cc ## run workers under faults and check their alerts against what was committed; SOAK=60s, SEED=n, SOURCE=wal, REPORT=file
	go test -race -tags soak -run '^TestSoak$$' -count 1 -timeout 1h -v ./test/soak -args -length $(SOAK) $(if $(SEED),-seed $(SEED)) $(if $(SOURCE),-source $(SOURCE)) $(if $(REPORT),-report $(abspath $(REPORT)))

lint: go ## check formatting, vet, staticcheck, generated code and go.mod
	@unformatted=$$(gofmt -l cmd internal sql test bench tools); \
	if [ -n "$$unformatted" ]; then echo "not formatted, run gofmt -w:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	go vet -tags bench ./bench
	go vet -tags soak ./test/soak
	cd tools && go vet ./...
	$(TOOL) staticcheck ./...
	$(SQLC) diff -f sql/sqlc.yaml
	go mod tidy -diff

generate: go ## generate internal/store from sql/
	$(SQLC) generate -f sql/sqlc.yaml

fuzz: go ## run each fuzz target for FUZZTIME
	@for dir in $$(grep -rl '^func Fuzz' --include='*_test.go' internal | xargs -n1 dirname | sort -u); do \
		for target in $$(go test -list '^Fuzz' ./$$dir | grep '^Fuzz'); do \
			echo "$$dir $$target"; \
			go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) ./$$dir || exit 1; \
		done; \
	done

clean: ## remove what was built
	rm -rf bin

go:
	@command -v go >/dev/null || { echo "Go is needed to build the worker: install Go 1.26 or later from https://go.dev/dl/" >&2; exit 1; }
	@go list -m >/dev/null || { echo "This Go cannot build the worker: install Go 1.26 or later from https://go.dev/dl/" >&2; exit 1; }

postgres:
	@scripts/install-postgres.sh

cc:
	@scripts/install-cc.sh

chromium:
	@scripts/install-chromium.sh
