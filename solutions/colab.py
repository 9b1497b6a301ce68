# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Long runs on Colab
#
# Solve a chapter first. This notebook then trains with the functions that you wrote there, on
# Colab's GPU, and loses nothing when the session ends: checkpoints lie on your Drive, and
# **the same cell goes on with the last unfinished run**.
#
# *Runtime > Change runtime type > T4 GPU*, then run the cells from the top.

# %%
from lib import colab, evaluation, plots, preflight
from lib.answers import load_answers
from lib.files import read_json
from lib.runs import HISTORY
from lib.tasks import task_class

print(preflight.report())

# %% [markdown]
# ## Where runs and answers are
#
# Colab asks you for access to your Drive. Without it the runs stay on this machine and go with it.
#
# `ANSWERS` is your solved notebook. *File > Save a copy in Drive* puts it where this cell looks.
# Any other path works too.

# %%
TASK = "persona"  # or "sentiment", "reasoning"
MAX_STEPS = None  # a small number for a trial

ROOT = colab.storage()
ANSWERS = colab.answers_file(TASK)
SETTINGS = colab.settings(TASK)
print(f"runs: {ROOT}\nanswers: {ANSWERS}\nsettings: {SETTINGS}")

# %% [markdown]
# ## Keep the session awake (only if you want to)
#
# Colab ends a session whose tab looks idle. `colab.keep_alive()` makes this tab press the connect
# button once a minute, and that is all it does: it stops when the tab is closed or the laptop
# sleeps, it does not lift the limit of about 12 hours, and Colab may restrict an account
# that holds a GPU without need. Your Drive is the real insurance.

# %%
# colab.keep_alive()

# %% [markdown]
# ## Train, or go on
#
# After a disconnect: run the cells from the top again. An unfinished run keeps the settings that it
# was started with.

# %%
needed = task_class(TASK).of(**SETTINGS).needed_answers()
run = colab.train_or_resume(
    TASK, load_answers(ANSWERS, needed), ROOT,
    max_steps=MAX_STEPS, **SETTINGS)

# %%
print("\n".join(evaluation.verdict(run)))
plots.show(plots.history(
    {run.name: read_json(run / HISTORY)}, task_class(TASK)))

# %% [markdown]
# ## Take it with you
#
# Weights, tokenizer, settings, figures and a model card, with checksums, in one zip.

# %%
print(colab.download(run))
