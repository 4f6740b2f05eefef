# Every target is one line. Longer commands are scripts in localstack/ and scripts/.
.DEFAULT_GOAL := help
STACK := python3 localstack/stack.py
ENV ?= dev
# A variable as one word of the shell, whatever it holds.
quoted = '$(subst ','\'',$(value $1))'
DEPLOY = python3 deploy/deploy.py $@ --env $(ENV) $(if $(VARS),--vars $(call quoted,VARS))

.PHONY: help
help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-19s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: local
local: ## Build and start the whole stack on this machine, without an AWS account (DOCKER=0: no containers; PROFILE=release)
	@$(STACK) up --profile $(or $(PROFILE),local) --emulator $(or $(EMULATOR),ministack) --containers $(or $(DOCKER),auto)

.PHONY: demo
demo: ## Watch two tenants, a change of configuration reach every replica, and a mistake be undone
	@$(STACK) demo

.PHONY: local-status
local-status: ## Show what runs
	@$(STACK) status

.PHONY: local-env
local-env: ## Print the stack's variables: eval "$(make -s local-env)"
	@$(STACK) env

.PHONY: local-token
local-token: ## Print a user's ID token (EMAIL=b-writer@example.com for another user)
	@$(STACK) token $(if $(EMAIL),$(call quoted,EMAIL))

.PHONY: local-logs
local-logs: ## Show the logs' ends (NAME=config-1 for one of them)
	@$(STACK) logs $(if $(NAME),$(call quoted,NAME))

.PHONY: local-why
local-why: ## Explain the calls that IAM denied: who, what, on which resource, which policy would have to allow it
	@$(STACK) why

.PHONY: iam-proof
iam-proof: ## Remove each action of each role, and show that its program fails and names it (make local DOCKER=0)
	@test -x .local/venv/bin/python || { echo "error: the local stack does not run: make local DOCKER=0" >&2; exit 1; }
	@.local/venv/bin/python localstack/iam_proof.py

.PHONY: local-restart
local-restart: ## Restart the replicas one by one (NAME=config-1 for one of them)
	@$(STACK) $(if $(NAME),restart $(call quoted,NAME),rolling-restart)

.PHONY: local-scale
local-scale: ## Change the number of config-service's containers (N=4)
	@$(STACK) scale $(or $(N),$(error say how many: make local-scale N=4))

.PHONY: local-down
local-down: ## Stop the stack and remove its state
	@$(STACK) down

.PHONY: loadtest
loadtest: ## Measure latency on the local stack (ARGS='--rate 1000' for more options)
	@scripts/loadtest latency --target grpc,edge --duration 8s --warm-up 2s --out target/loadtest/latency $(ARGS)

.PHONY: loadtest-capacity
loadtest-capacity: ## Find the highest rate that gRPC and the edge of the local stack sustain (1 to 2 minutes)
	@scripts/loadtest capacity --target grpc,edge --scenarios hot=1 --p99 50ms --duration 2s --timeout 2s --out target/loadtest/capacity $(ARGS)

.PHONY: loadtest-soak
loadtest-soak: ## Run one rate on the local stack for half an hour, and test memory, descriptors and times for growth
	@scripts/loadtest soak --out target/loadtest/soak $(ARGS)

.PHONY: loadtest-staleness
loadtest-staleness: ## Measure on the local stack how long updates take to be visible everywhere
	@scripts/loadtest staleness --out target/loadtest/staleness $(ARGS)

.PHONY: chaos
chaos: ## Inject faults into the local stack: staleness of reads against the promised bounds, the change history against the updates (ARGS='--seed 1,2,3')
	@scripts/loadtest chaos --out target/loadtest/chaos $(ARGS)

.PHONY: loadtest-neighbours
loadtest-neighbours: ## Measure on the local stack how much a noisy neighbour slows a quiet tenant
	@scripts/loadtest neighbours --out target/loadtest/neighbours $(ARGS)

.PHONY: loadtest-aws
loadtest-aws: ## Measure latency of a deployed stack through its edge (ENV=dev, ARGS=...)
	@scripts/loadtest-aws $(ENV) latency --target edge --out target/loadtest/$(ENV) $(ARGS)

.PHONY: bench
bench: ## Run the microbenchmarks, and compare a hit's instructions with the recorded number (BENCH=cache for some)
	@cargo bench --locked -p config-service -p tagged-config-client --bench hot_path --bench local_read -- $(BENCH)
	@scripts/instructions

.PHONY: bench-peers
bench-peers: ## Compare hits, prices and memory with minimal servers, NestJS, Redis and Unleash Edge (ARGS=--help for options)
	@python3 loadtest/peers/bench_peers.py $(ARGS)

.PHONY: images
images: ## Build the container images (PLATFORM=linux/amd64,linux/arm64 with buildx)
	@python3 scripts/images.py

.PHONY: functions
functions: ## Build the Lambda functions' zips (ARCH=arm64 or x86_64)
	@scripts/functions $(or $(ARCH),x86_64)

.PHONY: test
test: ## Run every check and test
	@scripts/test

.PHONY: test-api
test-api: ## Try the REST APIs of the local stack against their OpenAPI documents (schemathesis)
	@test -x .local/venv/bin/python || { echo "error: the local stack does not run: make local" >&2; exit 1; }
	@.local/venv/bin/python scripts/api_fuzz.py

.PHONY: test-localstack
test-localstack: ## Check that LocalStack's own code sends the events that the tests have recorded
	@python3 localstack/localstack_contract.py

.PHONY: test-terraform
test-terraform: ## Check the Terraform, and deploy and destroy the AWS target on an emulator
	@scripts/test --terraform

.PHONY: plan
plan: ## Show what a deployment to AWS would change (ENV=dev or prod)
	@$(DEPLOY)

.PHONY: preflight
preflight: ## Check that a deployment to AWS would not stop half-way (ENV=dev or prod)
	@$(DEPLOY) $(ARGS)

.PHONY: account-settings
account-settings: ## Give API Gateway a role to log with, once in an account and region (ARGS=--remove takes it away)
	@$(DEPLOY) $(ARGS)

.PHONY: token
token: ## Print an ID token of a user of a deployed stack (ENV=dev or prod, EMAIL=you@example.com)
	@$(DEPLOY) $(if $(EMAIL),--user $(call quoted,EMAIL))

.PHONY: outputs
outputs: ## Print what is deployed as JSON (ENV=dev or prod)
	@$(DEPLOY)

.PHONY: deploy
deploy: ## Build, push and apply to AWS (ENV=dev or prod, VARS='name=value ...' are remembered; VARS='name=' forgets)
	@$(DEPLOY)

.PHONY: rollback
rollback: ## Run the version that ran before the current one again (TAG=... for another)
	@$(DEPLOY) $(if $(TAG),--tag $(call quoted,TAG))

.PHONY: destroy
destroy: ## Remove everything that deploy made, with all data
	@$(DEPLOY)

.PHONY: destroy-verify
destroy-verify: ## List what is left of an environment
	@$(DEPLOY)

.PHONY: redrive
redrive: ## Replay the invalidator's dead letters (ENV=dev, prod or local; ARGS=--dry-run shows them)
	@$(DEPLOY) $(ARGS)

.PHONY: flush
flush: ## Make every task drop its cache, and read everything again (ENV=dev, prod or local)
	@$(DEPLOY)

.PHONY: bootstrap-state
bootstrap-state: ## Keep Terraform's state in an encrypted, versioned bucket
	@$(DEPLOY)

.PHONY: lint
lint: ## Check formatting and lints
	@scripts/test --lint

.PHONY: fmt
fmt: ## Format the Rust and the Terraform code
	@cargo fmt --all && PATH="$$PATH:$(CURDIR)/.local/bin" terraform fmt -recursive terraform

.PHONY: doctor
doctor: ## Check that this machine has what the targets need
	@$(STACK) doctor
