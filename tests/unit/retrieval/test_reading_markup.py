"""HTML becomes what a reader sees, in linear time however broken it is."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.reading.markup import plain_text


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("plain", "plain"),
        ("<p>One</p><p>two</p>", "One\ntwo"),
        ("a<br>b<BR/>c", "a\nb\nc"),
        ("one <b>bold</b>, <a href='x'>link</a>", "one bold, link"),
        ("R&amp;D &eacute;&#233;&#xe9; &lt;b&gt;", "R&D ééé <b>"),
        ("a<script>if (x<y) {}</script>b<style>p {}</style>c", "abc"),
        ("a<!-- no > comment -->b<!DOCTYPE html>c<?php x ?>d", "abcd"),
        ('<img alt="a > b">x', "x"),
        ("5 < 6 and 7 > 2, I <3 you", "5 < 6 and 7 > 2, I <3 you"),
        ("cut off <a href=", "cut off <a href="),
        ("<p>  many \t spaces\n\n\n</p>\n<p>&nbsp;here", "many spaces\nhere"),
        ("<script>never closed", "never closed"),
        ("&#" + "1" * 5000 + ";<b>x</b>", "&#" + "1" * 5000 + ";x"),
    ],
)
def test_tags_go_and_texts_stay(html: str, text: str) -> None:
    assert plain_text(html) == text


@given(st.text(alphabet="ab<>&;!-/\"'= \n#1"))
def test_anything_can_be_read(html: str) -> None:
    assert plain_text(html) == plain_text(html).strip()


@pytest.mark.parametrize(
    "part", ["<", "<a ", "<!--", "<?", "</", '<a x="', "<script>", "&", '<a x=">', "<div>", "<a ="]
)
def test_broken_html_takes_no_quadratic_time(part: str) -> None:
    begin = time.process_time()
    plain_text(part * (1_000_000 // len(part)))
    assert time.process_time() - begin < 5
