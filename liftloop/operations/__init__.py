"""What is due, what is late, and when to train again."""
