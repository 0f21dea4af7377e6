/* What a .gated file says of a layer, in the words of gated_c.h. */
#include "file.h"

#include <string.h>

enum { MAX_SIZE = 1 << 24 };

static const char *const kinds[] = {
    [GATED_STACK] = "stack",
    [GATED_EMBEDDING] = "embedding",
    [GATED_DENSE] = "dense",
    [GATED_CONV] = "conv",
    [GATED_ELEMENTWISE] = "elementwise",
    [GATED_SCALE] = "scale",
    [GATED_LAYER_NORM] = "layer_norm",
    [GATED_SOFTMAX] = "softmax",
    [GATED_LOG_SOFTMAX] = "log_softmax",
    [GATED_MERGE_SUM] = "merge_sum",
    [GATED_MERGE_MUL] = "merge_mul",
    [GATED_MERGE_AVE] = "merge_ave",
    [GATED_SLICE] = "slice",
    [GATED_MASKING] = "masking",
    [GATED_UNMASK] = "unmask",
    [GATED_FLIP] = "flip",
    [GATED_FLIP_MASK] = "flip_mask",
    [GATED_POOL_LAST] = "pool_last",
    [GATED_POOL_FIRST] = "pool_first",
    [GATED_POOL_MEAN] = "pool_mean",
    [GATED_POOL_MAX] = "pool_max",
    [GATED_POOL_FINAL] = "pool_final",
    [GATED_REPEAT] = "repeat",
    [GATED_RESHAPE] = "reshape",
};

static const char *const cells[] = {
    [GATED_LSTM] = "lstm",
    [GATED_GRU] = "gru",
    [GATED_RNN_TANH] = "rnn_tanh",
    [GATED_RNN_RELU] = "rnn_relu",
    [GATED_GRU_RESET_BEFORE] = "gru_reset_before",
    [GATED_RNN] = "rnn",
};

static const char *const functions[] = {
#define ACTIVATION(name, enumerator) [enumerator] = #name,
#include "activation.def"
#undef ACTIVATION
};

static const char *const masked[] = {
    [GATED_ZERO] = "zero",
    [GATED_REPEAT_OUTPUT] = "repeat",
    [GATED_REPEAT_INITIAL] = "repeat_initial",
};

#define BIT(word) (1u << (word))

enum {
    KIND, INPUT_SIZE, OUTPUT_SIZE, COUNT, WEIGHT, BIAS, ACTIVATION, VALUE, DILATION, FLAG,
    CELL, HIDDEN_SIZE, PROJ_SIZE, NUM_DIRECTIONS, REVERSE, MASKED, BIASES, PEEPHOLES,
    ACTIVATIONS, CLIP, CLIP_OUTPUT, INPUT_FORGET, H_LIMIT, NUM_WORDS,

    OF_EVERY_LAYER = BIT(KIND) | BIT(INPUT_SIZE) | BIT(OUTPUT_SIZE),
    OF_A_STACK = BIT(COUNT) | BIT(CELL) | BIT(HIDDEN_SIZE) | BIT(PROJ_SIZE) | BIT(NUM_DIRECTIONS) | BIT(REVERSE)
                 | BIT(MASKED) | BIT(BIASES) | BIT(PEEPHOLES),
    OF_OPTIONS = BIT(ACTIVATIONS) | BIT(CLIP) | BIT(CLIP_OUTPUT) | BIT(INPUT_FORGET),
    OF_OTHERS = BIT(COUNT) | BIT(WEIGHT) | BIT(BIAS) | BIT(ACTIVATION) | BIT(VALUE) | BIT(DILATION) | BIT(FLAG)
};

static const char *const words[] = {
    [KIND] = "kind",
    [INPUT_SIZE] = "input_size",
    [OUTPUT_SIZE] = "output_size",
    [COUNT] = "count",
    [WEIGHT] = "weight",
    [BIAS] = "bias",
    [ACTIVATION] = "activation",
    [VALUE] = "value",
    [DILATION] = "dilation",
    [FLAG] = "flag",
    [CELL] = "cell",
    [HIDDEN_SIZE] = "hidden_size",
    [PROJ_SIZE] = "proj_size",
    [NUM_DIRECTIONS] = "num_directions",
    [REVERSE] = "reverse",
    [MASKED] = "masked",
    [BIASES] = "biases",
    [PEEPHOLES] = "peepholes",
    [ACTIVATIONS] = "activations",
    [CLIP] = "clip",
    [CLIP_OUTPUT] = "clip_output",
    [INPUT_FORGET] = "input_forget",
    [H_LIMIT] = "h_limit",
};

static int one_of(gated_json *json, int *is_newer, const char *const *names, int count)
{
    const int found = gated_text_among(gated_json_string(json), names, count);
    *is_newer |= found < 0 && !json->broken;
    return found < 0 ? 0 : found;
}

#define ONE_OF(json, is_newer, names) one_of(json, is_newer, names, sizeof(names) / sizeof *(names))

/* By its bits, which need no decimal point. */
static int text_to_float(gated_text text, float *value)
{
    uint32_t bits = 0;
    const int is_sound = gated_text_bits(text, &bits);
    memcpy(value, &bits, sizeof *value);
    return is_sound;
}

static float read_float(gated_json *json)
{
    float value;
    json->broken |= !text_to_float(gated_json_string(json), &value);
    return value;
}

int gated_words_h_limit(const gated_words *w, int layer, int direction, float *limit)
{
    const size_t index = (size_t)layer * w->recurrent.num_directions + direction;
    *limit = 0;
    return !w->h_limits.at
           || text_to_float((gated_text){w->h_limits.at + index * GATED_BITS_DIGITS, GATED_BITS_DIGITS}, limit);
}

static void separator(gated_json *json)
{
    json->broken |= !gated_json_more(json, ']', 0);
}

/* [name, alpha, beta] */
static gated_activation read_activation(gated_json *json, int *is_newer)
{
    gated_activation activation;
    gated_json_open(json, '[');
    activation.function = (gated_function)ONE_OF(json, is_newer, functions);
    separator(json);
    activation.alpha = read_float(json);
    separator(json);
    activation.beta = read_float(json);
    json->broken |= gated_json_more(json, ']', 0);
    return activation;
}

/* [[f, g, h] of a direction, ...]; returns how many directions. */
static int read_activations(gated_json *json, int *is_newer, gated_options options[2])
{
    int directions = 0;
    gated_json_open(json, '[');
    for (int first = 1; gated_json_more(json, ']', first); first = 0) {
        json->broken |= directions == 2;
        gated_json_open(json, '[');
        for (int i = 0; i < 3 && !json->broken; i++) {
            json->broken |= !gated_json_more(json, ']', i == 0);
            options[directions].activation[i] = read_activation(json, is_newer);
        }
        json->broken |= gated_json_more(json, ']', 0);
        directions += !json->broken;
    }
    return directions;
}

static void read_word(int word, gated_json *json, int *is_newer, gated_words *w)
{
    switch (word) {
    case KIND:           w->layer.kind = (gated_kind)ONE_OF(json, is_newer, kinds); break;
    case INPUT_SIZE:     w->layer.input_size = (int)gated_json_integer(json, MAX_SIZE); break;
    case OUTPUT_SIZE:    w->layer.output_size = (int)gated_json_integer(json, MAX_SIZE); break;
    case COUNT:          w->layer.count = (int)gated_json_integer(json, INT32_MAX); break;
    case WEIGHT:         w->weight = gated_json_string(json); break;
    case BIAS:           w->bias = gated_json_string(json); break;
    case ACTIVATION:     w->layer.activation = read_activation(json, is_newer); break;
    case VALUE:          w->layer.value = read_float(json); break;
    case DILATION:       w->layer.dilation = (int)gated_json_integer(json, MAX_SIZE); break;
    case FLAG:           w->layer.flag = gated_json_truth(json); break;
    case CELL:           w->recurrent.cell = (gated_cell)ONE_OF(json, is_newer, cells); break;
    case HIDDEN_SIZE:    w->recurrent.hidden_size = (int)gated_json_integer(json, MAX_SIZE); break;
    case PROJ_SIZE:      w->recurrent.proj_size = (int)gated_json_integer(json, MAX_SIZE); break;
    case NUM_DIRECTIONS: w->recurrent.num_directions = (int)gated_json_integer(json, 2); break;
    case REVERSE:        w->recurrent.reverse = gated_json_truth(json); break;
    case MASKED:         w->layer.masked = (gated_masked)ONE_OF(json, is_newer, masked); break;
    case BIASES:         w->biases = gated_json_truth(json); break;
    case PEEPHOLES:      w->peepholes = gated_json_truth(json); break;
    case CLIP:           w->options[0].clip = w->options[1].clip = read_float(json); break;
    case CLIP_OUTPUT:    w->options[0].clip_output = w->options[1].clip_output = gated_json_truth(json); break;
    case INPUT_FORGET:   w->options[0].input_forget = w->options[1].input_forget = gated_json_truth(json); break;
    case H_LIMIT:        w->h_limits = gated_json_string(json); break;
    case ACTIVATIONS:    w->num_options = read_activations(json, is_newer, w->options); break;
    }
}

/* Whether exactly the words are there that a layer of this kind has. */
static int words_fit(const gated_words *w, unsigned seen)
{
    const unsigned more = seen & ~(unsigned)OF_EVERY_LAYER, of_a_stack = more & ~BIT(H_LIMIT);
    const int64_t directions = (int64_t)w->layer.count * w->recurrent.num_directions;
    if ((seen & OF_EVERY_LAYER) != OF_EVERY_LAYER)
        return 0;
    if (w->layer.kind != GATED_STACK)
        return (more & ~(unsigned)OF_OTHERS) == 0;
    if (more & BIT(H_LIMIT) && w->h_limits.length != (uint64_t)directions * GATED_BITS_DIGITS)
        return 0;
    return of_a_stack == OF_A_STACK
           || (of_a_stack == (OF_A_STACK | OF_OPTIONS) && w->num_options == w->recurrent.num_directions);
}

gated_words gated_words_read(gated_json *json, int *is_newer)
{
    unsigned seen = 0;
    gated_words w = {.layer = {.activation = {GATED_LINEAR, 0, 0}, .dilation = 1}};
    gated_json_open(json, '{');
    for (int first = 1; gated_json_more(json, '}', first); first = 0) {
        const int word = gated_text_among(gated_json_key(json), words, NUM_WORDS);
        json->broken |= word < 0 || (seen >> word & 1);
        if (json->broken)
            break;
        seen |= BIT(word);
        read_word(word, json, is_newer, &w);
    }
    json->broken |= !words_fit(&w, seen);
    return w;
}
