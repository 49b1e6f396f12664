"""An ensemble holds no single network that others could load an encoder from."""

from pathlib import Path

import pytest

from bundle.publishing.folder import Choices, _publishable


def test_an_ensemble_is_not_published():
    card = {"network": {"members": 3, "init_features": 8}, "contract": {"grid": {}}, "intended_use": "research only"}
    with pytest.raises(ValueError, match=r"is an ensemble of 3 members.*Publish a member"):
        _publishable(Path("model.pt"), card, Choices())
