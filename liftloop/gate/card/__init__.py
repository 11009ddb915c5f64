"""The model card: one page on a version's purpose and the gate's evidence."""
