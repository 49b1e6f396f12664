"""What made the objects, and UIDs that nobody has used before."""

from __future__ import annotations

import uuid
from typing import Any

from bundle.dicom.answer import Network
from bundle.dicom.codes import short
from bundle.files import read_json
from bundle.places import CONFIGS

MANUFACTURER = "brain_mri_yaware_classification"
RESEARCH = "Research use only. Not a medical device. Not for diagnosis, treatment or screening."
SERIES = "Research only: {}"  # description of our series


def equipment(model: Network) -> dict[str, Any]:
    """Who made an object, as arguments of highdicom; the serial number is the checksum of the weights.

    Args:
        model: Model that answered.
    """
    version = str(read_json(CONFIGS / "metadata.json")["version"])
    return {
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": short(model.name) or "model",
        "software_versions": [short(f"{MANUFACTURER} {version}"), short(f"model {model.version or 'of no version'}")],
        "device_serial_number": short(model.sha256) or "unknown",
    }


def new_uid() -> str:
    """A UID that needs no registration, from a random UUID (DICOM PS3.5, B.2)."""
    return f"2.25.{uuid.uuid4().int}"


def uid_of(text: str) -> str:
    """The UID that belongs to a text, such as the checksum of a model: always the same."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, text).int}"
