"""Sources that ship with the project: Open Bandit's public logs, and a simulated publisher."""
