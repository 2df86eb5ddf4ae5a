"""Names that every client takes."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.contract.names import safe_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("My Fox", "My-Fox"),
        ("  café/über  ", "cafe-uber"),
        ("../../etc/passwd", "etc-passwd"),
        ("a_b.c-1", "a_b.c-1"),
        ("CON", "lora-CON"),
        ("nul.txt", "lora-nul.txt"),
        ("None", "lora-None"),
        ("", "lora"),
        (".hidden.", "hidden"),
    ],
)
def test_safe_names(text, name):
    assert safe_name(text) == name


def test_names_without_a_plain_letter_stay_different():
    assert safe_name("小猫") != safe_name("小狗")


@given(st.text())
def test_every_name_is_safe_and_stays(text):
    name = safe_name(text)
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,104}", name)
    assert name[-1] not in ".-"
    assert safe_name(name) == name
