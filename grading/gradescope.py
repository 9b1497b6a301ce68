"""Gradescope's export: a folder ``submission_N`` a hand-in, and a table that says whose it is.

The table's form: https://github.com/ucbds-infra/otter-grader, otter/assign/metadata_parser.py of
version 0.4.
"""

from dataclasses import replace
from datetime import datetime

from grading.download import File
from grading.owners import Claim
from lib import CourseError

TABLE = "submission_metadata.yml"


def claims(files: list[File]) -> tuple[list[File], dict[str, Claim]]:
    """The files below the table, and what it says of each folder; all files where there is none.

    Only a table that stands above all other files is Gradescope's: a student's stands below.
    Raises CourseError when it cannot be read.
    """
    tables = [file for file in files if file.name == TABLE and len(file.parts) < 3]
    above = tables[0].parts[:-1] if len(tables) == 1 else None
    if above is None or any(file.parts[:len(above)] != above for file in files):
        return files, {}
    import yaml  # slow to import, rarely needed

    try:
        rows = yaml.safe_load(tables[0].read())
        said = {folder: _claim(row) for folder, row in rows.items()}
    except (yaml.YAMLError, AttributeError, KeyError, TypeError):
        raise CourseError(f"{tables[0].path} is no table as Gradescope writes it; export the "
                          "submissions again") from None
    return [replace(file, parts=file.parts[len(above):]) for file in files
            if file is not tables[0]], said


def _claim(row: dict) -> Claim:
    """Of a group it names nobody: one notebook of several students is for a person to share out."""
    people, when = row[":submitters"], row.get(":created_at")
    names = [str(person[what]) for person in people for what in (":sid", ":email", ":name")
             if person.get(what)]
    local = when.astimezone().replace(tzinfo=None) if isinstance(when, datetime) else None
    return Claim("gradescope", " and ".join(str(person[":name"]) for person in people),
                 tuple(names) if len(people) == 1 else (), when=local)
