# What a developer, an operator and CI call. `make help` lists it.

BIN     := bin/flavorsync
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LINT    := go tool -modfile=tools.mod golangci-lint
# How long each fuzz target is run by `make fuzz`.
FUZZ    ?= 1m

.DEFAULT_GOAL := help
.PHONY: demo build test bench soak lint fmt fuzz clean help FORCE

demo: build ## build, then run the whole product on this machine
	$(BIN) demo

build: $(BIN) ## build bin/flavorsync

# Go itself knows what is out of date.
$(BIN): FORCE
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o $@ ./cmd/flavorsync

test: ## install and start what the tests need, run all of them (PKG=, RUN=, ARGS= narrow it)
	@scripts/test

bench: ## run the benchmarks; each prints its ratio beside its target
	@scripts/test bench

soak: ## play random sequences of operations, faults and restarts (SEQUENCES=100000 SEED=)
	@scripts/test soak

lint: ## look for mistakes without running anything
	@scripts/lint

fmt: ## format the code
	$(LINT) fmt

fuzz: ## run each fuzz target for a while (FUZZ=1m)
	@scripts/fuzz $(FUZZ)

clean: ## remove what was built
	rm -rf bin

help: ## tell what can be made
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | sort | expand -t 10
