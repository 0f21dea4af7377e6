"""Networks in PyTorch that are no chain of supported layers, with what is said of each."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

REFUSED = {}


def refused(message, **modules):
    """Register a forward around ``self.gru``, 2 to 3 features and batch_first, that is refused with this message."""

    def register(forward):
        REFUSED[forward.__name__] = forward, modules, message
        return forward

    return register


@refused(r"add in line \d+ of torch_refused\.py: joins two paths")
def residual(self, x):
    return x + self.gru(x)[0]


@refused("mul in line .*: joins two paths", dense=nn.Linear(2, 3))
def gated(self, x):
    return self.gru(x)[0] * torch.sigmoid(self.dense(x))


@refused("sub in line .*: joins two paths")
def minus_its_mean(self, x):
    return self.gru(x - x.mean(1, keepdim=True))[0]


@refused("cat in line .*: joins two paths")
def two_pools(self, x):
    y, _ = self.gru(x)
    return torch.cat((y.mean(1), y.amax(1)), 1)


@refused("cat in line .*: joins two paths")
def beside_its_input(self, x):
    return torch.cat((x, torch.relu(x)), 2)


@refused(
    "cat in line .*: joins features of one layer in another order than its own",
    both=nn.GRU(2, 3, bidirectional=True, batch_first=True),
)
def backward_state_first(self, x):
    _, h = self.both(x)
    return torch.cat((h[1], h[0]), 1)


@refused(r"attention \(MultiheadAttention\): not supported", attention=nn.MultiheadAttention(3, 1))
def attention(self, x):
    y, _ = self.gru(x)
    return self.attention(y, y, y)[0]


@refused(r"norm \(GroupNorm\): not supported", norm=nn.GroupNorm(1, 3))
def unknown_module(self, x):
    return self.norm(self.gru(x)[0].mT)


@refused("einsum in line .*: not supported")
def unknown_function(self, x):
    return torch.einsum("ntf->nft", self.gru(x)[0])


@refused("pow in line .*: not supported")
def power(self, x):
    return self.gru(x)[0] ** 2


@refused(r"conv \(Conv1d\): not causal: expected 2 zeros before the steps, got 1", conv=nn.Conv1d(3, 3, 3, padding=1))
def convolution_of_the_future(self, x):
    return self.conv(self.gru(x)[0].mT).mT


@refused(r"conv \(Conv1d\): groups 3 and stride 1", conv=nn.Conv1d(3, 3, 1, groups=3))
def depthwise_convolution(self, x):
    return self.conv(self.gru(x)[0].mT).mT


@refused("forward returns steps that padding added", conv=nn.Conv1d(3, 3, 3, padding=2))
def convolution_with_its_end_left_on(self, x):
    return self.conv(self.gru(x)[0].mT).mT


@refused(r"relu in line .*: reads steps that padding added")
def padding_without_a_convolution(self, x):
    return F.relu(F.pad(self.gru(x)[0].mT, (2, 0)))


@refused(r"constant padding \(2, 0\) of \[N, T, F\]; expected zeros around the last axis, the steps")
def padded_features(self, x):
    return F.pad(self.gru(x)[0], (2, 0))


@refused(r"embed \(Embedding\): max_norm", embed=nn.Embedding(5, 2, max_norm=1.0))
def bounded_embedding(self, x):
    return self.gru(self.embed(x))[0]


@refused(r"embed \(Embedding\): expected ids as the module is given them", embed=nn.Embedding(5, 2))
def computed_ids(self, x):
    return self.gru(self.embed(x * 4))[0]


@refused("forward in line .*: cannot be traced: 'Proxy' object cannot be interpreted as an integer")
def loop_over_steps(self, x):
    return torch.stack([self.gru(x)[0] for _ in range(x.size(1))])


@refused(r"cell \(LSTMCell\): steps that forward takes itself; .* are gru, cell: pass", cell=nn.LSTMCell(2, 3))
def loop_over_cells(self, x):
    state = None
    for _ in range(5):
        state = self.cell(x[:, 0], state)
    return state[0]


@refused("gt in line .*: decides by what only the data tells")
def decision_on_a_size(self, x):
    return self.gru(x)[0] if x.size(1) > 3 else x


@refused("decides by what only the data tells")
def decision_on_the_number_of_features(self, x):
    assert x.shape[2] == 2
    return self.gru(x)[0]


@refused("sum in line .*: arguments: missing a required argument: 'dim'")
def decision_on_the_data(self, x):
    return self.gru(x)[0] if x.sum() > 3 else x


@refused("needs a length that only the data tells")
def length_of_the_input(self, x):
    return self.gru(x)[0].view(len(x), -1, 3)


@refused(r"getitem in line .*: takes \[-1\] of axis 0 of \[N, T, F\]")
def last_row_of_the_batch(self, x):
    return self.gru(x)[0][-1]


@refused(r"takes \[0\] of axis 3 of \[N, T, D, H\]", both=nn.GRU(2, 3, bidirectional=True, batch_first=True))
def one_feature_of_each_direction(self, x):
    return self.both(x)[0].unflatten(2, (2, 3))[..., 0]


@refused(r"takes \[3\] of axis 1 of \[N, T, F\]")
def a_step_in_the_middle(self, x):
    return self.gru(x)[0][:, 3]


@refused(r"takes some of axis 1 of \[N, T, F\]")
def some_steps(self, x):
    return self.gru(x)[0][:, 2:]


@refused(r"takes some of axis 2 of \[N, T, F\]")
def some_features_of_the_input(self, x):
    return self.gru(x[..., :2])[0]


@refused("the final state of layer 0 of 2; expected the last", deep=nn.GRU(2, 3, 2, batch_first=True))
def state_of_the_first_layer(self, x):
    return self.deep(x)[1][0]


@refused(r"gru \(GRU\): an initial state that is neither zeros nor an argument of forward", h=torch.ones(1, 1, 3))
def learned_initial_state(self, x):
    return self.gru(x, self.h.expand(1, x.size(0), 3).contiguous())[0]


@refused(r"next \(GRU\): an initial state that is neither", next=nn.GRU(3, 3, batch_first=True))
def state_of_one_into_the_next(self, x):
    y, h = self.gru(x)
    return self.next(y, h)[0]


@refused(r"lstm \(LSTM\): an initial state of which h and c are swapped", lstm=nn.LSTM(2, 3))
def swapped_state(self, x, state):
    return self.lstm(x, (state[1].detach(), state[0]))


@refused("forward returns something other than what layers make of x", lstm=nn.LSTM(2, 3))
def cell_state(self, x):
    return self.lstm(x)[1][1][-1]


@refused("forward returns more than one tensor", dense=nn.Linear(2, 3))
def two_results(self, x):
    return self.gru(x)[0], self.dense(x)


@refused("forward returns more than one tensor", other=nn.GRU(2, 3, batch_first=True))
def state_from_beside_the_path(self, x):
    return self.gru(x)[0], self.other(x)[1]


@refused(r"forward returns other axes: expected \[N, T, F\], got \[N, F, T\]")
def features_before_steps(self, x):
    return self.gru(x)[0].transpose(1, 2)


@refused(r"forward returns other axes: expected \[N, T, F\], got \[N, T\*F\]")
def flattened_result(self, x):
    return self.gru(x)[0].flatten(1)


@refused("forward returns a PackedSequence")
def packed_result(self, x, lengths):
    return self.gru(pack_padded_sequence(x, lengths, batch_first=True))[0]


@refused("relu in line .*: expected a tensor, got a PackedSequence")
def computing_with_packed_sequences(self, x, lengths):
    return torch.relu(self.gru(pack_padded_sequence(x, lengths, batch_first=True))[0])


@refused("lengths that are no argument of forward")
def constant_lengths(self, x):
    return self.gru(pack_padded_sequence(x, torch.tensor([3, 1]), batch_first=True))[1][-1]


@refused("mul in line .*: arithmetic with what is neither a number nor a constant tensor")
def mask_of_the_caller(self, x, mask):
    return self.gru(x)[0] * mask


@refused(r"dense \(Linear\): expected a tensor on the path, got a tuple", dense=nn.Linear(3, 2))
def output_and_state_together(self, x):
    return self.dense(self.gru(x))


@refused(r"softmax in line .*: over axis 1 of \[N, T, F\]; expected the features")
def softmax_over_time(self, x):
    return torch.softmax(self.gru(x)[0], 1)


@refused(r"norm \(LayerNorm\): normalized_shape \(4, 3\); expected the features alone", norm=nn.LayerNorm((4, 3)))
def norm_over_time(self, x):
    return self.norm(self.gru(x)[0])


@refused(r"norm \(BatchNorm1d\): no running statistics", norm=nn.BatchNorm1d(3, track_running_stats=False))
def norm_of_the_batch(self, x):
    return self.norm(self.gru(x)[0].mT).mT


@refused(r"norm \(BatchNorm1d\): expected the features as axis 1, got \[N, T, F\]", norm=nn.BatchNorm1d(3))
def norm_of_the_steps(self, x):
    return self.norm(self.gru(x)[0])


@refused("beta 2 and threshold 20; expected 1")
def steep_softplus(self, x):
    return F.softplus(self.gru(x)[0], beta=2)


@refused("bounds -2 and 2; expected -1 and 1")
def clipped_at_two(self, x):
    return self.gru(x)[0].clamp(-2, 2)


@refused(r"slope \(PReLU\): 3 slopes; expected one", slope=nn.PReLU(3))
def slope_for_each_feature(self, x):
    return self.slope(self.gru(x)[0].mT).mT


@refused(r"torch\.float16; expected torch\.float32")
def half_precision(self, x):
    return self.gru(x)[0].to(torch.float16)


@refused("forward draws random numbers")
def noise(self, x):
    return self.gru(x)[0] + torch.randn(3)


@refused("output: reads what may have been written over in place")
def written_over(self, x):
    y, _ = self.gru(x)
    F.relu(y, inplace=True)
    return y


@refused("output: reads what may have been written over in place")
def written_over_in_part(self, x):
    y, _ = self.gru(x)
    y[:, -1].relu_()
    return y


@refused("output: reads what may have been written over in place")
def axes_swapped_in_place(self, x):
    y, _ = self.gru(x)
    y.transpose_(0, 1)
    return y


@refused("output: reads what may have been written over in place")
def unsupported_write_in_place(self, x):
    y, _ = self.gru(x)
    y.pow_(2)
    return y


@refused("output: reads what may have been written over in place")
def written_over_by_out(self, x):
    y, _ = self.gru(x)
    torch.tanh(y, out=y)
    return y


@refused("output: reads what may have been written over in place")
def written_over_by_an_operator(self, x):
    y = z = self.gru(x)[0]
    y += 1
    return z


@refused("getitem in line .*: reads what may have been written over in place")
def final_state_written_over(self, x):
    _, h = self.gru(x)
    h[-1].tanh_()
    return h[-1]


@refused(r"gru \(GRU\): reads what may have been written over in place")
def initial_state_that_was_zeros(self, x):
    h = torch.zeros(1, x.size(0), 3)
    nn.init.ones_(h)
    return self.gru(x, h)[0]


@refused("copy in line .*: writes into a constant tensor", shift=torch.zeros(3))
def constant_written_over(self, x):
    y, _ = self.gru(x)
    shift = self.shift.clone()
    shift.copy_(y.mean(1)[0])
    return y + shift


@refused(r"gru \(GRU\): computes with what was made integers")
def rounded(self, x):
    return self.gru(x.long().float())[0]


@refused("drops at inference too; expected training=self.training")
def dropout_that_does_not_end(self, x):
    return F.dropout(self.gru(x)[0], 0.5)


@refused(
    r"next \(GRU\): expected \[T, N, F\], got \[N, D, H\]", next=nn.GRU(3, 3), both=nn.GRU(2, 3, bidirectional=True)
)
def rows_as_steps(self, x):
    return self.next(self.both(x)[1].transpose(0, 1))[0]


@refused("pack_padded_sequence in line .*: after gru, which takes all steps; expected it after packing")
def packed_after_all_steps_were_seen(self, x, lengths):
    return self.gru(pack_padded_sequence(self.gru(x)[0], lengths, batch_first=True))[1][-1]


@refused("pack_padded_sequence in line .*: after flip, which takes all steps")
def packed_back_to_front(self, x, lengths):
    return self.gru(pack_padded_sequence(x.flip(1), lengths, batch_first=True))[1][-1]


@refused("pack_padded_sequence in line .*: other lengths than before", next=nn.GRU(3, 3, batch_first=True))
def packed_by_two_lengths(self, x, lengths, more):
    y, _ = self.gru(pack_padded_sequence(x, lengths, batch_first=True))
    y, _ = pad_packed_sequence(y, batch_first=True)
    return self.next(pack_padded_sequence(y, more, batch_first=True))[1][-1]


@refused(r"repeats \[N, 1, F\] T times; expected a vector, as a number of steps", next=nn.GRU(3, 3, batch_first=True))
def as_many_steps_as_the_input(self, x):
    return self.next(self.gru(x)[1][-1][:, None].repeat(1, x.size(1), 1))[0]


@refused(r"\[N, T, F\] as \(12\): expected axes of rows, steps and features")
def reshaped_at_random(self, x):
    return self.gru(x)[0].reshape(12)


@refused(r"quantised|parametrised weight", gru=nn.utils.parametrizations.weight_norm(nn.GRU(2, 3), "weight_hh_l0"))
def parametrised_weight(self, x):
    return self.gru(x)[0]
