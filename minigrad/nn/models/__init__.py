"""Networks, one family a file: encoders with a head. `published` reads their checkpoints."""
from .conv import Conv4, ConvBlock, ConvLarge
from .encoder import Encoder
from .published import load_published
from .resnet import BasicBlock, Bottleneck, ResNet, resnet18, resnet50
from .text import BERT, CLIPText
from .vit import VisionTransformer
from .wide_resnet import WideResNet
