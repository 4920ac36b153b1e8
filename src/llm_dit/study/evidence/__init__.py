"""What is really different: scores to paired comparisons, intervals, tests and noise. analysis.py is the way in."""
