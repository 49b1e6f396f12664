"""What goes into a package, and what stays out of it."""

from bundle.publishing.package import files_of


def test_what_was_made_stays_out_whatever_the_folders_above_are_called(tmp_path):
    docs = tmp_path / "tutorials" / "site" / "docs"
    for name in ("README.md", "howto/a.md", "tutorials/1.rst", "reference/made/b.md", "site/c.py", "conf.py"):
        (docs / name).parent.mkdir(parents=True, exist_ok=True)
        (docs / name).touch()
    assert sorted(path.relative_to(docs).as_posix() for path in files_of(docs)) == ["README.md", "howto/a.md"]
