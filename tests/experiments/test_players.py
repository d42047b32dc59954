"""Players of recorded games: everything in one page, every step, nothing that a text could break."""

import json
import re
from base64 import b64decode
from html import unescape
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from experiments.players import LIMIT, as_markdown, picture, player, svg

FRAMES = [svg(3, 3, [f'<circle cx="{x}" cy="1" r="0.4"/>']) for x in range(3)]
SAID = ["it stands", 'it goes on & says "</script>"', "it has gone"]


def constants(page: str) -> dict:
    return {name: json.loads(x) for name, x in re.findall(r"(frames|captions) = (\[.*?\])(?=, \w+ = )", page)}


def test_every_step_is_in_the_page_and_the_first_is_shown_without_a_script():
    page = player("walk", FRAMES, SAID, "a walk").data
    held = constants(page)
    assert held["frames"] == FRAMES
    assert [unescape(text) for text in held["captions"]] == SAID
    assert FRAMES[0] in page.partition("<script>")[0]
    assert 'aria-label="a walk: it stands"' in page
    assert 'max="2"' in page


def test_no_caption_ends_the_script_and_nothing_is_fetched():
    page = player("walk", FRAMES, SAID, "a </script> walk").data
    assert page.count("</script>") == 1
    assert not re.search(r'(?:src|href)="(?!data:)', page)


def test_equal_games_make_equal_pages():
    assert player("walk", FRAMES, SAID, "a walk").data == player("walk", FRAMES, SAID, "a walk").data


def test_a_picture_within_the_page_is_the_array_that_was_given():
    image = np.zeros((4, 6, 3), np.uint8)
    image[1, 2], image[3, 5] = (250, 220, 80), (0, 114, 178)
    inside = b64decode(re.search(r"base64,([^\"]+)", picture(image))[1])
    np.testing.assert_array_equal(np.asarray(Image.open(BytesIO(inside)).convert("RGB")), image)


@pytest.mark.parametrize(
    ("frames", "captions", "message"),
    [
        ([], [], "captions must be one for each frame, got 0 for 0"),
        (FRAMES, SAID[:2], "captions must be one for each frame, got 2 for 3"),
        (["x" * LIMIT], [""], "frames must take at most 200,000 bytes"),
    ],
)
def test_what_cannot_be_played_is_refused(frames: list[str], captions: list[str], message: str):
    with pytest.raises(ValueError, match=message):
        player("walk", frames, captions, "a walk")


@given(st.text())
def test_messages_are_shown_as_they_are(text: str) -> None:
    shown = as_markdown(text)
    assert unescape(shown) == "".join(unescape(f"&#{ord(mark)};") for mark in text) or "\x00" in text
    assert not set(re.sub("&#[0-9]+;", "", shown)) & set("|*_`<>&[]()#\\\n$~")
