"""Measuring: trains, counts and times what the exhibits show, and writes it to results/<profile>/ as plain files.

Every module has `measure(profile_name)`, which measures and writes, and `read(profile_name, ...)`, which reads what was
written. Where that is absent or does not answer params.yaml and experiments.yaml, `read` says so on stderr and measures
first, so that a notebook opened by itself has what it shows. Reading imports no torch and loads no data.
"""
