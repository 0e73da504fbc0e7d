"""The recipe of §5 and the loop, store and grid that train with it."""
