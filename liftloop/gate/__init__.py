"""May a trained model become champion? All checks at once, each with what it saw and why it decides as it does."""
