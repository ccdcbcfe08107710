"""Networks, one family a file: encoders with a head. `published` reads checkpoints, `lookup` finds and recognises them."""
from .conv import Conv4, ConvBlock, ConvLarge
from .efficientnet import EfficientNetLite, efficientnet_lite
from .encoder import Encoder
from .lookup import load_clip, load_encoder, load_text_encoder
from .mae import MAE
from .preprocessing import Preprocessing
from .published import load_published, published_state
from .resnet import BasicBlock, Bottleneck, ResNet, resnet18, resnet50
from .text import BERT, CLIPText
from .vit import VisionTransformer, resize_positions
from .wide_resnet import WideResNet
