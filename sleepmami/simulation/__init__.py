"""Nights of known truth, written as EDF, NSRR XML and CSV."""
