"""Networks, one family a file: encoders with a head. `published` reads checkpoints, `lookup` finds and recognises them."""
# X as X: who checks types, as editors do, takes X for a name that is given on.
from .conv import Conv4 as Conv4, ConvBlock as ConvBlock, ConvLarge as ConvLarge
from .efficientnet import EfficientNetLite as EfficientNetLite, efficientnet_lite as efficientnet_lite
from .encoder import Encoder as Encoder
from .lookup import load_clip as load_clip, load_encoder as load_encoder, load_text_encoder as load_text_encoder
from .mae import MAE as MAE
from .preprocessing import Preprocessing as Preprocessing
from .published import load_published as load_published, published_state as published_state
from .resnet import (
    BasicBlock as BasicBlock, Bottleneck as Bottleneck, ResNet as ResNet, resnet18 as resnet18, resnet50 as resnet50)
from .text import BERT as BERT, CLIPText as CLIPText
from .vit import VisionTransformer as VisionTransformer, resize_positions as resize_positions
from .wide_resnet import WideResNet as WideResNet
