/* A model: layers validated, their weights packed, their place in the state fixed. */
#include "internal.h"

#include <stdlib.h>

enum { MAX_SIZE = 1 << 24 }; /* of any layer dimension: keeps every product of sizes within 64 bits */

_Static_assert((int)GATED_LSTM == (int)GATED_KERNEL_lstm && (int)GATED_GRU == (int)GATED_KERNEL_gru
                   && (int)GATED_RNN_TANH == (int)GATED_KERNEL_rnn_tanh
                   && (int)GATED_RNN_RELU == (int)GATED_KERNEL_rnn_relu,
               "gated_c.h and cell.def list the cells in one order");

int gated_cell_gates(gated_cell cell)
{
    return gated_cells[cell].gates;
}

int gated_cell_has_c(gated_cell cell)
{
    return gated_cells[cell].has_c;
}

static int layer_output(const gated_layer *layer)
{
    return layer->num_directions * (layer->proj_size ? layer->proj_size : layer->hidden_size);
}

static int in_range(int size, int least)
{
    return size >= least && size <= MAX_SIZE;
}

static int weights_complete(const gated_layer *layer)
{
    for (int d = 0; d < layer->num_directions; d++) {
        const gated_weights *w = &layer->weights[d];
        if (!w->weight_ih || !w->weight_hh || (layer->proj_size != 0) != (w->weight_hr != NULL))
            return 0;
    }
    return 1;
}

static gated_status check(const gated_layer *layers, int num_layers)
{
    if (num_layers < 1)
        return GATED_BAD_SIZE;
    for (int l = 0; l < num_layers; l++) {
        const gated_layer *layer = &layers[l];
        if ((unsigned)layer->cell > GATED_RNN_RELU || !in_range(layer->input_size, 1) || !in_range(layer->hidden_size, 1)
            || !in_range(layer->proj_size, 0) || (layer->num_directions != 1 && layer->num_directions != 2)
            || (layer->proj_size && layer->cell != GATED_LSTM) || !weights_complete(layer))
            return GATED_BAD_SIZE;
        if (l > 0 && layer->input_size != layer_output(&layers[l - 1]))
            return GATED_BAD_SIZE;
    }
    return GATED_OK;
}

static gated_status create_scan(const gated_kernels *const *tables, const gated_layer *layer, int direction,
                                gated_scan *scan)
{
    const gated_weights *w = &layer->weights[direction];
    scan->reverse = direction == 1;
    scan->hidden_size = layer->hidden_size;
    scan->output_size = layer->proj_size ? layer->proj_size : layer->hidden_size;

    const gated_dense cell = {(int)layer->cell, layer->input_size, scan->output_size, layer->hidden_size,
                              w->weight_ih, w->weight_hh, w->bias_ih, w->bias_hh};
    gated_status status = gated_pack(tables, &cell, &scan->cell);
    if (status != GATED_OK || !layer->proj_size)
        return status;
    const gated_dense projection = {GATED_KERNEL_linear, layer->hidden_size, 0, layer->proj_size, w->weight_hr,
                                    NULL, NULL, NULL};
    return gated_pack(tables, &projection, &scan->projection);
}

/* All h come before all c, so that a stack's h is one array [L*D, N, P or H], as PyTorch has it. */
static void place_state(gated_model *model, const gated_layer *layers)
{
    size_t at = 0;
    for (int c = 0; c < 2; c++) {
        for (int l = 0; l < model->num_layers; l++) {
            for (int d = 0; d < layers[l].num_directions; d++) {
                gated_scan *scan = &model->layers[l].scan[d];
                if (c == 0) {
                    scan->h_offset = at;
                    at += scan->output_size;
                } else if (gated_cells[layers[l].cell].has_c) {
                    scan->c_offset = at;
                    at += scan->hidden_size;
                }
            }
        }
    }
    model->state_per_row = at;
}

gated_status gated_model_create(const gated_layer *layers, int num_layers, gated_model **created)
{
    const gated_kernels *const *tables = NULL;
    gated_status status = check(layers, num_layers);
    if (status == GATED_OK)
        status = gated_chosen_tables(&tables);
    if (status != GATED_OK)
        return status;

    gated_model *model = calloc(1, sizeof *model + num_layers * sizeof *model->layers);
    if (!model)
        return GATED_NO_MEMORY;
    model->num_layers = num_layers;
    for (int l = 0; l < num_layers && status == GATED_OK; l++) {
        gated_model_layer *layer = &model->layers[l];
        layer->num_directions = layers[l].num_directions;
        layer->input_size = layers[l].input_size;
        layer->output_size = layer_output(&layers[l]);
        model->bidirectional |= layer->num_directions == 2;
        for (int d = 0; d < layer->num_directions && status == GATED_OK; d++)
            status = create_scan(tables, &layers[l], d, &layer->scan[d]);
    }
    if (status != GATED_OK) {
        gated_model_free(model);
        return status;
    }
    place_state(model, layers);
    *created = model;
    return GATED_OK;
}

void gated_model_free(gated_model *model)
{
    for (int l = 0; model && l < model->num_layers; l++) {
        for (int d = 0; d < 2; d++) {
            gated_product_free(&model->layers[l].scan[d].cell);
            gated_product_free(&model->layers[l].scan[d].projection);
        }
    }
    free(model);
}

size_t gated_model_bytes(const gated_model *model)
{
    size_t bytes = 0;
    for (int l = 0; l < model->num_layers; l++)
        for (int d = 0; d < 2; d++)
            bytes += model->layers[l].scan[d].cell.bytes + model->layers[l].scan[d].projection.bytes;
    return bytes;
}

size_t gated_state_size(const gated_model *model, int64_t batch)
{
    return model->state_per_row * (size_t)batch;
}
