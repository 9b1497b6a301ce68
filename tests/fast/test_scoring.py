import pytest
import torch

from lib.scoring import get_sentiment_scores, get_star_probs

TEXTS = [" awful. I walked out halfway.", " okay.", " brilliant. I loved every minute.", ""]


def test_a_batch_scores_as_its_texts_do_alone():
    one_by_one = [get_sentiment_scores([text])[0] for text in TEXTS]
    assert get_sentiment_scores(TEXTS) == pytest.approx(one_by_one, abs=1e-5)


def test_probabilities_sum_to_one_and_scores_are_expected_stars():
    probs = get_star_probs(TEXTS)
    assert probs.shape == (4, 5) and torch.allclose(probs.sum(1), torch.ones(4), atol=1e-5)
    by_hand = [sum(p.item() * stars for p, stars in zip(row, range(1, 6), strict=True))
               for row in probs]
    assert get_sentiment_scores(TEXTS) == pytest.approx([(s - 1) / 4 for s in by_hand], abs=1e-5)


def test_better_reviews_score_higher():
    bad, middling, good, _ = get_sentiment_scores(TEXTS)
    assert bad < 0.1 < middling < 0.9 < good


def test_no_texts_no_scores():
    assert get_sentiment_scores([]) == [] and get_star_probs([]).shape == (0, 5)


@pytest.mark.parametrize("wrong", ["one text", [1, 2], [None]])
def test_anything_but_a_list_of_strings_is_a_type_error(wrong):
    with pytest.raises(TypeError, match="list of strings"):
        get_star_probs(wrong)


def test_a_text_longer_than_the_model_is_cut_not_refused():
    assert 0 <= get_sentiment_scores([" brilliant" * 500])[0] <= 1
