"""A model that is not what a run needs is told as what it is; labels are read; dropout is off."""

import json
import shutil

import pytest
import torch
from transformers import (
    BertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    OPTConfig,
    OPTForCausalLM,
    RobertaConfig,
    RobertaForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
)

from lib import CourseError, models, prompts, scoring
from lib.tasks.sentiment import SentimentTask
from lib.tiny import WEIGHTS

POLICY = SentimentTask.tiny_policy
TEXTS = ["A splendid film.", "It was dreadful, and far too long.", "Fine."]


@pytest.fixture
def copy(tmp_path):
    """A copy of the bundled policy, to be spoilt."""
    shutil.copytree(POLICY, tmp_path / "model")
    return tmp_path / "model"


def change(path, **values):
    found = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: value for key, value in found.items() if value is not None}))


def test_what_is_no_policy_is_named(copy, tmp_path):
    def told(path) -> str:
        with pytest.raises(CourseError) as error:
            models.load_policy(str(path))
        assert "\n" not in str(error.value)
        return str(error.value)

    T5ForConditionalGeneration(T5Config(vocab_size=32, d_model=8, d_kv=4, d_ff=8, num_layers=1,
                                        num_heads=2)).save_pretrained(tmp_path / "t5")
    assert "an encoder-decoder (T5ForConditionalGeneration)" in told(tmp_path / "t5")
    (tmp_path / "empty").mkdir()
    assert "holds no config.json" in told(tmp_path / "empty")

    change(copy / "config.json", model_type="mine", auto_map={"AutoConfig": "mine.Mine"})
    line = told(copy)
    assert "brings code of its own" in line and "damaged" not in line


def test_a_tokenizer_that_is_missing_or_does_not_fit_is_told(copy):
    settings = json.loads((copy / "tokenizer_config.json").read_text())
    tokenizer = models.load_tokenizer(str(copy))
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(copy)
    with pytest.raises(CourseError, match=r"'\[PAD\]' has the id \d+, and the embedding has"):
        models.load_policy(str(copy))
    for file in ("tokenizer_config.json", "tokenizer.json"):
        shutil.copy(POLICY / file, copy)
    (copy / "tokenizer_config.json").write_text(json.dumps(
        {key: value for key, value in settings.items() if key != "eos_token"}))
    with pytest.raises(CourseError, match="names no end token"):
        models.load_policy(str(copy))
    for file in copy.glob("*token*"):
        file.unlink()
    with pytest.raises(CourseError, match="no tokenizer files"):
        models.load_policy(str(copy))


def test_only_what_cannot_be_read_is_called_damaged(copy):
    weights = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(weights[:-9])
    with pytest.raises(CourseError, match=r"model.safetensors is damaged"):
        models.load_policy(str(copy))
    (copy / "model.safetensors").unlink()
    with pytest.raises(CourseError) as error:
        models.load_policy(str(copy))
    assert "damaged" not in str(error.value)


def test_missing_weights_are_not_made_up(copy):
    change(copy / "config.json", n_layer=json.loads((copy / "config.json").read_text())[
        "n_layer"] + 1)
    with pytest.raises(CourseError, match=r"lack \d+ of this model's tensors"):
        models.load_policy(str(copy))


@pytest.mark.parametrize("asked", [
    {"num_beams": 4}, {"do_sample": True, "min_p": 0.3}, {"min_new_tokens": 40},
    {"no_repeat_ngram_size": 2}, {"num_return_sequences": 2, "do_sample": True},
    {"do_sample": False, "temperature": 0.5, "top_p": 0.9},
    # The rest stop transformers from loading the model.
    {"num_return_sequences": 2}, {"num_beams": 2, "num_return_sequences": 3},
    {"cache_implementation": "mine"}, {"early_stopping": "soon"}, {"max_new_tokens": -1},
    {"watermarking_config": "loud"}])
def test_wishes_for_sampling_are_dropped_and_saving_works(copy, tmp_path, asked):
    change(copy / "generation_config.json", **asked)
    policy, tokenizer = models.load_policy(str(copy))
    plain, _ = models.load_policy(str(POLICY))
    assert policy.generation_config.to_diff_dict() == plain.generation_config.to_diff_dict()
    policy.save_pretrained(tmp_path / "saved")
    again, _ = models.load_policy(str(POLICY))
    assert models.end_tokens(again, tokenizer) == models.end_tokens(policy, tokenizer)


@pytest.mark.parametrize("content", [
    "[]", "{", '{"eos_token_id": "</s>"}', '{"pad_token_id": [1, 2.5]}'])
def test_special_tokens_that_are_no_ids_are_told_with_their_file(copy, content):
    (copy / "generation_config.json").write_text(content)
    with pytest.raises(CourseError, match=r"generation_config\.json"):
        models.load_policy(str(copy))


def test_the_ends_of_a_model_without_a_generation_config_are_its_own(copy):
    (copy / "generation_config.json").unlink()
    change(copy / "config.json", eos_token_id=[3, 7])
    policy, tokenizer = models.load_policy(str(copy))
    assert models.end_tokens(policy, tokenizer) == [tokenizer.eos_token_id, 3, 7]


def test_every_kind_of_dropout_is_off(tmp_path):
    """Train and eval mode give the same numbers: OPT keeps its rates as plain numbers."""
    OPTForCausalLM(OPTConfig(
        vocab_size=300, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, ffn_dim=16,
        word_embed_proj_dim=16, dropout=0.5, attention_dropout=0.5, layerdrop=0.5)
    ).save_pretrained(tmp_path / "opt")
    tokenizer = models.load_tokenizer(str(POLICY))
    model = OPTForCausalLM.from_pretrained(tmp_path / "opt")
    ids = torch.tensor([tokenizer("The film was")["input_ids"]]) % 300
    torch.manual_seed(0)
    assert not torch.equal(model.train()(ids).logits, model.eval()(ids).logits), "there is some"
    models.plain(model)
    assert torch.equal(model.train()(ids).logits, model.eval()(ids).logits)


def test_an_adapter_is_joined_with_its_base_or_named(tmp_path):
    from peft import get_peft_model

    policy, tokenizer = models.load_policy(str(POLICY))
    adapted = get_peft_model(policy, models.lora_config(policy))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.02)
    adapted.save_pretrained(tmp_path / "adapter")
    loaded, _ = models.load_policy(str(tmp_path / "adapter"))
    ids = torch.tensor([tokenizer("The film was")["input_ids"]])
    base, _ = models.load_policy(str(POLICY))
    with torch.no_grad():
        torch.testing.assert_close(loaded(ids).logits, adapted.eval()(ids).logits)
        assert not torch.allclose(loaded(ids).logits, base(ids).logits, atol=1e-3)
    change(tmp_path / "adapter" / "adapter_config.json", base_model_name_or_path="./gone")
    with pytest.raises(CourseError, match=r"is a LoRA adapter of \./gone"):
        models.load_policy(str(tmp_path / "adapter"))


def test_an_adapter_on_the_hub_is_named_as_one(tmp_path, monkeypatch):
    """Its repository has no config.json, and was fetched before: into the Hub's own cache."""
    cache = tmp_path / "hub" / "models--me--mine"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text("abc")
    adapter = cache / "snapshots" / "abc" / "adapter_config.json"
    adapter.parent.mkdir(parents=True)
    adapter.write_text('{"base_model_name_or_path": "gpt2"}')
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(CourseError, match="'me/mine' is a LoRA adapter of gpt2, not a whole"):
        models.load_policy("me/mine")


def test_a_home_folder_is_found(copy, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert models.policy_path("~/model", SentimentTask) == str(copy)
    assert models.load_tokenizer("~/model").eos_token


LABELS = {
    "reversed": [f"{5 - i} stars" for i in range(5)],
    "by the alphabet": ["Negative", "Neutral", "Positive", "Very Negative", "Very Positive"],
    "one by one": ["1", "2", "3", "4", "5"], "snake": [f"star_{i}" for i in (3, 1, 2, 5, 4)],
    "unnamed": [f"LABEL_{i}" for i in range(5)]}


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_a_scorers_labels_are_read(tmp_path, labels, capsys):
    """The bundled scorer with its outputs in another order, as its labels say, scores alike."""
    stars = {"Very Negative": 1, "Negative": 2, "Neutral": 3, "Positive": 4, "Very Positive": 5}
    star = [stars.get(name) or next(int(c) for c in name if c.isdigit()) for name in labels]
    if labels[0] == "LABEL_0":
        star = [1, 2, 3, 4, 5]
    model, tokenizer, order = models.load_scorer(scoring.TINY_SCORER)
    other = BertForSequenceClassification.from_pretrained(scoring.TINY_SCORER)
    with torch.no_grad():
        for place, number in enumerate(star):
            for of_other, of_model in zip(other.classifier.parameters(),
                                          model.classifier.parameters(), strict=True):
                of_other[place] = of_model[order[number - 1]]
    other.config.id2label = dict(enumerate(labels))
    other.config.label2id = {label: i for i, label in enumerate(labels)}
    other.save_pretrained(tmp_path / "scorer")
    tokenizer.save_pretrained(tmp_path / "scorer")
    found = scoring.get_star_probs(TEXTS, scorer=str(tmp_path / "scorer"))
    torch.testing.assert_close(found, scoring.get_star_probs(TEXTS, scorer=scoring.TINY_SCORER))
    assert ("does not say" in capsys.readouterr().err) == (labels[0] == "LABEL_0")


@pytest.mark.parametrize("labels", [
    ["sadness", "joy", "love", "anger", "fear"], ["0", "1", "2", "3", "4"],
    ["1 star", "1 star", "2 stars", "3 stars", "4 stars"], ["15", "25", "35", "45", "55"]])
def test_labels_that_are_no_stars_are_refused(labels):
    with pytest.raises(CourseError, match="are no stars"):
        models.star_order("x", dict(enumerate(labels)))


@pytest.mark.parametrize("kind", ["roberta", "gpt2"])
def test_long_texts_in_batches_whatever_the_scorers_positions(tmp_path, kind):
    """RoBERTa counts positions from its padding id + 1; GPT-2's tokenizer knows no padding."""
    tokenizer = models.load_tokenizer(str(POLICY))
    shape = {"vocab_size": len(tokenizer), "num_labels": 5,
             "id2label": {i: f"{i + 1} stars" for i in range(5)}}
    model = RobertaForSequenceClassification(RobertaConfig(
        **shape, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=66, pad_token_id=1)) if kind == "roberta" else (
        GPT2ForSequenceClassification(GPT2Config(**shape, n_embd=16, n_layer=1, n_head=2,
                                                 n_positions=64)))
    model.save_pretrained(tmp_path / "scorer")
    tokenizer.pad_token = "<|endoftext|>"
    tokenizer.save_pretrained(tmp_path / "scorer")
    change(tmp_path / "scorer" / "tokenizer_config.json", pad_token=None)
    texts = ["good " * 300, "A film.", "bad"]
    together = scoring.get_star_probs(texts, scorer=str(tmp_path / "scorer"))
    alone = torch.cat([scoring.get_star_probs([text], scorer=str(tmp_path / "scorer"))
                       for text in texts])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_a_system_turn_that_a_template_refuses_is_told_once(tmp_path, capsys):
    tokenizer = models.load_tokenizer(str(WEIGHTS / "problem-policy"))
    tokenizer.name_or_path = str(tmp_path / "no-system")
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no') }}{% endif %}"
        "{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:")
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    for _ in range(2):
        assert prompts.prompt_text(tokenizer, asked) == "user: Be brief.\n\nWhy?\nassistant:"
    assert capsys.readouterr().err.count("knows no system turn") == 1
    # The last has names, of which none is the default.
    for refuses in ("{{ raise_exception('never') }}", "{{ messages[0].content + 1 }}", "{% if %}",
                    "{{ messages[0].content.pop() }}", {"tools": "x"}):
        tokenizer.chat_template = refuses
        with pytest.raises(CourseError, match="refuses a conversation of system, user"):
            prompts.prompt_text(tokenizer, asked)


def test_a_head_that_is_missing_would_be_random(tmp_path):
    GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=8, n_layer=1, n_head=1, n_positions=64,
                               tie_word_embeddings=False)).transformer.save_pretrained(tmp_path)
    change(tmp_path / "config.json", architectures=["GPT2LMHeadModel"])
    models.load_tokenizer(str(POLICY)).save_pretrained(tmp_path)
    with pytest.raises(CourseError, match=r"lack 1 of this model's tensors, lm_head.weight"):
        models.load_policy(str(tmp_path))


def test_gsm8k_in_the_cache_works_without_the_hub(tmp_path, monkeypatch):
    """The cache is laid out as a download leaves it."""
    import datasets
    from datasets.arrow_writer import ArrowWriter
    from huggingface_hub import constants

    from lib.tasks.reasoning import get_gsm8k_questions

    folder = tmp_path / "openai___gsm8k" / "main" / "0.0.0" / ("a" * 40)
    folder.mkdir(parents=True)
    columns = datasets.Features({name: datasets.Value("string") for name in ("question", "answer")})
    for split in ("train", "test"):
        with ArrowWriter(path=str(folder / f"gsm8k-{split}.arrow"), features=columns) as writer:
            writer.write({"question": f"of {split}", "answer": "#### 3"})
            writer.finalize()
    datasets.DatasetInfo(
        features=columns, builder_name="parquet", dataset_name="gsm8k", config_name="main",
        version="0.0.0", splits=datasets.SplitDict(
            {split: datasets.SplitInfo(split, 9, 1, dataset_name="gsm8k")
             for split in ("train", "test")}, dataset_name="gsm8k")
    ).write_to_directory(str(folder))
    for owner, name, value in ((datasets.config, "HF_DATASETS_CACHE", tmp_path),
                               (datasets.config, "HF_HUB_OFFLINE", False),
                               (constants, "HF_HUB_OFFLINE", False),
                               (models, "hub_reachable", lambda: False)):
        monkeypatch.setattr(owner, name, value)
    assert get_gsm8k_questions("eval", None) == [{"question": "of test", "answer": "#### 3"}]
