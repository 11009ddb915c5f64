"""One file for each claim on speed; each prints its figures and, as its last line, one JSON object."""
