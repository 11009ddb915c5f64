"""Scores, intervals, off-policy values and calibration of predicted click probabilities."""
