/* The cells: pre-activations of LANES hidden units in, their new state out. One function per row of cell.def. */
#ifndef GATED_CELLS_H
#define GATED_CELLS_H

#include "activation.h"

/* Pre-activations of one slice of units of one row, in the order of the cell's gates. A struct of named vectors stays
 * in registers with every compiler; an array of vectors may not. */
typedef struct {
    vf a, b, c, d;
} gates;

typedef struct {
    vf h, c;
} unit_state;

INLINE unit_state cell_lstm(gates p, unit_state s)
{
    vf i = sigmoid(p.a);
    vf f = sigmoid(p.b);
    vf g = vtanh(p.c);
    vf o = sigmoid(p.d);
    s.c = vf_fma(f, s.c, i * g);
    s.h = o * vtanh(s.c);
    return s;
}

/* p.c = W_n x + b_in and p.d = R_n h + b_hn come apart; h' = (1 - z) n + z h. */
INLINE unit_state cell_gru(gates p, unit_state s)
{
    vf r = sigmoid(p.a);
    vf z = sigmoid(p.b);
    vf n = vtanh(vf_fma(r, p.d, p.c));
    s.h = vf_fma(z, s.h - n, n);
    return s;
}

INLINE unit_state cell_rnn_tanh(gates p, unit_state s)
{
    s.h = vtanh(p.a);
    return s;
}

INLINE unit_state cell_rnn_relu(gates p, unit_state s)
{
    s.h = vf_max(p.a, vf_set1(0.0f));
    return s;
}

INLINE unit_state cell_linear(gates p, unit_state s)
{
    s.h = p.a;
    return s;
}

#endif
