#!/usr/bin/env bash
# The Swift tests under one of the sanitizers (thread, address), in a build folder of its own.
set -uo pipefail
kind=$1
suites='ConsoleProtocolTests|EventLoopTests|ProxmoxClientTests|PVESimulatorTests|GuestExecTests|GatewayTests'
log=artefacts/sanitize-$kind.log
mkdir -p artefacts
# Leaks: Swift's metadata and the runtime's caches live as long as the process. A small quarantine of freed memory, so that the
# tests that count memory still can.
export ASAN_OPTIONS=detect_leaks=0:quarantine_size_mb=4
export TSAN_OPTIONS=suppressions=$PWD/Tests/thread-sanitizer.suppressions
echo "== $kind sanitizer"
swift build --build-tests --sanitize="$kind" --scratch-path ".build-$kind" >"$log" 2>&1 || { tail -n 30 "$log"; exit 1; }
swift test --skip-build --sanitize="$kind" --scratch-path ".build-$kind" --disable-xctest --no-parallel \
  --filter "$suites" >"$log" 2>&1
status=$?
reports=$(grep -cE 'WARNING: ThreadSanitizer|ERROR: AddressSanitizer' "$log")
grep -E -A 12 'WARNING: ThreadSanitizer|ERROR: AddressSanitizer|recorded an issue' "$log" | head -n 80
echo "sanitize $kind: $(grep -a 'Test run with' "$log" | tail -n 1) ($reports reports, exit $status)"
[ "$status" -eq 0 ] && [ "$reports" -eq 0 ]
