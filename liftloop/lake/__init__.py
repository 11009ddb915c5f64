"""Canonical impressions as they lie in the store, by day, with the ledger of the files they came from."""
