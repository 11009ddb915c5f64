"""What the owners of a source declare: its contract, and the suite of rules that its rows must meet."""
