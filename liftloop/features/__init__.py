"""Features: hourly tiles, windows over them, and Feast on top, offline and online."""
