"""The whole course in one command: train with and without KL, compare, plot, grade.

    bash setup.sh demo

Real training of the tiny tier with the functions of the solved notebook, then nbgrader on
the solved notebook and on the untouched one.
"""

import shutil
from pathlib import Path

from grading.autograde import autograde, report
from grading.release import generate
from lib import evaluation, plots
from lib.answers import load_answers
from lib.runs import BASELINE
from lib.tasks.sentiment import RECOMMENDED_BETA, SentimentTask
from lib.training import train

CHAPTER = "01_sentiment"


def demo(out: Path) -> None:
    """Run it all below the folder out, replacing an earlier demonstration."""
    course = out / "course"
    shutil.rmtree(course, ignore_errors=True)
    course.mkdir(parents=True)
    student_notebook = generate(course, CHAPTER)
    solved_notebook = course / "source" / CHAPTER / student_notebook.name

    runs = {"no KL": SentimentTask.of(),
            f"KL, beta={RECOMMENDED_BETA}": SentimentTask.of(beta=RECOMMENDED_BETA)}
    answers = load_answers(solved_notebook, ["sentiment_reward"])
    folders = {}
    for name, task in runs.items():
        print(f"\ntraining: {name}, 50 steps of 64 completions")
        folders[name] = train(task, answers, out / task.name(), overwrite=True)

    results = evaluation.side_by_side(folders)
    print("\n" + evaluation.table(results, SentimentTask))
    completions = {"base": evaluation.rows(folders["no KL"], BASELINE),
                   **{name: evaluation.rows(folder) for name, folder in folders.items()}}
    scores = {name: [row["score"] for row in rows] for name, rows in completions.items()}
    pictures = {"curves.png": plots.history(evaluation.histories(folders), SentimentTask),
                "scores.png": plots.score_histogram(scores),
                "detectors.png": plots.detectors(results, SentimentTask),
                "frontier.png": plots.frontier(results, line=results)}
    for file, figure in pictures.items():
        plots.save(figure, out / file)
    print(f"\npictures in {out}: {', '.join(pictures)}")
    for name, rows in completions.items():
        print(f"{name}: {rows[0]['prompt']}{rows[0]['completion']}")

    print("\ngrading the solved notebook and the untouched one")
    for student, notebook in (("solved", solved_notebook), ("untouched", student_notebook)):
        folder = course / "submitted" / student / CHAPTER
        folder.mkdir(parents=True)
        shutil.copy(notebook, folder)
    print(report(autograde(course, CHAPTER)))
