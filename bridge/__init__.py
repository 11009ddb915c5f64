"""The bridge makes sure that all due work gets a run. Prefect's events are hints; this process is the guarantee."""
