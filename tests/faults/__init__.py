"""The loop under faults: every part killed at every stage, and nothing lost, doubled or left undone."""
