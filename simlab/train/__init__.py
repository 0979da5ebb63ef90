"""One method on one cohort, from the command line: `python -m simlab.train METHOD --data SOURCE` (docs/methods.md)."""
