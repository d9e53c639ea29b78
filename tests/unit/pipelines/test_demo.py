"""What the demo prints stays readable."""

from pipelines.demo import shortened


def test_long_strings_and_lists_become_one_line_and_short_ones_stay() -> None:
    answer = {"data": "x" * 1000, "id": "abc", "valid": [True] * 300, "used": [{"m": "EEG"}]}
    short = shortened(answer)
    assert short["data"].endswith("... 1000 characters")
    assert short["valid"].endswith("... 300 items")
    assert (short["id"], short["used"]) == ("abc", [{"m": "EEG"}])
    assert all(len(text) < 100 for text in (short["data"], short["valid"]))
