"""The gate decides whether a trained model may become champion. Every check runs and reports evidence and reason."""
