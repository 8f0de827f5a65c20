"""What is run in the environment of scvi-tools, or by make, is no test."""

collect_ignore = ["reference.py", "run.py"]
