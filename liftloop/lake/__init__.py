"""The lake: canonical impressions by day, and the ledger of the landed files they come from."""
