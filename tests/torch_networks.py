"""Networks as people write them in PyTorch, each with an input for it."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

NETWORKS = {}


def features(*shape):
    return lambda: torch.randn(shape)


def ids(*shape):
    return lambda: torch.randint(0, 20, shape)


def module_of(forward, **modules):
    """A module of a class of its own, with this forward."""
    module = type(forward.__name__, (nn.Module,), {"forward": forward})()
    for name, value in modules.items():
        if isinstance(value, torch.Tensor):
            module.register_buffer(name, value)
        else:
            setattr(module, name, value)
    return module


def network(x, **modules):
    """Register a forward, with a function that makes x and functions that make the modules and buffers."""

    def register(forward):
        def make():
            return module_of(forward, **{name: make() for name, make in modules.items()}), x()

        NETWORKS[forward.__name__] = make
        return forward

    return register


@network(ids(3, 7), embed=lambda: nn.Embedding(20, 6), lstm=lambda: nn.LSTM(6, 5), tag=lambda: nn.Linear(5, 4))
def time_major_tagger(self, x):
    y, _ = self.lstm(self.embed(x))
    return F.log_softmax(self.tag(y), dim=-1)


@network(
    ids(3, 7),
    embed=lambda: nn.Embedding(20, 6, padding_idx=0),
    drop=lambda: nn.Dropout(0.5),
    lstm=lambda: nn.LSTM(6, 5, 2, batch_first=True, bidirectional=True, dropout=0.5),
    dense=lambda: nn.Linear(10, 2),
)
def sentiment_from_both_final_states(self, x):
    _, (h, _) = self.lstm(self.drop(self.embed(x)))
    h = self.drop(torch.cat((h[-2, :, :], h[-1, :, :]), dim=1))
    return self.dense(h)


@network(
    ids(3, 7),
    embed=lambda: nn.Embedding(20, 6),
    lstm=lambda: nn.LSTM(6, 5, bidirectional=True, batch_first=True),
    dense=lambda: nn.Linear(10, 1),
)
def sentiment_from_both_ends_of_the_output(self, x):
    y, _ = self.lstm(self.embed(x))
    h = torch.cat((y[:, -1, :5], y[:, 0, 5:]), dim=1)
    return torch.sigmoid(self.dense(h)).squeeze(1)


@network(
    ids(3, 7),
    embedding=lambda: nn.Embedding(20, 6),
    lstm=lambda: nn.LSTM(6, 5, 2, dropout=0.5, batch_first=True),
    dropout=lambda: nn.Dropout(0.3),
    fc=lambda: nn.Linear(5, 1),
    sig=lambda: nn.Sigmoid(),
)
def sentiment_by_merged_rows(self, x):
    batch_size = x.size(0)
    hidden = (x.new_zeros(2, batch_size, 5).float(), torch.zeros(2, batch_size, 5, device=x.device))
    y, hidden = self.lstm(self.embedding(x.long()), hidden)
    y = self.fc(self.dropout(y.contiguous().view(-1, 5)))
    y = self.sig(y).view(batch_size, -1)
    return y[:, -1], hidden


@network(features(3, 7, 2), lstm=lambda: nn.LSTM(2, 5, 2, batch_first=True), linear=lambda: nn.Linear(5, 1))
def forecaster(self, x):
    h0 = torch.zeros(2, x.size(0), 5).to(x.device).requires_grad_()
    c0 = torch.zeros(2, x.size(0), 5).to(x.device).requires_grad_()
    y, _ = self.lstm(x, (h0.detach(), c0.detach()))
    return self.linear(y[:, -1, :])


@network(features(3, 7), rnn=lambda: nn.RNN(1, 6, nonlinearity="relu"), out=lambda: nn.Linear(6, 1))
def forecaster_of_single_numbers(self, x):
    y, _ = self.rnn(x.unsqueeze(-1))
    return self.out(y).squeeze(-1)


@network(
    features(3, 7, 4),
    norm=lambda: nn.LayerNorm(4),
    gru=lambda: nn.GRU(4, 6, batch_first=True),
    head=lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(inplace=True), nn.Dropout(0.1), nn.Linear(8, 1), nn.Sigmoid()),
)
def voice_activity_detector(self, x, h=None):
    y, h = self.gru(self.norm(x), h)
    return self.head(y), h


@network(
    features(3, 7, 9),
    encode=lambda: nn.Sequential(nn.Linear(9, 6), nn.ELU()),
    gru=lambda: nn.GRU(6, 6, 2, batch_first=True),
    mask=lambda: nn.Linear(6, 9),
)
def denoising_mask(self, x):
    y = self.encode(torch.log1p(torch.ones(1)) * x)
    y, _ = self.gru(y)
    return torch.clamp(F.leaky_relu(self.mask(y), 0.1), min=0.0, max=1.0)


@network(
    features(3, 7, 4),
    conv=lambda: nn.Conv1d(4, 6, 3),
    norm=lambda: nn.BatchNorm1d(6, eps=1e-3),
    lstm=lambda: nn.LSTM(6, 5, batch_first=True),
    dense=lambda: nn.Linear(5, 3),
)
def causal_convolution_before_an_lstm(self, x):
    y = self.conv(F.pad(x.transpose(1, 2), (2, 0)))
    y = F.silu(self.norm(y)).transpose(1, 2)
    return self.dense(self.lstm(y)[0])


@network(
    features(3, 7, 4),
    conv=lambda: nn.Conv1d(4, 6, 3, padding=4, dilation=2),
    gru=lambda: nn.GRU(6, 5),
    pool=lambda: nn.AdaptiveMaxPool1d(1),
)
def convolution_with_its_end_cut_off(self, x):
    y = torch.tanh(self.conv(x.permute(0, 2, 1))[:, :, :-4]).permute(2, 0, 1)
    y, _ = self.gru(y)
    return self.pool(y.permute(1, 2, 0)).squeeze(2)


@network(
    features(7, 3, 4),
    rnn=lambda: nn.GRU(4, 5, 3, bidirectional=True),
    bn=lambda: nn.BatchNorm1d(5),
    out=lambda: nn.Linear(5, 2, bias=False),
)
def final_state_by_layer_and_direction(self, x):
    _, h = self.rnn(x)
    h = h.view(3, 2, x.shape[1], 5)[-1]
    return self.out(self.bn(h[0] + h[1]))


@network(features(7, 3, 4), rnn=lambda: nn.LSTM(4, 5, bidirectional=True), out=lambda: nn.Linear(10, 2))
def final_states_laid_side_by_side(self, x):
    _, (h, _) = self.rnn(x)
    return self.out(h.permute(1, 0, 2).reshape(x.size(1), -1))


@network(features(7, 3, 4), rnn=lambda: nn.GRU(4, 5, bidirectional=True), out=lambda: nn.Linear(4, 2))
def some_features_and_one_score(self, x):
    y, _ = self.rnn(x)
    _, backward = y.chunk(2, dim=2)
    return self.out(torch.selu(backward[..., 1:]))[:, :, 1]


@network(features(7, 3, 4), rnn=lambda: nn.GRU(4, 5, bidirectional=True), out=lambda: nn.Linear(5, 2))
def both_directions_added(self, x):
    y, _ = self.rnn(x)
    y = y[:, :, :5] + y[:, :, 5:]
    return self.out(F.gelu(y)).mean(dim=0)


@network(features(7, 3, 4), rnn=lambda: nn.GRU(4, 5, bidirectional=True), next=lambda: nn.LSTM(5, 4, proj_size=2))
def both_directions_averaged_then_projected(self, x):
    y, h = self.rnn(x)
    y = y.view(*x.shape[:2], 2, 5).mean(2)
    y, state = self.next(y)
    return y, (h, state)


@network(
    features(3, 7, 4),
    mean=lambda: torch.randn(4),
    std=lambda: torch.rand(4) + 0.5,
    lstm=lambda: nn.LSTM(4, 6),
    dense=lambda: nn.Linear(6, 4),
)
def normalised_inside_and_back(self, x):
    y, _ = self.lstm(((x - self.mean) / self.std).transpose(0, 1))
    return self.dense(y[-1]) * self.std + self.mean


@network(
    features(3, 7, 4),
    encoder=lambda: nn.LSTM(4, 3, batch_first=True),
    decoder=lambda: nn.LSTM(3, 5, batch_first=True),
    out=lambda: nn.Linear(5, 4),
)
def autoencoder_of_seven_steps(self, x):
    _, (h, _) = self.encoder(x)
    y, _ = self.decoder(h.squeeze(0).unsqueeze(1).repeat(1, 7, 1))
    return self.out(y)


@network(features(3, 7, 4), lstm=lambda: nn.LSTM(4, 5, batch_first=True), out=lambda: nn.Linear(35, 2), flat=nn.Flatten)
def all_steps_flattened(self, x):
    y, _ = self.lstm(x)
    return F.softmax(self.out(self.flat(y)), dim=1)


@network(features(3, 28), rnn=lambda: nn.RNN(4, 5, batch_first=True), first=lambda: nn.Linear(28, 28))
def vector_divided_into_steps(self, x):
    y, _ = self.rnn(self.first(x).view(-1, 7, 4))
    return y.amax(1, keepdim=True)


@network(
    features(3, 7, 4),
    gru=lambda: nn.GRU(4, 5, batch_first=True),
    score=lambda: nn.Linear(5, 6),
    weight=lambda: torch.randn(6, 2),
)
def character_model_with_merged_rows(self, x):
    y, h = self.gru(x.flip(1))
    y = self.score(y.reshape(-1, 5))
    return {"logits": y @ self.weight, "h": h}


def packed_tagger():
    """Takes lengths besides x."""

    def forward(self, x, lengths):
        packed = pack_padded_sequence(self.embed(x), lengths.cpu(), batch_first=True, enforce_sorted=False)
        packed, _ = self.lstm(packed)
        y, _ = pad_packed_sequence(packed, batch_first=True)
        return self.tag(y)

    lstm = nn.LSTM(6, 5, bidirectional=True, batch_first=True)
    return module_of(forward, embed=nn.Embedding(20, 6), lstm=lstm, tag=nn.Linear(10, 4))


def packed_classifier():
    """Takes lengths besides x."""

    def forward(self, x, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
        _, h = self.gru(packed)
        return self.out(torch.cat([h[0], h[1]], dim=-1))

    return module_of(forward, gru=nn.GRU(6, 5, bidirectional=True), out=nn.Linear(10, 4))


def packed_twice():
    """Takes lengths besides x."""

    def forward(self, x, lengths):
        y, _ = self.first(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
        y, lengths = pad_packed_sequence(y, batch_first=True)
        y = torch.relu(self.dense(y[..., 5:]))
        _, h = self.second(pack_padded_sequence(y[..., 1:], lengths, batch_first=True, enforce_sorted=False))
        return torch.cat([h[0], h[1]], dim=-1)

    first = nn.GRU(6, 5, bidirectional=True, batch_first=True)
    second = nn.GRU(3, 2, bidirectional=True, batch_first=True)
    return module_of(forward, first=first, dense=nn.Linear(5, 4), second=second)
