"""The benchmark: one server process on one core, a load generator on another. See README.md beside this file."""
