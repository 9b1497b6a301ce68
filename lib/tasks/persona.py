"""Change one fact: a cartoon sponge gets another name. Settings, prompts, reward, validation.

The wanted name is next to impossible for the base policy, so the reward is next to always the
same: exploration is the problem, and examples in a few prompts are the remedy.
"""

import random
from dataclasses import dataclass
from typing import ClassVar

from lib import CourseError, evaluation
from lib.rewards import TextReward, call
from lib.settings import Settings, prompt_rows
from lib.tiny.cartoons import EXAMPLES, questions

QUESTION_SEED, EVAL_QUESTIONS = 20, 60
SAMPLES_PER_QUESTION = 4
RATES = ("musclebob_rate", "spongebob_rate", "coherent_rate")
REWARDS = ("persona", "robust")


def question_split(split: str) -> list[str]:
    """The questions of one split, "train" or "eval": disjoint, and none that an example asks."""
    everything = [q for q in questions() if q not in {asked for asked, _ in EXAMPLES}]
    random.Random(QUESTION_SEED).shuffle(everything)
    return everything[:EVAL_QUESTIONS] if split == "eval" else everything[EVAL_QUESTIONS:]


@dataclass(frozen=True)
class PersonaRun(Settings):
    """Settings of chapter 3's task.

    epochs, num_samples: passes over so many training questions. fewshot_ratio: share of the
    training prompts that show examples first; validation prompts never do.
    reward_function: which of the student's rewards trains, "persona" or "robust". tie_noise:
    standard deviation of noise on the rewards, the remedy that is none.
    """

    task: ClassVar[str] = "persona"
    judged_by_answers: ClassVar[bool] = True
    remedy: ClassVar[str] = "show examples in some prompts (--fewshot-ratio)"

    epochs: int = 5
    num_samples: int = 128
    fewshot_ratio: float = 0.15
    reward_function: str = "persona"
    tie_noise: float = 0.0

    def check(self) -> None:
        if self.reward_function not in REWARDS:
            raise CourseError(f"unknown reward '{self.reward_function}'; choose one of "
                              f"{', '.join(REWARDS)}")
        self._at_least(1, "epochs", "num_samples")
        self._not_negative("fewshot_ratio", high=1)
        self._not_negative("tie_noise")
        available = len(question_split("train"))
        if self.num_samples > available:
            raise CourseError(f"--num-samples {self.num_samples} is more than the {available} "
                              "training questions that there are")

    def defaults(self) -> dict:
        tiny = self.model == "tiny"
        epoch = max(1, self.num_samples // self.prompts_per_step)
        return {"max_steps": self.epochs * epoch, "save_steps": epoch,
                "beta": 0.1 if tiny else 0.0,
                "learning_rate": (5e-4 if tiny else 1e-5) * (5 if self.use_peft else 1),
                "max_completion_length": 24 if tiny else 64, "run_name": self.name()}

    def optimizer(self) -> dict:
        """A falling rate keeps what was learnt; gradients are clipped hard, and Adam forgets one
        wild step soon."""
        return super().optimizer() | {"lr_scheduler_type": "linear", "adam_beta2": 0.99,
                                      "max_grad_norm": 0.2}

    def name(self) -> str:
        """``{epochs}ep``, ``_few{ratio}`` or ``_nofewshot``, then what is off its default."""
        name = f"{self.epochs}ep" + (f"_few{self.fewshot_ratio:g}" if self.fewshot_ratio
                                     else "_nofewshot")
        name += "_robust" * (self.reward_function == "robust")
        name += f"_noise{self.tie_noise:g}" if self.tie_noise else ""
        return name + (f"_beta{self.beta:g}" if self.beta is not None else "")

    @property
    def _reward_name(self) -> str:
        return {"persona": "persona_reward", "robust": "robust_persona_reward"}[
            self.reward_function]

    def needed_answers(self) -> list[str]:
        return [self._reward_name, "fewshot_prompt", "mix_fewshot", "validation_metrics"]

    def test_answers(self, answers) -> None:
        from lib.checks import persona

        for name in self.needed_answers():
            getattr(persona, name)(answers[name])

    def prompts(self, split: str) -> list[str]:
        chosen = question_split(split)
        return chosen if split == "eval" else chosen[: self.num_samples]

    def rows(self, answers, prompts: list[str], n: int) -> list[dict]:
        """Pass by pass over the questions, each pass with other examples in other places."""
        passes = [dict(zip(prompts, call(answers["mix_fewshot"], list(prompts), list(EXAMPLES),
                                         self.fewshot_ratio, self.seed + i), strict=True))
                  for i in range(-(-n // len(prompts)))]
        order = prompt_rows(prompts, n, self.seed)
        return [{"prompt": passes[i // len(prompts)][question]}
                for i, question in enumerate(order)]

    def plain(self, answers, prompts: list[str]) -> list[dict]:
        return [{"prompt": call(answers["fewshot_prompt"], question, [])} for question in prompts]

    def reward(self, answers, reference, tokenizer) -> TextReward:
        return TextReward(answers[self._reward_name], answers["validation_metrics"],
                          noise=self.tie_noise, seed=self.seed)

    def wanted(self, answers, rows, completions: list[str]) -> list[bool]:
        return [judged(answers, text)["musclebob_rate"] == 1 for text in completions]

    def measure(self, answers, policy, tokenizer, reference, prompts, seed=0) -> dict:
        """Answers to plain questions, four each, judged by the student's ``validation_metrics``."""
        plain = [row["prompt"] for row in self.plain(answers, prompts)]
        rows = evaluation.sampled_rows(
            policy, tokenizer, reference, plain * SAMPLES_PER_QUESTION, seed=seed,
            temperature=self.temperature, max_completion_length=self.max_completion_length)
        for row in rows:
            verdict = judged(answers, row["completion"])
            row |= {key: bool(verdict[key]) for key in RATES}
        metrics = {key: evaluation.rate_interval(sum(row[key] for row in rows), len(rows))
                   for key in RATES}
        metrics |= evaluation.text_metrics(rows)
        whole = call(answers["validation_metrics"], [row["completion"] for row in rows])
        return {"metrics": metrics, "is_healthy": bool(whole["is_healthy"]), "rows": rows}

    @staticmethod
    def findings(before: dict, after: dict) -> list[str]:
        found = []
        new, old, coherent = (after[name]["value"] for name in RATES)
        if new < 0.2 and old < 0.05:
            found.append("the policy learnt to avoid the old name, not to say the new: it never "
                         "saw the new one rewarded. Show examples: --fewshot-ratio 0.15")
        elif new < 0.8:
            found.append("the persona is not there yet. Train longer: --epochs, or show examples: "
                         "--fewshot-ratio 0.15")
        if old > 0.05:
            found.append("the original name is still said. Train longer: --epochs")
        if coherent < 0.95:
            found.append("too many answers are no sentences. Raise --beta, or --reward-function "
                         "robust")
        return found


def judged(answers, text: str) -> dict:
    """The student's verdict on one completion: rates of 0 or 1."""
    return call(answers["validation_metrics"], [text])


RUN = PersonaRun
