# Everything that is done with this repository. Each target does its own set-up on a Debian 12 with Swift 6,
# as root or with sudo; what is there already is left alone.

SHELL := /bin/bash
.DEFAULT_GOAL := help

BUILD_PACKAGES := libwebsockets-dev libcurl4-openssl-dev libssl-dev libsqlite3-dev zlib1g-dev pkg-config ca-certificates \
	python3 python3-pip python3-venv
TEST_PACKAGES := chromium chromium-driver qemu-system-x86 haproxy nginx-light openssl gcc libc6-dev \
	fonts-dejavu-core procps qemu-guest-agent util-linux openssh-server openssh-client
VENV := .build-venv
PYTHON := $(VENV)/bin/python
RELEASE := .build/release/sallyport

help: ## What there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

deps: ## Debian packages for the build, and the browser's libraries
	@.ci/apt-install.sh $(BUILD_PACKAGES)
	@python3 web/fetch-vendor.py

test-deps: deps ## … and what the tests and the benchmark need
	@.ci/apt-install.sh $(TEST_PACKAGES)
	@.ci/python-env.sh $(VENV) Tests/requirements.txt

build: deps ## The program, optimised: .build/release/sallyport
	swift build -c release --product sallyport

demo: build ## A node, a gateway and a link that opens a console: nothing else needed
	@exec $(RELEASE) demo $(DEMO_FLAGS)

guest-image: ## The small Linux that `--with-qemu` boots, out of Debian's packages: .build/guest-image
	@[ -e .build/guest-image/initrd ] || packaging/guest-image/build.sh .build/guest-image

install: build ## To /usr/local, with a systemd unit (DESTDIR and PREFIX are honoured)
	@packaging/install.sh $(RELEASE)

lint: ## The formatter's opinion of every Swift file
	swift format lint --strict --configuration .swift-format -r Package.swift Sources Tests examples
	@echo "lint: every Swift file is formatted"

test: test-deps guest-image ## Every test: Swift's, programs not ours, browsers
	@.ci/run-tests.sh $(VENV)

bench: test-deps build ## The relay beside HAProxy, nginx and websockify, then bench-node and bench-exec (about 45 minutes)
	$(PYTHON) Benchmarks/run.py $(BENCH_FLAGS)
	$(PYTHON) Benchmarks/node.py $(BENCH_NODE_FLAGS)
	swift build -c release --product exec-bench
	$(PYTHON) Benchmarks/exec.py $(BENCH_EXEC_FLAGS)

bench-exec: test-deps build ## Commands by transport, beside the same calls and ssh by hand, and a fleet
	swift build -c release --product exec-bench
	$(PYTHON) Benchmarks/exec.py $(BENCH_EXEC_FLAGS)

bench-node: test-deps build ## The simulated node beside fakepve and proxmox-sdk's mock (seven minutes)
	$(PYTHON) Benchmarks/node.py $(BENCH_NODE_FLAGS)

sanitize: deps ## The Swift tests under the thread and the address sanitizer
	@.ci/sanitize.sh thread
	@.ci/sanitize.sh address

clean: ## Build products and the Python environment; not what is installed
	rm -rf .build .build-thread .build-address $(VENV) artefacts

.PHONY: help deps test-deps build demo guest-image install lint test bench bench-exec bench-node sanitize clean
