"""Your own network on your own data with the paper's strategy: what `ghostlib train` does."""
