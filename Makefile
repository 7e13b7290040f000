# What one would type, written down. `go build ./...` and `go test ./...` work
# without it.
.PHONY: help build demo test bench figures lint clean

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

# Git refuses to speak of a checkout that another user owns, and go build fails by it.
ifneq ($(shell git rev-parse --git-dir >/dev/null 2>&1 && echo yes),yes)
export GOFLAGS += -buildvcs=false
endif

# More flags for go test: make test TESTFLAGS=-race
TESTFLAGS ?=
# All of them, and first those that take longest: else one of these runs alone at the end.
PACKAGES ?= ./test/... ./control/build ./guest/gcf ./server ./runtimes/... ./api/web ./cmd/lambent ./guest/lambda ./sandbox/namespace ./examples ./source/... ./...

# Without the wrappers of version managers: each server that a test starts asks every
# interpreter on the path what it is, and pyenv's take a fifth of a second each to say so.
TESTPATH = $(CURDIR)/.venv/bin:$(shell echo "$$PATH" | tr : '\n' | grep -v '/shims$$' | paste -sd : -)
# With -race a process sleeps for a second before it ends, if it is not told otherwise.
export GORACE ?= atexit_sleep_ms=0

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 10

build: ## build bin/lambent
	go build -trimpath -ldflags '-s -w -X main.release=$(VERSION)' -o bin/lambent ./cmd/lambent

demo: ## show everything on a throw-away server
	tools/setup.sh demo
	@$(MAKE) --no-print-directory build
	bin/lambent demo

test: ## run all tests, after installing what they need
	tools/setup.sh test
	PATH="$(TESTPATH)" LAMBENT_TEST_INTERPRETERS="$(CURDIR)/.venv/node-*/bin" go test -timeout 20m $(TESTFLAGS) $(PACKAGES)

bench: ## run all benchmarks; compare two runs with benchstat: see CONTRIBUTING.md
	go test -run '^$$' -bench . -benchmem -timeout 30m $(PACKAGES)

figures: ## the figures that the documents quote: an hour, on a machine that does nothing else
	bench/figures.sh

lint: ## formatting, vet, staticcheck, tidy modules, import rules
	@unformatted=$$(gofmt -s -l $$(git ls-files --cached --others --exclude-standard '*.go' | while read -r f; do [ ! -e "$$f" ] || echo "$$f"; done)); \
	  [ -z "$$unformatted" ] || { echo "gofmt -s -w $$unformatted"; exit 1; }
	go vet ./...
	go tool -modfile=tools/go.mod staticcheck ./...
	go mod tidy -diff
	cd tools && go mod tidy -diff
	go test -count=1 .

clean: ## remove what was built and installed here
	rm -rf bin .venv
