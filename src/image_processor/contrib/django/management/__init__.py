"""Commands for those who run a project. What they do lives in `rebuilding`, `verification`, `pruning`."""
