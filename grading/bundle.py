"""The zips that are handed out: what a student needs and no answer, or the whole course.

    python -m grading bundle student
"""

import contextlib
import re
import subprocess
import zipfile
from pathlib import Path

from grading import ROOT, chapters
from grading.release import first_of, problems, whole_answers
from lib import CourseError
from lib.files import atomic

FOLDER = "grpo-course"  # what the zip unpacks to
# The student's part of the course.
STUDENT = ("notebooks/", "lib/", "setup.sh", "pyproject.toml", "environment.yml", "README.md",
           "LICENSE", "docs/_static/", "docs/troubleshooting.md", "docs/glossary.md",
           "docs/results.md", "docs/command_line.md", "docs/machines.md", "docs/settings.md",
           "docs/your_task.md", "docs/wanted_length.py")
MOMENT = (1980, 1, 1, 0, 0, 0)  # of every member: the same course gives the same bytes
LEFT_OUT = {".git", ".venv", "__pycache__", ".ipynb_checkpoints", "runs", "course", "site", "build",
            ".pytest_cache", ".ruff_cache", ".hypothesis", "setup.log"}


def course_files() -> list[Path]:
    """The course's files, relative: what git tracks, else what lies here and is not made."""
    with contextlib.suppress(OSError):  # no git here
        listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True,
                                 text=True).stdout
        if listing:
            return sorted(path for path in map(Path, filter(None, listing.split("\0")))
                          if (ROOT / path).is_file())
    return sorted(path for path in (p.relative_to(ROOT) for p in ROOT.rglob("*") if p.is_file())
                  if not LEFT_OUT & set(path.parts) and ".egg-info" not in str(path)
                  and path.suffix != ".zip")


def bundle(audience: str, out: Path | None = None) -> Path:
    """Write the zip of an audience, "student" or "instructor"; its path.

    Raises CourseError when a notebook is stale, or a file of the student's holds an answer.
    """
    out = out or Path(f"grpo-{audience}.zip")
    files = course_files()
    wrong = problems()
    if audience == "student":
        files = [path for path in files if str(path).startswith(STUDENT)]
        wrong += [f"{path} holds an answer of {chapter}: {answer[:60]}" for path in files
                  for chapter in chapters() for answer in whole_answers(
                      (ROOT / path).read_text(encoding="utf-8", errors="replace"), chapter)]
    if wrong:
        raise CourseError(first_of(wrong))
    with atomic(out) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as zipped:
        for path in files:
            member = zipfile.ZipInfo(f"{FOLDER}/{path}", MOMENT)
            member.external_attr = (ROOT / path).stat().st_mode << 16
            member.compress_type = zipfile.ZIP_DEFLATED
            data = (ROOT / path).read_bytes()
            if audience == "student" and path.name == "README.md":
                data = students_readme(data.decode("utf-8")).encode()
            zipped.writestr(member, data)
    return out


def students_readme(text: str) -> str:
    """The README for a student: what to do first, then what the course is; no word to others."""
    title, _, about = text.partition("\n")
    about, _, rest = about.partition("\n## Students\n")
    about = re.sub(r"```bash\n.*?```\n\n", "", about, count=1, flags=re.DOTALL)  # not theirs
    do = rest.partition("\n## Instructors")[0]
    return f"{title}\n\n## What to do\n{do}\n## What the course is\n{about}"
