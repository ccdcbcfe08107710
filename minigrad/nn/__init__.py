"""Modules: layers with parameters, put together into networks."""
from .layers import AvgPool2d, BatchNorm2d, Conv2d, Flatten, Linear, MaxPool2d, ReLU
from .models import Conv4, ConvBlock
from .module import Module, Parameter, Sequential, functional_call
