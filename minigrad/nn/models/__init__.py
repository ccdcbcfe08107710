"""Networks, one family a file."""
from .conv import Conv4, ConvBlock, ConvLarge
from .resnet import BasicBlock, Bottleneck, ResNet, resnet18, resnet50
from .text import BERT, CLIPText
from .vit import VisionTransformer
from .wide_resnet import WideResNet
