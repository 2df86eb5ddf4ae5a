"""What is measured, and how. Each file is a command; results stand in README.md beside it."""
