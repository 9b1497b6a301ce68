"""A question before a run: what do you expect? Answered at once, with the reason.

No points, and nothing is recorded. It stands in a cell of its own, for a release folds cells that
begin with ``predict(``: their source tells the answer.
"""

from html import escape

import ipywidgets
from IPython.display import display

from lib import CourseError, is_autograding

# The widgets' own style cuts a long question off, leaves no room for long answers, and puts the
# buttons behind them.
STYLE = """<style>
.prediction .widget-radio { flex-flow: column; width: 100%; }
.prediction .widget-radio > .widget-label { width: 100%; height: auto; text-align: left;
  white-space: normal; overflow-wrap: anywhere; font-weight: bold; line-height: 1.5; }
.prediction .widget-radio-box { margin: 0 !important; }
.prediction .widget-radio-box label { display: flex; align-items: start; height: auto;
  line-height: 1.5; white-space: normal; }
.prediction .widget-radio-box input { order: -1; flex: none; margin: 2px 8px 0 0; }
.prediction .widget-html-content { white-space: normal; line-height: 1.5; }
</style>"""


class Prediction:
    """One question; see ``predict``. A page without widgets folds a reply below each answer."""

    def __init__(self, question: str, choices: dict[str, str], right: str):
        self.question, self.choices, self.right = question, choices, right

    def reply(self, choice: str) -> str:
        """What is said to whoever chose it: the verdict, its reason, the right answer's reason."""
        reason = self.choices[choice]
        if choice == self.right:
            return f"Right. {reason}"
        return f"Not quite. {reason} Right is: {self.right}. {self.choices[self.right]}"

    def widget(self) -> ipywidgets.VBox:
        """Radio buttons, none chosen, above a line for the reply."""
        buttons = ipywidgets.RadioButtons(options=list(self.choices), value=None,
                                          description=self.question)
        said = ipywidgets.HTML(STYLE)

        def answer(change):
            said.value = f"{STYLE}<div role='status'>{escape(self.reply(change['new']))}</div>"

        buttons.observe(answer, "value")
        box = ipywidgets.VBox([buttons, said])
        box.add_class("prediction")
        return box

    def __repr__(self) -> str:
        answers = "".join(f"  - {choice}\n" for choice in self.choices)
        replies = "".join(f"  - {choice}: {self.reply(choice)}\n" for choice in self.choices)
        return f"{self.question}\n{answers}Choose one, then read on.\n\n\n{replies}"

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        folds = "".join(f"<details><summary>{escape(choice)}</summary>"
                        f"{escape(self.reply(choice))}</details>" for choice in self.choices)
        return self.widget()._repr_mimebundle_() | {
            "text/plain": repr(self),
            "text/html": f"<div class='prediction'><p><b>{escape(self.question)}</b> "
                         f"Open the answer that you expect.</p>{folds}</div>"}


def predict(question: str, choices: dict[str, str], right: str) -> None:
    """Ask what the reader expects, and say at once whether it is right, and why.

    question: plain text. choices: each answer -> the reason that is shown when it is chosen.
    right: the right one of them; any other raises CourseError.
    """
    if right not in choices:
        raise CourseError(f"predict: right={right!r} is none of the choices: {', '.join(choices)}")
    if is_autograding():
        print("Skipped while grading.")
        return
    display(Prediction(question, choices, right))
