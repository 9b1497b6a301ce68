"""The picture of the loop that stands below each chapter's title."""

import numpy as np
from matplotlib.figure import Figure

from lib.plots import COLOURS

# A group as chapter 1's base policy might write it, with its scores: what ``loop`` shows.
GROUP = {"wonderful from start to end.": 0.98, "fine, but far too long.": 0.52,
         "dull. I left early.": 0.11, "good, and the music too.": 0.83}


def loop() -> Figure:
    """One step of GRPO: a prompt, G completions, their rewards and advantages, the update."""
    rewards = np.array(list(GROUP.values()))
    advantages = (rewards - rewards.mean()) / (rewards.std(ddof=1) + 1e-4)
    figure = Figure(figsize=(9, 2.9), layout="constrained")
    axis = figure.subplots()
    axis.set(xlim=(0, 100), ylim=(-1.7, 4.6))
    axis.set_axis_off()
    frame = {"boxstyle": "round,pad=0.5", "facecolor": "#EAF2F8", "edgecolor": COLOURS[0]}
    for x, heading in ((8, "prompt"), (35, f"G = {len(GROUP)} completions"), (58, "rewards"),
                       (73, "advantages"), (92, "update")):
        axis.text(x, 4.1, heading, ha="center", weight="bold", color=COLOURS[0])
    axis.text(8, 1.5, "Honestly,\nthe film was", ha="center", va="center", bbox=frame)
    axis.text(92, 1.5, "policy:\nlikelier, or\nless likely", ha="center", va="center", bbox=frame)
    axis.plot([73, 73], [-0.5, 3.5], color="grey", linewidth=0.8)
    for i, (text, reward, advantage) in enumerate(zip(GROUP, rewards, advantages, strict=True)):
        y, colour = 3 - i, COLOURS[2] if advantage > 0 else COLOURS[1]
        axis.text(35, y, text, ha="center", va="center", bbox=frame | {"boxstyle": "round"})
        axis.text(58, y, f"{reward:.2f}", ha="center", va="center")
        axis.barh(y, 4 * advantage, 0.6, left=73, color=colour)
        axis.text(73 - np.sign(advantage), y, f"{advantage:+.2f}", va="center", color=colour,
                  ha="right" if advantage > 0 else "left")
        for start, end in (((15.5, 1.5), (22, y)), ((48.5, y), (54.5, y)), ((61.5, y), (65, y)),
                           ((80, y), (85, 1.5))):
            axis.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": "grey"})
    axis.plot([92, 92, 8], [0.4, -0.9, -0.9], color=COLOURS[0], linewidth=1)
    axis.annotate("", (8, 0.7), (8, -0.95), arrowprops={"arrowstyle": "->", "color": COLOURS[0]})
    axis.text(50, -1.5, "the next step samples from the new policy", ha="center", color=COLOURS[0])
    figure.alt = ("One step of GRPO. From one prompt the policy samples a group of completions; "
                  "each gets a reward; the advantage is the reward minus the group's mean, over "
                  "its standard deviation: " + "; ".join(
                      f"{text[:-1]}: reward {reward:.2f}, advantage {advantage:+.2f}"
                      for text, reward, advantage in zip(GROUP, rewards, advantages, strict=True))
                  + ". The update makes completions with a positive advantage likelier and those "
                  "with a negative one less likely. The next step samples from the new policy.")
    return figure
