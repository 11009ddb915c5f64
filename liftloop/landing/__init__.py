"""From landed files to canonical impressions: readers, data rules, quarantine and the ingest report."""
