"""A page says what may run in it, by digest, and takes no markup from texts."""

import base64
import hashlib
import re

from bundle.pages import filled

OWN = '{% extends "base.html" %}{% block content %}<p title="{{ said }}">{{ said }}</p>{% endblock %}'
HOSTILE = '"><script>alert(1)</script>'


def page(folder, script, **content):
    (folder / "own.html").write_text(OWN)
    (folder / "own.js").write_text("document.title = 1;")
    return filled(folder, "own.html", script, {"title": "t", "said": "", **content})


def policy(text):
    return re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text)[1].replace("&#39;", "'")


def test_style_and_script_are_named_by_their_digests(tmp_path):
    text = page(tmp_path, "own.js")
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        content = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy(text)


def test_a_page_without_script_lets_none_run(tmp_path):
    text = page(tmp_path, "")
    assert "<script" not in text
    assert policy(text).startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "script-src" not in policy(text)


def test_texts_stay_texts_and_every_page_says_what_it_is_for(tmp_path):
    text = page(tmp_path, "", said=HOSTILE, facts=[(HOSTILE, HOSTILE)])
    assert "<script" not in text
    assert text.count("&lt;script&gt;") == 4
    assert "Research use only. Not a medical device." in text
