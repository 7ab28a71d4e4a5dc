# wasmatrix: everything a developer or a machine runs, by name. `make help` lists it.

GO      ?= go
BIN     := bin
TOOLS   := .bin
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X github.com/wasmatrix/wasmatrix.Version=$(VERSION)
# The race detector needs a C compiler; without one the tests run without it.
RACE    := $(shell command -v $$($(GO) env CC) >/dev/null 2>&1 && echo -race)
TEST    ?= ./...
# Rooms that start no goroutine and whose tests compile large programs by the
# engine, which takes thirty times as long under the race detector.
NORACE  := /node/meter$$
# Tests that skip under the race detector, because raft races with itself there.
MOVES   := ^TestAServerMayMove$$|^TestAHostedGroupFindsAServerThatMoved$$
COUNT   ?= 1
# Packages that are tested at a time: many of them wait for timers most of theirs.
PACKAGES ?= 4

export CGO_ENABLED ?= $(if $(RACE),1,0)

.DEFAULT_GOAL := help
.PHONY: help build test unit e2e demo check lint generate generate-check baseline bench fuzz vuln tools clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  \033[1m%-15s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## Build bin/wasmatrix
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/wasmatrix ./cmd/wasmatrix

test: unit e2e ## Run all tests: unit, property, golden and end to end

unit: ## Run all tests but the end-to-end ones
	$(GO) test $(RACE) -p $(PACKAGES) -shuffle=on -count=$(COUNT) -timeout 15m $$($(GO) list $(TEST) | grep -v -e '/e2e' -e '$(NORACE)')
	$(GO) list $(TEST) | grep '$(NORACE)' | xargs -r $(GO) test -shuffle=on -count=$(COUNT) -timeout 15m
	$(GO) list $(TEST) | grep '/cluster$$' | xargs -r $(GO) test -run '$(MOVES)' -count=$(COUNT)

e2e: build ## Run the end-to-end tests: real processes, killed, paused, cut off
	$(GO) test -count=$(COUNT) -timeout 20m ./e2e/...

demo: build ## Run a local cluster with real guests, and kill parts of it
	$(GO) run ./e2e/demo -bin $(BIN)/wasmatrix

check: lint generate-check ## Lint, and see that generated code is what the schemas say

lint: $(TOOLS)/golangci-lint $(TOOLS)/buf ## Lint the code and the schemas
	$(TOOLS)/golangci-lint run ./...
	$(TOOLS)/buf lint
	$(TOOLS)/buf format --diff --exit-code
	$(TOOLS)/buf breaking --against proto/baseline.binpb

generate: $(TOOLS)/buf ## Generate code from the schemas
	$(TOOLS)/buf generate

baseline: $(TOOLS)/buf ## Take the schemas as they are for what later ones must not break (at a release)
	$(TOOLS)/buf build -o proto/baseline.binpb

generate-check: $(TOOLS)/buf ## Fail when the generated code is not up to date
	@rm -rf $(TOOLS)/gen && mkdir -p $(TOOLS)/gen && $(TOOLS)/buf generate -o $(TOOLS)/gen && \
	diff -r gen $(TOOLS)/gen/gen && echo "generated code is up to date"

bench: build ## Measure the figures of docs/benchmarks.md (S3 wants etcd on PATH)
	cd e2e/bench && $(GO) run . -bin ../../$(BIN)/wasmatrix $(BENCH)

fuzz: ## Run every fuzz target for FUZZTIME (20s)
	@for pkg in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
	    echo "$$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(or $(FUZZTIME),20s) $$pkg || exit 1; done; done

vuln: ## Look for known vulnerabilities (needs the Go vulnerability database)
	cd tools && $(GO) tool govulncheck -C .. ./...

tools: $(TOOLS)/golangci-lint $(TOOLS)/buf ## Build the pinned tools

$(TOOLS)/golangci-lint: tools/lint/go.mod
	cd tools/lint && CGO_ENABLED=0 $(GO) build -o ../../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

$(TOOLS)/buf: tools/go.mod
	cd tools && CGO_ENABLED=0 $(GO) build -o ../$@ github.com/bufbuild/buf/cmd/buf

clean: ## Remove what was built
	rm -rf $(BIN) $(TOOLS)
