"""y-Aware contrastive pretraining for 3D brain MRI: the Python that MONAI lacks."""
