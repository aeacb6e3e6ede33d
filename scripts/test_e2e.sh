#!/usr/bin/env bash
# Runs the end-to-end suites: against a local simulator, or with --live against the real service.
#
#   scripts/test_e2e.sh [--live] [--skip uploads,cache] [--only chat]
#   KIMI_E2E_ONLY_CACHE=1 scripts/test_e2e.sh    only the prompt cache
set -euo pipefail
cd "$(dirname "$0")/.."
exec node npm/with-current-node.mjs tests/e2e/main.ts "$@"
