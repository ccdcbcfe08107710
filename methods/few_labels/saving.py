"""Writing the chosen classifier so that `examples.predict` reads it."""
import dataclasses
import json
import pathlib

from methods import peft
from methods.peft.prediction import FILE
from methods.training import checkpoint, encoders
from methods.training.classifier import Architecture, Classifier, full_name, load_classifier
from methods.training.encoders import CHECKPOINT
from methods.training.pictures import EncoderInput
from methods.training.prediction import UNCERTAINTY
from methods.training.run import write_whole
from methods.transfer import finetune
from methods.transfer.linear import Linear
from methods.transfer.tip_adapter import TipAdapter
from minigrad import nn

from .answer import COVERAGE, Answer
from .families import Trained
from .readers import PictureReader, TextReader
from .text_families import TunedText, inputs


def save(result: Answer, reader: PictureReader | TextReader, out: pathlib.Path) -> None:
    """Writes the chosen classifier, calibrated, and the threshold of its sets of classes."""
    out.mkdir(parents=True, exist_ok=True)
    texts = isinstance(reader, TextReader)
    (_save_text if texts else _save_picture)(result, reader, out)
    (out / (CHECKPOINT if texts else FILE)).unlink(missing_ok=True)  # an earlier run's, of the other kind
    write_whole(out / UNCERTAINTY, json.dumps({"threshold": result.threshold(), "coverage": COVERAGE}))


def _calibrated(model, t):
    """Linear scores divided by the temperature."""
    return dataclasses.replace(model, weight=model.weight / t, bias=model.bias / t)


def _save_picture(result, reader, out):
    """A checkpoint with the whole network."""
    t, classes, model, encoder = result.chosen.model_temperature(result.y), result.classes, result.chosen.model, reader.encoder
    if isinstance(model, Trained):
        classifier = dataclasses.replace(load_classifier(f"{model.out}/{CHECKPOINT}"), weights="net")
        net = classifier.net
        _divide(net.head, t)
    elif isinstance(model, Linear):
        finetune.set_head(encoder, _calibrated(model, t))
        net, classifier = encoder, encoders.classifier(encoder, reader.preprocessing, classes)
    else:
        encoder.head = nn.Identity()
        net = TipAdapter(encoder, len(classes), len(model.y)).to(encoder.parameters()[0].device)
        net.fill(model, t)
        whole = Architecture(full_name(TipAdapter), encoder=encoders.architecture(encoder), classes=len(classes),
                             examples=len(model.y))
        classifier = Classifier(whole, classes, EncoderInput(**dataclasses.asdict(reader.preprocessing)))
    checkpoint.save(out / CHECKPOINT, 0, {"net": net}, classifier.facts())
    encoder.head = nn.Identity()


def _save_text(result, reader, out):
    """What was trained, which needs the same language model."""
    t, model = result.chosen.model_temperature(result.y), result.chosen.model
    if isinstance(model, TunedText):
        net = model.load()
        _divide(net.head, t)
        adaptation = net.adaptation
    else:
        net, _ = reader.load()
        adaptation = peft.apply(net, "probe", head=len(result.classes))
        finetune.set_head(net, _calibrated(model, t))
    adaptation.save(out / FILE, classes=list(result.classes), inputs=inputs(reader), accuracy=result.accuracy(result.chosen)[0])


def _divide(head, t):
    for parameter in head.parameters():
        parameter.data = parameter.data / t
