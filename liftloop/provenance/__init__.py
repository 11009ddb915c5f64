"""Where every object came from, and whether it is unchanged."""
