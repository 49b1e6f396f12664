"""What is uploaded: a model repository for the Hugging Face Hub and the Model Zoo's zip, made offline from one card."""

from bundle.publishing.folder import Choices, publish
from bundle.publishing.package import package

__all__ = ["Choices", "package", "publish"]
