"""The demo: both sources through the whole loop on this machine."""
