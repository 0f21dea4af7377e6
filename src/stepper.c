/* The live state of a stack, and all the scratch its steps need.
 *
 * A step is bound by latency when H is small: its new h must reach the next step without a detour. So there are two
 * copies of every h; each step reads one and writes the other, a layer reads the one the layer before just wrote, and
 * the caller's y is filled by a copy that nothing waits for. All rows are pointed at their places once, at creation.
 */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

enum { RUN_STEPS = 4096 }; /* a long run goes in pieces of this many steps, so that scratch is of fixed size */

struct gated_stepper {
    const gated_stack *stack;
    int64_t batch;
    float *state;          /* h of all layers, then c, the caller's */
    float *other_h;        /* the second copy of the h part; ours */
    size_t h_floats;
    int turn;              /* 0: the current h is in state, 1: in other_h */
    gated_row *rows;       /* [2 turns][L][cell, second product][N] */
    gated_workspace ws;
};

static gated_row *rows_of(const gated_stepper *stepper, int turn, int layer, int second)
{
    return stepper->rows + (((size_t)turn * stepper->stack->num_layers + layer) * 2 + second) * stepper->batch;
}

static float *h_of(const gated_stepper *stepper, int turn, int layer)
{
    return (turn ? stepper->other_h : stepper->state) + stepper->stack->layers[layer].scan[0].h_offset * stepper->batch;
}

static void place_scratch(const gated_stepper *stepper, const gated_product *product, gated_row *rows, float *products)
{
    for (int64_t n = 0; n < stepper->batch; n++) {
        rows[n].narrow = stepper->ws.threads->narrow + n * stepper->ws.threads->narrow_bytes;
        if (gated_projects_first(product))
            rows[n].product = products + n * gated_product_width(product);
    }
}

static void place_rows(gated_stepper *stepper, int turn, int layer)
{
    const gated_scan *scan = &stepper->stack->layers[layer].scan[0];
    const ptrdiff_t hidden = scan->hidden_size, output = scan->output_size;
    const float *x = layer > 0 ? h_of(stepper, !turn, layer - 1) : NULL;
    const float *h = h_of(stepper, turn, layer);
    float *new_h = h_of(stepper, !turn, layer);
    float *c = scan->has_c ? stepper->state + scan->c_offset * stepper->batch : NULL;
    float *first = scan->second.kernel ? stepper->ws.threads->first_output : NULL;
    const int candidate = scan->second.panels.recurrent > 0;
    gated_row *cell = rows_of(stepper, turn, layer, 0), *second = rows_of(stepper, turn, layer, 1);
    for (int64_t n = 0; n < stepper->batch; n++) {
        cell[n] = (gated_row){
            .x = x ? x + n * stepper->stack->layers[layer].input_size : NULL,
            .h = h + n * output,
            .previous = h + n * output,
            .c = c ? c + n * hidden : NULL,
            .y = first ? first + n * hidden : new_h + n * output,
        };
        second[n] = (gated_row){.x = cell[n].y, .y = new_h + n * output};
        if (candidate) {
            cell[n].c = first + (stepper->batch + n) * hidden;
            second[n] = cell[n];
            second[n].h = cell[n].y;
            second[n].y = new_h + n * output;
        }
    }
    place_scratch(stepper, &scan->cell, cell, stepper->ws.threads->product[0]);
    place_scratch(stepper, &scan->second, second, stepper->ws.threads->product[1]);
}

static gated_status create(const gated_stack *stack, int64_t batch, float *state, gated_stepper *stepper)
{
    const gated_scan *first_with_c = NULL;
    for (int l = stack->num_layers - 1; l >= 0; l--)
        if (stack->layers[l].scan[0].has_c)
            first_with_c = &stack->layers[l].scan[0];
    stepper->stack = stack;
    stepper->batch = batch;
    stepper->state = state;
    stepper->h_floats = (first_with_c ? first_with_c->c_offset : stack->state_per_row) * batch;
    stepper->other_h = gated_allocate(stepper->h_floats);
    stepper->rows = malloc(2 * 2 * sizeof(gated_row) * stack->num_layers * batch);
    if (!stepper->other_h || !stepper->rows)
        return GATED_NO_MEMORY;
    memset(stepper->other_h, 0, stepper->h_floats * sizeof(float));
    gated_status status = gated_workspace_create(stack, batch, RUN_STEPS, NULL, &stepper->ws);
    for (int l = 0; l < stack->num_layers && status == GATED_OK; l++) {
        place_rows(stepper, 0, l);
        place_rows(stepper, 1, l);
    }
    return status;
}

gated_status gated_stepper_create(const gated_stack *stack, int64_t batch, float *state, gated_stepper **created)
{
    gated_stepper *stepper = calloc(1, sizeof *stepper);
    if (!stepper)
        return GATED_NO_MEMORY;
    gated_status status = create(stack, batch, state, stepper);
    if (status != GATED_OK) {
        gated_stepper_free(stepper);
        return status;
    }
    *created = stepper;
    return GATED_OK;
}

void gated_stepper_free(gated_stepper *stepper)
{
    if (!stepper)
        return;
    gated_workspace_free(&stepper->ws);
    free(stepper->rows);
    free(stepper->other_h);
    free(stepper);
}

void gated_stepper_settle(gated_stepper *stepper)
{
    if (stepper->turn) {
        memcpy(stepper->state, stepper->other_h, stepper->h_floats * sizeof(float));
        stepper->turn = 0;
    }
}

static void place_input(const gated_stepper *stepper, const float *x, gated_row *rows)
{
    for (int64_t n = 0; n < stepper->batch; n++)
        rows[n].x = x + n * stepper->stack->layers[0].input_size;
}

void gated_stepper_step(gated_stepper *stepper, const float *x, float *y)
{
    const gated_stack *stack = stepper->stack;
    const int turn = stepper->turn, last = stack->num_layers - 1;
    place_input(stepper, x, rows_of(stepper, turn, 0, 0));
    if (stack->layers[0].scan[0].second.panels.recurrent > 0)
        place_input(stepper, x, rows_of(stepper, turn, 0, 1));
    for (int l = 0; l <= last; l++) {
        const gated_scan *scan = &stack->layers[l].scan[0];
        gated_product_step(&scan->cell, rows_of(stepper, turn, l, 0), stepper->batch, turn);
        if (scan->second.kernel)
            gated_product_step(&scan->second, rows_of(stepper, turn, l, 1), stepper->batch, turn);
    }
    memcpy(y, h_of(stepper, !turn, last), stepper->batch * stack->layers[last].output_size * sizeof(float));
    stepper->turn = !turn;
}

void gated_stepper_run(gated_stepper *stepper, int64_t steps, const float *x, ptrdiff_t x_time, ptrdiff_t x_row, float *y,
                       ptrdiff_t y_time, ptrdiff_t y_row)
{
    gated_stepper_settle(stepper);
    const gated_sequence sequence = {
        .seq_len = steps, .batch = stepper->batch, .state = stepper->state,
        .x = x, .x_time = x_time, .x_row = x_row,
        .y = y, .y_time = y_time, .y_row = y_row,
    };
    const gated_trace no_trace = {0};
    (void)gated_stack_run(stepper->stack, &sequence, &no_trace, &stepper->ws, NULL); /* fails for ragged sequences only */
}
