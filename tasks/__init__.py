"""One step each, as Prefect tasks. Each opens what it needs from the settings in force where it runs."""
