"""liftloop: the loop from landed ad logs to measured lift. Plain Python; knows nothing of Prefect."""
