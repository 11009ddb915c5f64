"""Model versions on record, and the pointers to champion and challenger."""
