"""The model registry: versions, and the pointers to champion and challenger."""
