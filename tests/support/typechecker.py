"""The run-time type checker of the test suite (pyproject.toml): beartype, with whole numbers accepted as floats."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
