"""Pages and plots that work offline."""
