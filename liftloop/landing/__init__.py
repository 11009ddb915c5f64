"""From landed files to canonical impressions: contract, rules, ledger, quarantine."""
