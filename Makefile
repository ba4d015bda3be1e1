# `make run` and `make test` need nothing but make on a bare Debian or Ubuntu machine.
.DEFAULT_GOAL := help
SHELL := /bin/sh
VENV := .venv
PYTHON := $(VENV)/bin/python
INSTALLED := $(VENV)/installed
SCRATCH := $(CURDIR)/.provisioning-test
CHECKED := tests/unit tests/sandbox tests/storage tests/snowflake_simulator \
	tests/devstack/test_busy.py
PYTEST_OPTIONS ?=
CHAOS_OPTIONS ?=

.PHONY: help run shell test test-slow check lint bench chaos images format env-file clean

help: ## Show this list.
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 20

$(INSTALLED): setup.cfg pyproject.toml devstack/bootstrap.sh
	@sh devstack/bootstrap.sh

run: $(INSTALLED) ## Start the service with private servers, in the foreground.
	@$(PYTHON) -m devstack

# Everything temporary goes below one folder of the tree, which is removed at the end.
test: lint ## Check the style and run all tests.
	@$(PYTHON) -m devstack.packages mariadb postgres docker mmdebstrap rabbitmq nginx haproxy
	@$(PYTHON) -m devstack.images
	@rm -rf $(SCRATCH) && mkdir -p $(SCRATCH)/tmp
	@TMPDIR=$(SCRATCH)/tmp $(PYTHON) -m pytest -n 3 --dist loadscope --no-loadscope-reorder \
		--basetemp=$(SCRATCH)/pytest \
		-o cache_dir=$(SCRATCH)/cache $(if $(CI),-p devstack.no_skips) $(PYTEST_OPTIONS); \
		status=$$?; rm -rf $(SCRATCH); exit $$status

shell: $(INSTALLED) ## Open a shell in which `provisioning` works on what `make run` runs.
	@if [ ! -e .provisioning/env ]; then echo "nothing runs here: make run" >&2; exit 1; fi
	@. ./.provisioning/env && PATH="$(CURDIR)/$(VENV)/bin:$$PATH" exec "$${SHELL:-/bin/sh}"

test-slow: $(INSTALLED) ## Run all tests beside a busy process for each core.
	@$(PYTHON) -m devstack.busy -- $(MAKE) test

check: lint ## Check the style and run the tests that need no server, within a minute.
	@$(PYTHON) -m pytest -q -n 3 -m "not server" $(CHECKED) $(PYTEST_OPTIONS)

lint: $(INSTALLED) ## Check style, types and the direction of imports.
	@$(PYTHON) -m ruff check --quiet .
	@$(PYTHON) -m ruff format --quiet --check .
	@$(PYTHON) -m mypy --no-error-summary
	@$(VENV)/bin/lint-imports --no-cache > $(VENV)/imports.log 2>&1 || \
		{ cat $(VENV)/imports.log; exit 1; }

format: $(INSTALLED) ## Bring the source into the style that lint checks.
	@$(PYTHON) -m ruff check --quiet --fix .
	@$(PYTHON) -m ruff format --quiet .

bench: $(INSTALLED) ## Measure the service against raw SQL and raw Docker.
	@$(PYTHON) -m devstack.packages mariadb postgres docker mmdebstrap rabbitmq nginx haproxy
	@$(PYTHON) -m devstack.images
	@$(PYTHON) -m benchmarks

chaos: $(INSTALLED) ## Break everything for half an hour and count what is left behind.
	@$(PYTHON) -m devstack.packages mariadb postgres docker mmdebstrap rabbitmq nginx haproxy
	@$(PYTHON) -m devstack.images
	@$(PYTHON) -m tests.faults.chaos $(CHAOS_OPTIONS)

images: $(INSTALLED) ## Make the images of sandboxes, for machines that reach no registry.
	@$(PYTHON) -m devstack.sandboxes

# The passwords are hexadecimal because they become parts of URLs.
env-file: ## Make .env with fresh secrets for docker compose, once.
	@if [ -e .env ]; then echo ".env is there already"; else \
		umask 077; \
		secret() { od -An -N 24 -t x1 /dev/urandom | tr -d ' \n'; }; \
		key=$$(head -c 32 /dev/urandom | base64 | tr '+/' '-_'); \
		sed -e "s|^\([A-Z]*_PASSWORD\)=.*|\1=|" -e "s|^ENCRYPTION_KEYS=.*|ENCRYPTION_KEYS=$$key|" \
			.env.example | while IFS= read -r line; do \
			case $$line in *_PASSWORD=) echo "$$line$$(secret)";; *) echo "$$line";; esac; \
		done > .env; echo "wrote .env"; fi

clean: ## Remove the environment, caches and all data of `make run`.
	@rm -rf $(VENV) $(VENV).log .provisioning $(SCRATCH) .mypy_cache .ruff_cache .pytest_cache \
		.hypothesis build *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
