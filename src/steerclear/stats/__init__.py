"""Rates with intervals, paired tests, figures over seeds, agreement, and the errors of a judge. Plain numbers in and out."""
