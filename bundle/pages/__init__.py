"""What all pages share: look, templates, sorting of tables, and pictures inside a page."""

from bundle.pages.page import GENERATOR, filled

__all__ = ["GENERATOR", "filled"]
