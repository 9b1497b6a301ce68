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
# # Chapter 6: TRL in the open, and a project of your own
#
# | exercise | you write | points | minutes |
# |---|---|---|---|
# | 1 | the settings of a run, from a description in words | 8 | 20 |
# | 2 | what a step is made of, or why TRL would refuse | 8 | 20 |
# | 3 | the learning rate of a step | 8 | 15 |
# | 4 | the newest checkpoint that is whole | 6 | 15 |
# | 5 | how many numbers LoRA trains | 10 | 25 |
# | 6 | the memory of a step | 8 | 20 |
# | | two analysis questions | 12 | 30 |
# | capstone | a reward that is graded by what it trains | 40 | 90 |

# %%
from lib import is_autograding, plots, preflight
from lib.checks import project as checks

print(preflight.report("06_project"))

# %% [markdown]
# ## Capstone
