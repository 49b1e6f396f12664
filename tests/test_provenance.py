from bundle import provenance


def test_a_digest_of_code_sees_code_and_not_comments(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path)
    path = tmp_path / "pretext" / "losses.py"
    path.parent.mkdir()

    def digest_of(text):
        path.write_text(text)
        return provenance.code_digest("pretext")

    first = digest_of('"""Losses."""\ndef loss(x):\n    """A loss."""\n    return 2 * x\n')
    assert first == digest_of('"""The losses."""\n\n\ndef loss(x):\n    # twice\n    return (2 * x)\n')
    assert first != digest_of("def loss(x):\n    return 3 * x\n")
