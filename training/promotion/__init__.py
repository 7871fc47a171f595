"""From an exported file to the champion: the registry, the gates, the ledger, and the retraining."""
