/* The cells: pre-activations of LANES hidden units in, their new state out. One function per row of cell.def. */
#ifndef GATED_CELLS_H
#define GATED_CELLS_H

#include "activation.h"
#include "kernels.h"

/* Pre-activations of one slice of units of one row, in the order of the cell's gates. A struct of named vectors stays
 * in registers with every compiler; an array of vectors may not. */
typedef struct {
    vf a, b, c, d;
} gates;

typedef struct {
    vf h, c;
    gates active; /* the gates behind their activations, for a trace; without one nobody reads it */
} unit_state;

/* What a general cell needs beyond its pre-activations. */
typedef struct {
    const gated_options *options;
    const float *peephole; /* [3][V], of i f o; NULL without */
} cell_extra;

#define CELL_FUNCTION(name)                                                                                            \
    INLINE unit_state cell_##name(gates p, unit_state s, __attribute__((unused)) cell_extra extra)

CELL_FUNCTION(lstm)
{
    vf i = sigmoid(p.a);
    vf f = sigmoid(p.b);
    vf g = vtanh(p.c);
    vf o = sigmoid(p.d);
    s.c = vf_fma(f, s.c, i * g);
    s.h = o * vtanh(s.c);
    s.active = (gates){i, f, g, o};
    return s;
}

/* p.c = W_n x + b_in and p.d = R_n h + b_hn come apart; h' = (1 - z) n + z h. */
CELL_FUNCTION(gru)
{
    vf r = sigmoid(p.a);
    vf z = sigmoid(p.b);
    vf n = vtanh(vf_fma(r, p.d, p.c));
    s.h = vf_fma(z, s.h - n, n);
    s.active = (gates){.a = r, .b = z, .c = n};
    return s;
}

CELL_FUNCTION(rnn_tanh)
{
    s.h = s.active.a = vtanh(p.a);
    return s;
}

CELL_FUNCTION(rnn_relu)
{
    s.h = s.active.a = vf_max(p.a, vf_set1(0.0f));
    return s;
}

CELL_FUNCTION(linear)
{
    s.h = s.active.a = p.a;
    return s;
}

/* Out of line: a call costs nanoseconds per slice, 30 copies of every activation would be most of the code. */
static NOINLINE vf activate(const gated_activation *a, vf x)
{
    const vf alpha = vf_set1(a->alpha), beta = vf_set1(a->beta);
    switch (a->function) {
#define ACTIVATION(name, enumerator)                                                                                   \
    case enumerator:                                                                                                   \
        return activation_##name(x, alpha, beta);
#include "../activation.def"
#undef ACTIVATION
    }
    return x;
}

/* "Cell clip threshold. Clipping bounds the elements of a tensor in the range of [-threshold, +threshold] and is applied
 * to the input of activations." https://onnx.ai/onnx/operators/onnx__LSTM.html */
INLINE vf clipped(const gated_options *options, vf x)
{
    return options->clip > 0 ? vf_max(vf_min(x, vf_set1(options->clip)), vf_set1(-options->clip)) : x;
}

INLINE vf gate(const gated_options *options, int which, vf x)
{
    return activate(&options->activation[which], clipped(options, x));
}

INLINE vf with_peephole(cell_extra extra, int which, vf c, vf x)
{
    return extra.peephole ? vf_fma(vf_load(extra.peephole + which * LANES), c, x) : x;
}

/* Activations f (gates), g (candidate), h (output); peepholes of i and f see the old c, that of o the new one. */
CELL_FUNCTION(lstm_general)
{
    const gated_options *options = extra.options;
    vf i = gate(options, 0, with_peephole(extra, 0, s.c, p.a));
    vf f = options->input_forget ? 1.0f - i : gate(options, 0, with_peephole(extra, 1, s.c, p.b));
    vf g = gate(options, 1, p.c);
    s.c = vf_fma(f, s.c, i * g);
    vf o = gate(options, 0, with_peephole(extra, 2, s.c, p.d));
    s.h = o * activate(&options->activation[2], options->clip_output ? clipped(options, s.c) : s.c);
    s.active = (gates){i, f, g, o};
    return s;
}

CELL_FUNCTION(gru_general)
{
    vf r = gate(extra.options, 0, p.a);
    vf z = gate(extra.options, 0, p.b);
    vf n = gate(extra.options, 1, vf_fma(r, p.d, p.c));
    s.h = vf_fma(z, s.h - n, n);
    s.active = (gates){.a = r, .b = z, .c = n};
    return s;
}

CELL_FUNCTION(rnn_general)
{
    s.h = s.active.a = gate(extra.options, 0, p.a);
    return s;
}

/* The GRU that resets before the recurrent product, in two products: n needs r * h of all units. */
CELL_FUNCTION(gru_gates)
{
    vf r = gate(extra.options, 0, p.a);
    s.c = gate(extra.options, 0, p.b);
    s.h = r * s.h;
    s.active = (gates){.a = r, .b = s.c};
    return s;
}

CELL_FUNCTION(gru_candidate)
{
    vf z = s.c;
    vf n = gate(extra.options, 1, p.a);
    s.h = vf_fma(z, s.h - n, n);
    s.active.a = n;
    return s;
}

#endif
