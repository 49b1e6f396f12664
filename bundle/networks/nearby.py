"""What a classifier says of many volumes that differ from one volume in a part: the rest is computed once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bundle.networks.classifiers import Classifier

LEAST_VOXELS = 2**20  # of a volume, below which the first maps are too small for it to matter
STRIDE = 4  # voxels of a cell of the first dense block
Box = list[slice]


class Nearby(Classifier):
    """The same classifier, quicker for volumes that differ from a known one in a part alone.

    The first layers and the first dense block see a few voxels around each place and take three quarters of the
    time. They are computed again only where a volume differs, and as far around as they see.

    Args:
        classifier: MONAI's DenseNet.
        volume: The known volume.

    Shape:
        volume (1, C, D, H, W).
    """

    def __init__(self, classifier: Classifier, volume: Tensor) -> None:
        super().__init__(classifier.network)
        features = classifier.network.get_submodule("features")
        assert isinstance(features, nn.Sequential)
        self.stem, self.block, self.rest = features[:4], features[4], features[5:]
        with torch.inference_mode():
            self.volume, self.known = volume, self.block(self.stem(volume))

    def both(self, volumes: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, classes) and embedding (N, E)."""
        if len(volumes) > 1:
            return super().both(volumes)
        changed = _changed(self.volume, volumes)
        head = self.network.get_submodule("class_layers")
        assert isinstance(head, nn.Sequential)
        embedding = head[:-1](self.rest(self.known if changed is None else self._block_of(volumes, changed)))
        return head[-1](embedding), embedding

    def _block_of(self, volume: Tensor, changed: Box) -> Tensor:
        """The output of the first dense block, computed where a volume is changed and known elsewhere."""
        cells, found = self.known.shape[2:], self.known.clone()
        # A cell is a maximum over 3 of every other place of a convolution over 7, which both pad with zeros.
        box = _cut([slice(s.start // STRIDE - 1, s.stop // STRIDE + 2) for s in changed], cells)
        wide = [slice(max(0, s.start - 2), s.stop + 1) for s in box]
        seen = self.stem(volume[_of([slice(STRIDE * s.start, STRIDE * s.stop) for s in wide])])
        channels = seen.shape[1]
        found[_of(box, slice(channels))] = seen[_of(_inside(box, wide))]
        for layer in self.block.children():
            box = _cut(_grown(box), cells)
            wide = _cut(_grown(box), cells)
            new = layer.get_submodule("layers")(found[_of(wide, slice(channels))])[_of(_inside(box, wide))]
            found[_of(box, slice(channels, channels + new.shape[1]))] = new
            channels += new.shape[1]
        return found


def near(network: nn.Module, volume: Tensor) -> nn.Module:
    """A network for volumes near this one; itself where it is no classifier of DenseNet, or nothing would be gained.

    Args:
        network: Any network, in evaluation mode.
        volume: Volume as the network sees it.

    Shape:
        volume (1, C, D, H, W).
    """
    features = getattr(getattr(network, "network", None), "features", None)
    names = [name for name, _ in features.named_children()] if isinstance(features, nn.Sequential) else []
    is_known = names[:5] == ["conv0", "norm0", "relu0", "pool0", "denseblock1"]
    is_large = volume.device.type == "cpu" and volume.numel() >= LEAST_VOXELS
    if not (isinstance(network, Classifier) and is_known and is_large):
        return network
    return Nearby(network, volume).eval()


def _changed(known: Tensor, volume: Tensor) -> Box | None:
    """The smallest box that holds every voxel in which volumes differ; None where there is none."""
    places = (volume != known)[0].any(0)
    box = []
    for axis in range(3):
        there = places.any(dim=[other for other in range(3) if other != axis]).nonzero()
        if not len(there):
            return None
        box.append(slice(int(there[0]), int(there[-1]) + 1))
    return box


def _grown(box: Box) -> Box:
    return [slice(side.start - 1, side.stop + 1) for side in box]


def _cut(box: Box, sizes: Sequence[int]) -> Box:
    return [slice(max(0, side.start), min(size, side.stop)) for side, size in zip(box, sizes, strict=True)]


def _inside(box: Box, wide: Box) -> Box:
    """Where a box lies in a wider one."""
    return [slice(side.start - w.start, side.stop - w.start) for side, w in zip(box, wide, strict=True)]


def _of(box: Box, channels: slice = slice(None)) -> tuple[slice, ...]:
    """An index of volumes or maps."""
    return (slice(None), channels, *box)
