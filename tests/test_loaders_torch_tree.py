import pickle
import tracemalloc

import pytest
import torch
from loader_files import archive, assert_weights_of, load_one, state_dict, tensor, text
from torch import nn

from gated_c import FormatError, UnsupportedError
from gated_c.loaders import load_layers, read_layers


class Forecaster(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(2, 3), nn.LSTM(3, 4, batch_first=True, bidirectional=True))
        self.decoder = nn.ModuleList([nn.RNN(8, 2, nonlinearity="relu"), nn.RNNCell(2, 3, nonlinearity="relu")])
        self.settings = {"lr": 0.1}


class OwnLSTM(nn.LSTM):
    pass


class OwnCell(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight_ih = nn.Parameter(torch.zeros(4, 1))
        self.weight_hh = nn.Parameter(torch.zeros(4, 1))


class Checkpoint:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)


@pytest.fixture(params=[True, False], ids=["zip", "stream"])
def save(request, recwarn):
    """torch.save in both formats; the older one warns that it cannot store the source of classes."""
    return lambda value, path: torch.save(value, path, _use_new_zipfile_serialization=request.param)


MODULES = {
    "lstm": lambda: nn.LSTM(3, 4, num_layers=2, proj_size=2, batch_first=True),
    "gru": lambda: nn.GRU(3, 4, bidirectional=True, bias=False),
    "rnn": lambda: nn.RNN(3, 4, nonlinearity="relu", batch_first=True),
    "lstm cell": lambda: nn.LSTMCell(3, 4),
    "gru cell": lambda: nn.GRUCell(3, 4, bias=False),
    "rnn cell": lambda: nn.RNNCell(3, 4, nonlinearity="relu"),
}


@pytest.mark.parametrize("make", MODULES.values(), ids=MODULES.keys())
def test_a_whole_module_brings_what_a_state_dict_does_not_say(tmp_path, save, make):
    module = make()
    save(module, tmp_path / "a.pt")
    layer = load_one(tmp_path / "a.pt")
    assert_weights_of(layer, module)
    assert layer.batch_first == getattr(module, "batch_first", False)
    assert layer.cell.endswith("relu") == (getattr(module, "nonlinearity", "tanh") == "relu")


def test_modules_inside_classes_of_any_name(tmp_path, save):
    model = Forecaster()
    save(model, tmp_path / "a.pt")
    layers = {layer.name: layer for layer in read_layers(tmp_path / "a.pt")}
    assert list(layers) == ["encoder.1", "decoder.0", "decoder.1"]
    for name, layer in layers.items():
        assert_weights_of(layer, model.get_submodule(name))
    assert [layer.batch_first for layer in layers.values()] == [True, False, False]
    assert [layer.cell for layer in layers.values()] == ["lstm", "rnn_relu", "rnn_relu"]


def test_a_data_parallel_module(tmp_path, save):
    model = Forecaster()
    save(nn.DataParallel(model), tmp_path / "a.pt")
    assert_weights_of(load_one(tmp_path / "a.pt", prefix="encoder.1"), model.encoder[1])
    assert_weights_of(load_one(tmp_path / "a.pt", prefix="module.encoder.1"), model.encoder[1])


def test_modules_and_state_dicts_anywhere_in_a_checkpoint(tmp_path, save):
    model, gru = Forecaster(), nn.GRU(2, 2)
    checkpoint = Checkpoint(history=[(1, {"best": model})], ema=Checkpoint(weights=gru.state_dict()))
    save({"run": checkpoint}, tmp_path / "a.pt")
    assert [layer.name for layer in read_layers(tmp_path / "a.pt")] == ["", "encoder.1", "decoder.0", "decoder.1"]
    assert_weights_of(load_one(tmp_path / "a.pt", prefix="run.ema.weights"), gru)
    assert_weights_of(load_one(tmp_path / "a.pt", prefix="run.history.0.1.best.encoder.1"), model.encoder[1])


def test_a_module_that_is_reached_twice_counts_once(tmp_path, save):
    gru = nn.GRU(2, 2)
    save({"a": gru, "b": [gru, gru]}, tmp_path / "a.pt")
    assert_weights_of(load_one(tmp_path / "a.pt"), gru)


def test_classes_that_may_compute_something_else_are_refused_by_name(tmp_path, save):
    for module, name in ((OwnLSTM(2, 3), "OwnLSTM"), (OwnCell(), "OwnCell")):
        save(module, tmp_path / "a.pt")
        with pytest.raises(UnsupportedError, match=rf"{name}, not known to compute .* save its state_dict"):
            load_layers(tmp_path / "a.pt")
        save(module.state_dict(), tmp_path / "a.pt")
        assert load_one(tmp_path / "a.pt").cell == "lstm"


def test_a_parametrised_module_is_refused(tmp_path):
    lstm = nn.LSTM(2, 3)
    weight = lstm._parameters.pop("weight_hh_l0")
    lstm.register_parameter("weight_hh_l0_orig", nn.Parameter(weight))
    torch.save(lstm, tmp_path / "a.pt")
    with pytest.raises(UnsupportedError, match="'weight_hh_l0_orig' is part of a parametrised weight"):
        load_layers(tmp_path / "a.pt")


def test_containers_in_themselves_end(tmp_path):
    loop = {"gru": nn.GRU(1, 1).state_dict()}
    loop["self"] = [loop, (loop,)]
    torch.save(loop, tmp_path / "a.pt")
    assert len(read_layers(tmp_path / "a.pt")) == 1


def test_nesting_beyond_the_recursion_limit_ends(tmp_path):
    depth = 10_000
    lists, tuples = b"]" * depth + b"a" * (depth - 1), b")" + b"\x85" * depth
    dictionaries = (b"}" + text("k")) * depth + b"N" + b"s" * depth
    for nested in (lists, tuples, dictionaries):
        assert read_layers(archive(tmp_path / "a.pt", b"\x80\x02" + nested + b".")) == []


def test_long_names_are_not_multiplied(tmp_path):
    weights = state_dict(weight_ih=tensor((1, 1), (1, 1)), weight_hh=tensor((1, 1), (1, 1)))[2:-1]
    long_name = text("n" * 400)
    for depth, count in ((1, 1), (2, 1), (3, 0)):
        nested = (b"}" + long_name) * depth + weights + b"s" * depth
        assert len(read_layers(archive(tmp_path / "a.pt", b"\x80\x02" + nested + b".", a=bytes(16)))) == count


def test_ten_thousand_modules_are_too_many(tmp_path):
    modules = b"]" + b"(" + (b"}(" + text("weight_ih") + b"h\x00" + text("weight_hh") + b"h\x00u") * 10_001 + b"e"
    pickled = b"\x80\x02" + tensor((1, 1), (1, 1)) + b"q\x000" + modules + b"."
    with pytest.raises(FormatError, match="more than 10000 recurrent modules"):
        load_layers(archive(tmp_path / "a.pt", pickled, a=bytes(16)))


@pytest.mark.parametrize("parameters", [3, {}, {"weight_ih": 1, "weight_hh": 2}, {3: 4}])
def test_a_module_without_sense_holds_nothing(tmp_path, parameters):
    fake = Reduced(nn.LSTM, (), {"_parameters": parameters, "_modules": {"a": 3, 4: [5]}})
    assert read_layers(archive(tmp_path / "a.pt", pickle.dumps(fake, 2))) == []


def test_a_compiled_module_is_the_module_inside(tmp_path):
    gru = nn.GRU(2, 3, batch_first=True)
    for module in (gru, nn.Sequential(nn.Linear(2, 2), torch.compile(gru, backend="eager"))):
        torch.save(torch.compile(module, backend="eager"), tmp_path / "a.pt")
        layer = load_one(tmp_path / "a.pt")
        assert_weights_of(layer, gru)
        assert layer.batch_first


KEYS = b"(" + b"".join(text(f"k{n}") + b"K\x01" for n in range(2000)) + b"u"
MANY = b"](" + b"h\x01)\x81h\x02b" * 2000 + b"e\x86."
ATTRIBUTES = {
    "modules": b"}" + text("_parameters") + b"}s" + text("_modules") + b"}" + KEYS + b"s",
    "parameters": b"}" + text("_modules") + b"}s" + text("_parameters") + b"}" + KEYS + b"s",
    "attributes": b"}" + KEYS,
}


@pytest.mark.parametrize("attributes", ATTRIBUTES.values(), ids=ATTRIBUTES.keys())
def test_what_many_objects_share_is_expanded_once(tmp_path, attributes):
    pickled = b"\x80\x02cx\ny\nq\x01" + attributes + b"q\x02\x86" + MANY
    tracemalloc.start()
    assert read_layers(archive(tmp_path / "a.pt", pickled)) == []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50 * len(pickled)


class Reduced:
    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced
