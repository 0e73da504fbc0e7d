"""What the paper published, and how our results are set beside it."""
