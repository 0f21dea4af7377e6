/* Which split of a stack's work pays: an estimate of what its parts take. The numbers are of one core of Zen 5 with AVX-512,
 * about the fastest there is (LSTM of H = 16 to 1024, 1 to 64 rows: within 30 %). Where all is slower, threads would have
 * paid a little earlier: meetings are slower there, too. */
#include "scan.h"

#define MULTIPLY_ADDS 110.0 /* in a ns, of several rows */
#define WEIGHTS 40.0        /* read in a ns, from L2 or L3: what bounds one row */
#define LATENCY 50.0        /* ns from the first product of a step to its h */
#define ROW 10.0            /* ns to place a row */
#define GATE 4.0            /* ns for the activation of a vector */
#define MEETING 150.0       /* ns for two threads to meet: 60 to 100, and one comes late */
#define NEXT_CPU 20.0       /* ns for each thread more */
#define LEAST_GAIN 0.9      /* of the time on one thread, at most, for others to be called */
#define HAND_OVER 300.0     /* ns for a chunk of a lane to be found by another thread */

enum { MOST_CHUNK = 64, LEAST_CHUNK = 8, CHUNKS = 16 };

/* Of a format, beside float32: bytes that a weight does without, products that an instruction does more. */
static const struct {
    double reads, multiply_adds;
} times_float32[GATED_NUM_FORMATS] = {
    [GATED_FORMAT_float32] = {1, 1},
    [GATED_FORMAT_bfloat16] = {2, 1},
    [GATED_FORMAT_bfloat16_dot] = {2, 2},
    [GATED_FORMAT_int8] = {4, 4},
};

/* Of one step of some rows, with `blocks` of the product's. */
static double product_time(const gated_product *product, double rows, double blocks)
{
    const gated_panels *p = &product->panels;
    const double gates = blocks * product->kernel->gates, weights = gates * product->lanes;
    const double input = weights * p->inputs, recurrent = weights * p->recurrent;
    const double read = recurrent / (WEIGHTS * times_float32[p->hidden_format].reads);
    const double multiply = rows * recurrent / (MULTIPLY_ADDS * times_float32[p->hidden_format].multiply_adds);
    const double inputs = rows * input / (MULTIPLY_ADDS * times_float32[p->input_format].multiply_adds);
    return inputs + (read > multiply ? read : multiply) + rows * (ROW + gates * GATE);
}

static double scan_time(const gated_scan *scan, double rows, int threads)
{
    const gated_product *const products[] = {&scan->cell, &scan->second};
    double time = LATENCY;
    for (int i = 0; i < 2 && products[i]->kernel; i++)
        time += product_time(products[i], rows, (products[i]->panels.blocks + threads - 1) / threads);
    return time;
}

static double layer_time(const gated_stack_layer *layer, double rows, int threads)
{
    double time = 0;
    for (int d = 0; d < layer->num_directions; d++)
        time += scan_time(&layer->scan[d], rows, threads);
    return time;
}

/* Of a step of all layers. */
static double step_time(const gated_stack *stack, double rows, int threads)
{
    double time = 0;
    for (int l = 0; l < stack->num_layers; l++)
        time += layer_time(&stack->layers[l], rows, threads);
    return time;
}

static int count_meetings(const gated_stack *stack)
{
    int meetings = 0;
    for (int l = 0; l < stack->num_layers; l++)
        for (int d = 0; d < stack->layers[l].num_directions; d++)
            meetings += stack->layers[l].scan[d].second.kernel ? 2 : 1;
    return meetings;
}

static int most_blocks(const gated_stack *stack)
{
    int most = 1;
    for (int l = 0; l < stack->num_layers; l++)
        for (int d = 0; d < stack->layers[l].num_directions; d++)
            if (stack->layers[l].scan[d].cell.panels.blocks > most)
                most = stack->layers[l].scan[d].cell.panels.blocks;
    return most;
}

/* Lanes that can run at once. */
static int count_lanes(const gated_stack *stack)
{
    int all = 0, most = 0;
    for (int l = 0; l < stack->num_layers; l++) {
        const int directions = stack->layers[l].num_directions;
        all += directions;
        most = directions > most ? directions : most;
    }
    return stack->reverse ? most : all;
}

static double larger(double a, double b)
{
    return a > b ? a : b;
}

static gated_split split_blocks(const gated_stack *stack, double rows, double steps, int threads)
{
    const double meeting = MEETING + (threads - 2) * NEXT_CPU;
    const double step = step_time(stack, rows, threads) + count_meetings(stack) * meeting;
    return (gated_split){.kind = GATED_BLOCKS, .threads = threads, .together = steps * step};
}

static gated_split split_rows(const gated_stack *stack, double rows, double steps, int threads)
{
    const double share = (int64_t)(rows + threads - 1) / threads;
    return (gated_split){.kind = GATED_ROWS, .threads = threads, .together = steps * step_time(stack, share, 1) + HAND_OVER};
}

/* The threads share the work, but no lane is faster than its steps, and the last one begins a few chunks late. Layers below
 * and above a reverse direction take turns. */
static gated_split split_lanes(const gated_stack *stack, double rows, int64_t steps, int threads)
{
    const int64_t chunk = gated_clamp(steps / CHUNKS, LEAST_CHUNK, MOST_CHUNK);
    const double hand_overs = HAND_OVER / (double)gated_clamp(chunk, 1, gated_clamp(steps, 1, MOST_CHUNK));
    double turns = 0, slowest = 0, late = 0;
    for (int l = 0; l < stack->num_layers; l++) {
        const gated_stack_layer *layer = &stack->layers[l];
        const double alone = layer_time(layer, rows, 1), lane = scan_time(&layer->scan[0], rows, 1);
        turns += larger(lane, alone / threads);
        slowest = larger(slowest, lane);
        late += l < stack->num_layers - 1 ? lane : 0;
    }
    const double shared = larger(slowest, step_time(stack, rows, 1) / threads);
    const double pipeline = steps * (shared + hand_overs) + gated_clamp(steps, 1, chunk) * late;
    return (gated_split){.kind = GATED_LANES, .threads = threads, .chunk = chunk,
                         .together = stack->reverse ? steps * (turns + hand_overs) : pipeline};
}

static void keep_better(gated_split *best, gated_split other)
{
    if (best->threads < 2 || other.together < best->together)
        *best = other;
}

/* The best with so many threads, or fewer if they are too many for its parts. */
static gated_split choose_kind(const gated_stack *stack, int64_t batch, int64_t seq_len, int threads)
{
    const int blocks = most_blocks(stack), lanes = count_lanes(stack);
    gated_split best = {.threads = 1};
    if (blocks > 1)
        keep_better(&best, split_blocks(stack, batch, seq_len, threads < blocks ? threads : blocks));
    if (batch > 1)
        keep_better(&best, split_rows(stack, batch, seq_len, threads < batch ? threads : (int)batch));
    if (lanes > 1)
        keep_better(&best, split_lanes(stack, batch, seq_len, threads < lanes ? threads : lanes));
    return best;
}

gated_split gated_split_choose(const gated_stack *stack, int64_t batch, int64_t seq_len, int threads, int is_told)
{
    const double alone = seq_len * step_time(stack, batch, 1);
    gated_split best = {.threads = 1, .together = alone};
    for (int n = is_told ? threads : 2; n <= threads && n > 1; n++) {
        const gated_split split = choose_kind(stack, batch, seq_len, n);
        if (split.threads > 1 && (is_told || split.together < best.together))
            best = split;
    }
    best.alone = alone;
    return best;
}

gated_split gated_split_among(const gated_team *team, const gated_stack *stack, int64_t batch, int64_t seq_len)
{
    return gated_split_choose(stack, batch, seq_len, gated_team_size(team), gated_team_is_told(team));
}

/* All stacks of a model on up to so many threads; `chunk` and `kind` mean nothing. */
static gated_split split_model(const gated_model *model, int64_t batch, int64_t seq_len, int threads)
{
    gated_split all = {.threads = 1};
    for (int l = 0; l < model->num_layers; l++) {
        const gated_model_layer *layer = &model->layers[l];
        if (layer->stack) {
            const gated_split split = gated_split_choose(layer->stack, batch, seq_len, threads, 0);
            all.alone += split.alone;
            all.together += split.together;
            all.threads = split.threads > all.threads ? split.threads : all.threads;
        }
        seq_len = gated_steps_after(&layer->is, seq_len);
    }
    return all;
}

double gated_split_alone(const gated_model *model, int64_t batch, int64_t seq_len)
{
    return split_model(model, batch, seq_len, 1).alone;
}

int gated_split_threads(const gated_model *model, int64_t batch, int64_t seq_len, double alone)
{
    double start;
    const int most = gated_team_most(LEAST_GAIN * alone, &start);
    if (most < 2)
        return 1;
    const gated_split split = split_model(model, batch, seq_len, most);
    return split.together + start < LEAST_GAIN * alone ? split.threads : 1;
}
