# One command for each thing; 'make' alone lists them. Set PYTHON to use another interpreter than python3.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DOCKER ?= docker
# Ctrl-C waits until the program has its handlers: Python would print a traceback while it starts.
CALM := env --block-signal=INT

# Tests at once: a core stands still for a third of the time with one for each, for many wait for something.
TESTERS := $(shell cores=$$(nproc); echo $$((cores < 5 ? cores * 3 / 2 : 8)))

.DEFAULT_GOAL := help
.PHONY: help all build test differences fuzz bench soak soak-quick compiled test-compiled test-pure lint types proto man proto-lint fmt devserver docker clean

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):[^#]*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

all: lint proto-lint types test build ## lint, proto-lint, types, test, build

build: $(VENV)/.installed ## source archive and wheel, into dist/
	$(BIN)/python -m build --quiet

# Hundreds of processes start the program: that each compiles it again would be a tenth of the time.
test: $(VENV)/.installed ## install what the tests need and run the whole suite
	@tests/install-peers.sh
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(TESTERS) --dist loadgroup

differences: $(VENV)/.installed ## the same bytes to mcproxy, HAProxy, nginx and Caddy: the table, in build/differences.txt
	@tests/install-peers.sh
	$(BIN)/python -m pytest -q tests/e2e/test_differences.py

fuzz: $(VENV)/.installed ## random input to every parser beside a second reader; SECONDS=60 each, TARGET=, SEED=, FILE=
	$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),60) $(foreach t,$(TARGET),--target $(t)) $(if $(SEED),--seed $(SEED)) $(if $(FILE),--file $(FILE))

bench: $(VENV)/.installed ## mcproxy beside other proxies, in 20 minutes: docs/bench, and a part of README.md; OPTIONS="--quick"
	@tests/install-peers.sh
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[bench]' || echo "some peers can't be installed"
	$(BIN)/python -m tests.bench $(OPTIONS)

soak: $(VENV)/.installed ## an hour of mixed traffic with faults: nothing may fail unexplained or grow; plots in build/soak
	$(BIN)/python -m tests.soak --minutes 60

soak-quick: $(VENV)/.installed ## the same for ten minutes
	$(BIN)/python -m tests.soak --minutes 10

compiled: $(VENV)/.installed ## compile a copy with mypyc, in build/compiled
	$(BIN)/python tests/compiled.py --compile

test-compiled: compiled ## the data path's tests in that copy
	$(BIN)/python tests/compiled.py

test-pure: $(VENV)/.installed ## the tests without sockets and files under each other Python found, or PYTHONS="..."
	$(BIN)/python tests/pure.py $(PYTHONS)

lint: $(VENV)/.installed ## style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed ## mypy, strict
	$(BIN)/mypy

proto: $(VENV)/.installed ## generate mcproxy/admin/pb from proto/
	$(BIN)/python deploy/dev/proto.py

man: $(VENV)/.installed ## generate docs/mcproxy.1 from the help pages
	$(BIN)/python deploy/dev/man.py

proto-lint: $(VENV)/.installed ## buf's STANDARD rules and format for proto/
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code

fmt: $(VENV)/.installed ## format the code and sort its imports
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

devserver: $(VENV)/.installed ## run the proxy in front of three small backends, all on this machine; PORT=N: not on 8443
	@command -v curl >/dev/null || deploy/dev/apt-install.sh curl || echo "without curl, try the lines below with another client"
	@$(CALM) $(BIN)/python deploy/dev/devserver.py $(PORT)

docker: ## build the container image and tag it mcproxy; DOCKER=podman: with another engine
	@command -v $(DOCKER) >/dev/null || { echo "there is no $(DOCKER) here: apt-get install docker.io, or name another engine with DOCKER="; exit 1; }
	$(DOCKER) build --file deploy/docker/Dockerfile --tag mcproxy .

clean: ## remove everything that these commands made, srv/ included
	rm -rf $(VENV) .venv-pure build dist srv *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.installed: setup.cfg setup.py pyproject.toml
	@$(CALM) $(PYTHON) deploy/dev/install.py $(VENV)
