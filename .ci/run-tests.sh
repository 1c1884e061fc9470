#!/usr/bin/env bash
# Every test runner, one after the other. Each one's closing line is repeated at the end; any failure fails the whole.
set -uo pipefail
venv=$1
mkdir -p artefacts
closing=()
failed=0

run() { # name, log, command …
  local name=$1 log=artefacts/$2 status line
  shift 2
  printf '\n== %s\n' "$name"
  "$@" 2>&1 | tee "$log"
  status=${PIPESTATUS[0]}
  line=$(grep -aE 'Test run with|[0-9]+ (passed|failed|error)|no tests ran|error:|Build complete' "$log" | tail -n 1)
  [ "$status" -eq 0 ] || { failed=1; line="FAILED (exit $status) $line"; }
  closing+=("$name: ${line:-exit $status}")
  # Which ones, and why: repeated at the end, where whoever sees only a log's tail finds it.
  [ "$status" -eq 0 ] || closing+=("$(grep -aE -A 3 'recorded an issue|^(FAILED|ERROR) |error: ' "$log" | cut -c 1-400 | head -n 40)")
}

run "Build" build.log swift build --build-tests
# There is no XCTest here, and its runner would print a misleading 'Executed 0 tests'.
# In three processes: some of the second count the memory of theirs, and the commands of the third are processes that two
# cores can't start all at once. So many at a time, that none starves.
run "Swift tests of the simulated node" swift-node.log swift test --skip-build --disable-xctest --filter PVESimulatorTests
run "Swift tests" swift-tests.log env SWT_EXPERIMENTAL_MAXIMUM_PARALLELIZATION_WIDTH=12 \
  swift test --skip-build --disable-xctest --skip 'PVESimulatorTests|GuestExecTests'
run "Swift tests of commands" swift-exec.log env SWT_EXPERIMENTAL_MAXIMUM_PARALLELIZATION_WIDTH=4 \
  swift test --skip-build --disable-xctest --filter GuestExecTests
run "Programs not ours" programs.log "$venv/bin/python" -m pytest Tests/programs -q --color=no
if compgen -G 'Tests/browser/test_*.py' >/dev/null; then
  run "Browser" browser.log .ci/run-browser-tests.sh "$venv"
  # Faults that only a gateway of straw makes.
  run "Browser, faults" browser-faults.log env SALLYPORT_MOCK_ONLY=1 "$venv/bin/python" -m pytest Tests/browser -q --color=no
fi

printf '\n== Closing lines\n'
printf '%s\n' "${closing[@]}"
exit $failed
