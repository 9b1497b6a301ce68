"""What the tests of grading share."""

import functools

import nbgrader.api

# A new gradebook writes down the version of its tables, for which nbgrader starts alembic: two
# seconds for what is the same each time. Commands that tests start as processes still ask.
nbgrader.api.get_alembic_version = functools.cache(nbgrader.api.get_alembic_version)
