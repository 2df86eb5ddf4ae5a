"""What is measured, and how: `python -m benchmarks`. Results stand in RESULTS.md beside it."""
