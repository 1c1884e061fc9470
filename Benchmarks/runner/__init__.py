"""The parts of the benchmark's runner; see Benchmarks/README.md."""
