"""The model card: a page of what a version is for, and the evidence on it."""
