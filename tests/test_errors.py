"""The wording of a user's mistakes."""

from __future__ import annotations

import pytest

from singlepath.errors import SinglepathError, UserError, optional, unknown, user_error


def test_a_message_is_one_line_of_what_was_given_what_is_allowed_and_what_to_type() -> None:
    error = user_error("the file\n'a\nb'", "allowed:\n  c", "type d")
    assert str(error) == "the file 'a b'; allowed: c; type d"
    assert isinstance(error, UserError) and isinstance(error, SinglepathError)


@pytest.mark.parametrize(("typed", "nearest"), [("mobil", "mobile"), ("makro", "macro"), ("zzz", "")])
def test_an_unknown_name_comes_with_all_known_ones_and_the_nearest(typed: str, nearest: str) -> None:
    message = str(unknown("space", typed, ["mobile", "macro"], "--space"))
    assert message.startswith(f"unknown space {typed!r}; known: macro, mobile; type --space {nearest}")


def test_an_unknown_name_without_a_flag_or_without_any_known() -> None:
    assert str(unknown("part", "hed", ["head", "stem"])).endswith("did you mean 'head'?")
    assert str(unknown("part", "hed", [])).endswith("none is registered")


def test_a_missing_package_names_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"'onnxruntime' is not installed.*'onnx'.*singlepath\[onnx\]"):
        optional("onnxruntime", "onnx")
    assert optional("json", "none").loads("1") == 1


def test_a_package_whose_own_requirement_is_missing_names_that_one() -> None:
    with pytest.raises(UserError, match="'no_such_package_at_all' is not installed"):
        optional("no_such_package_at_all.inner", "x")
