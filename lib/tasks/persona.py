"""Change one fact: a cartoon sponge gets another name. Settings, prompts, reward, validation.

The wanted name is next to impossible for the base policy, so the reward is next to always the
same: exploration is the problem, and examples in a few prompts are the remedy.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lib import CourseError
from lib.intervals import rate_interval, text_metrics
from lib.rewards import call_student, validate_rewards
from lib.tasks.base import Metric, Task, option, shuffled_passes
from lib.tiny import WEIGHTS, cartoons
from lib.tiny.cartoons import EXAMPLES, questions

QUESTION_SEED, EVAL_QUESTIONS = 20, 60
RATES = ("musclebob_rate", "spongebob_rate", "coherent_rate")
REWARDS = {"persona": "persona_reward", "robust": "robust_persona_reward"}


def question_split(split: str) -> list[str]:
    """The questions of one split, "train" or "eval": disjoint, and none that an example asks."""
    everything = [q for q in questions() if q not in {asked for asked, _ in EXAMPLES}]
    random.Random(QUESTION_SEED).shuffle(everything)
    return everything[:EVAL_QUESTIONS] if split == "eval" else everything[EVAL_QUESTIONS:]


@dataclass(frozen=True, kw_only=True)
class PersonaTask(Task):
    """Chapter 3's task: the answers to questions about the sponge say the new name."""

    task: ClassVar[str] = "persona"
    chapter: ClassVar[str] = "03_persona"
    summary: ClassVar[str] = "change one fact (chapter 3)"
    tiny_policy: ClassVar[Path] = WEIGHTS / "cartoon-policy"
    gpu_model: ClassVar[str] = "Qwen/Qwen2.5-0.5B"
    # The rate of the wanted persona is ``musclebob_rate`` in every file: a documented name.
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("mean_reward", log_key="reward"),  # no curve: the rates say it better
        Metric("musclebob_rate", "persona rate", "musclebob_rate", ("persona rate", "share")),
        Metric("spongebob_rate", "original-name rate", "spongebob_rate",
               ("original-name rate", "share")),
        Metric("coherent_rate", "coherent", "coherent_rate", ("coherent", "share")))
    detectors: ClassVar[tuple[str, ...]] = (
        *RATES, "reference_perplexity", "distinct_2", "kl")
    judged_by_answers: ClassVar[bool] = True
    remedy: ClassVar[str] = "show examples in some prompts (--fewshot-ratio)"

    epochs: int = option(5, "passes over the training questions", low=1)
    num_samples: int = option(128, "training questions", low=1)
    fewshot_ratio: float = option(
        0.3, "share of training prompts that show examples, in the first pass before the others; "
        "validation prompts never do", low=0, high=1, off="--no-fewshot")
    reward_function: str = option("persona", "which of your rewards trains",
                                  choices=tuple(REWARDS))
    tie_noise: float = option(0.0, "standard deviation of noise on the rewards; chapter 3 shows "
                                   "why breaking ties by chance teaches nothing", low=0)

    @classmethod
    def defaults(cls, tiny: bool, lora: bool) -> dict:
        return {"beta": 0.1 if tiny else 0.0,
                "learning_rate": (1e-3 if tiny else 1e-5) * (5 if lora else 1),
                "max_completion_length": 24 if tiny else 64}

    @classmethod
    def schedule(cls, given) -> dict:
        step = given.batch_size * given.accumulation // given.num_generations  # prompts
        epoch = max(1, given.num_samples // step)
        return {"max_steps": given.epochs * epoch, "save_steps": epoch}

    def check(self) -> None:
        available = len(question_split("train"))
        if self.num_samples > available:
            raise CourseError(f"--num-samples {self.num_samples} is more than the {available} "
                              "training questions that there are")

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
        return name + self.unusual("beta")

    def needed_answers(self) -> list[str]:
        return [REWARDS[self.reward_function], "fewshot_prompt", "mix_fewshot",
                "validation_metrics"]

    def test_answers(self, answers) -> None:
        from lib.checks import persona

        for name in self.needed_answers():
            getattr(persona, name)(answers[name])

    def prompts(self, split: str) -> list[str]:
        chosen = question_split(split)
        return chosen if split == "eval" else chosen[: self.num_samples]

    def train_rows(self, answers, prompts: list[str], n: int) -> list[dict]:
        """Pass by pass over the questions, each pass with other examples in other places.

        The first pass begins with the prompts that show examples. Punished for the old name before
        it knows what the new one is worth, a policy settles on a dodge, and stays there.

        The places have seeds of their own: drawn with the seed that orders the passes, they would
        be the first choices of that order, in any pass that has the seed.
        """
        seeds = random.Random(f"examples-{self.seed}")

        def one_pass(i: int) -> dict[str, str]:
            mixed = call_student(answers["mix_fewshot"], list(prompts), list(EXAMPLES),
                                 self.fewshot_ratio, seeds.randrange(2**31))
            return dict(zip(prompts, mixed, strict=True))

        passes = [one_pass(i) for i in range(-(-n // len(prompts)))]
        order = shuffled_passes(prompts, n, self.seed)
        rows = [{"prompt": passes[i // len(prompts)][question]}
                for i, question in enumerate(order)]
        plain = {row["prompt"] for row in self.eval_rows(answers, prompts)}
        return (sorted(rows[:len(prompts)], key=lambda row: row["prompt"] in plain)
                + rows[len(prompts):])

    def eval_rows(self, answers, prompts: list[str]) -> list[dict]:
        return [{"prompt": call_student(answers["fewshot_prompt"], question, [])}
                for question in prompts]

    def parts(self, completions: list[str], *, answers: Mapping[str, Callable], ref_logps,
              trainer_state=None, **kwargs) -> dict[str, list[float]]:
        """The reward, with ``tie_noise`` on it, and the student's rates of each completion.

        The noise follows from seed and step alone, so that a resumed run sees the same.
        """
        function = answers[REWARDS[self.reward_function]]
        rewards = validate_rewards(function.__name__, call_student(
            function, completions, trainer_state=trainer_state, **kwargs), len(completions))
        verdicts = [judged(answers, text) for text in completions]
        noise = {}
        if self.tie_noise:
            step = trainer_state.global_step if trainer_state else 0
            dice = random.Random(f"{self.seed}-{step}")
            noise = {"noise": [dice.gauss(0, self.tie_noise) for _ in rewards]}
            rewards = [r + n for r, n in zip(rewards, noise["noise"], strict=True)]
        return {"reward": rewards, **noise,
                **{key: [float(verdict[key]) for verdict in verdicts] for key in RATES}}

    def successes(self, answers, rows, completions: list[str]) -> list[bool]:
        return [judged(answers, text)["musclebob_rate"] == 1 for text in completions]

    def measure(self, answers, sampler, prompts, seed=0) -> dict:
        """Answers to plain questions, four each, judged by the student's ``validation_metrics``."""
        rows = sampler(self.eval_rows(answers, prompts) * self.samples_per_prompt, seed=seed,
                       temperature=self.temperature,
                       max_completion_length=self.max_completion_length)
        for row in rows:
            verdict = judged(answers, row["completion"])
            row |= {key: bool(verdict[key]) for key in RATES}
        metrics = {key: rate_interval(sum(row[key] for row in rows), len(rows))
                   for key in RATES}
        metrics |= text_metrics(rows)
        whole = call_student(answers["validation_metrics"], [row["completion"] for row in rows])
        return {"metrics": metrics, "is_healthy": bool(whole["is_healthy"]), "rows": rows}

    @classmethod
    def chat_prompt(cls, question: str, conversational: bool):
        return super().chat_prompt(question, conversational) if conversational else (
            cartoons.prompt(question))

    @classmethod
    def findings(cls, before: dict, after: dict) -> list[str]:
        found = []
        new, old, coherent = (after[name]["value"] for name in RATES)
        if new < 0.2 and old < 0.05:
            found.append("the policy learnt to avoid the old name, not to say the new: it never "
                         "saw the new one rewarded. Show examples: --fewshot-ratio 0.3")
        elif new < 0.8:
            found.append("the persona is not there yet. Train longer: --epochs, or show examples: "
                         "--fewshot-ratio 0.3")
        if old > 0.05:
            found.append("the original name is still said. Train longer: --epochs")
        if coherent < 0.95:
            found.append("too many answers are no sentences. Raise --beta, or --reward-function "
                         "robust")
        return found


def judged(answers, text: str) -> dict:
    """The student's verdict on one completion: rates of 0 or 1."""
    return call_student(answers["validation_metrics"], [text])


TASK = PersonaTask
