/* gated_c: forward passes of LSTM, GRU and RNN networks on a CPU.
 *
 * Words: T time steps, N rows of a batch, C input features, H hidden units, P projected units, G gates, L layers,
 * D directions. All numbers are float32, all strides count floats, all buffers are the caller's unless a line says so.
 *
 * A model is immutable: any number of threads may use one at once. A stream belongs to one thread at a time.
 * Every function that can fail returns a gated_status and leaves its outputs untouched when it does.
 *
 * The result of a row depends on the model, that row's input and its initial state only: not on the batch around it,
 * nor on how a sequence is cut into calls, nor (with FMA) on the CPU. A NaN stays NaN, with bits of its own. The caller's
 * rounding and flush-to-zero modes apply.
 */
#ifndef GATED_C_H
#define GATED_C_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    GATED_OK = 0,
    GATED_NO_MEMORY,        /* an allocation failed */
    GATED_BAD_SIZE,         /* a size is out of range, or does not fit its neighbours */
    GATED_BAD_LENGTH,       /* a length is negative or beyond seq_len, batch_sizes rises, or the model takes another seq_len */
    GATED_BAD_INDEX,        /* an id is negative or beyond its embedding */
    GATED_NOT_STREAMABLE,   /* a reverse direction needs the end of the sequence first */
    GATED_UNKNOWN_ISA,      /* GATED_C_ISA names an instruction set that this build does not have */
    GATED_UNUSABLE_ISA,     /* GATED_C_ISA names an instruction set that this CPU does not have */
    GATED_NO_FILE,          /* a file cannot be opened or is not a regular one; errno says why */
    GATED_BAD_FILE,         /* a file is broken, cut short or altered, or not a .gated file */
    GATED_UNSUPPORTED_FILE  /* a file is of a newer version than this library, or the machine is big-endian */
} gated_status;

/* A sentence for a status; static storage. */
const char *gated_status_string(gated_status status);

/* Cells. Gates stand in rows of W and R in the order named here. */
typedef enum {
    GATED_LSTM,      /* i f g o */
    GATED_GRU,       /* r z n, the reset gate applied after the recurrent product (PyTorch, cuDNN) */
    GATED_RNN_TANH,
    GATED_RNN_RELU,
    GATED_GRU_RESET_BEFORE, /* r z n, the reset gate applied to h before the recurrent product (Keras, ONNX) */
    GATED_RNN        /* any activation, from gated_options */
} gated_cell;

/* Activations, as ONNX and Keras define them; alpha and beta where a comment names them. */
typedef enum {
    GATED_SIGMOID,
    GATED_TANH,
    GATED_RELU,
    GATED_LINEAR,
    GATED_AFFINE,           /* alpha x + beta */
    GATED_HARD_SIGMOID,     /* alpha x + beta, clipped to 0..1; Keras 2 and ONNX 0.2, 0.5; Keras 3 1/6, 0.5 */
    GATED_LEAKY_RELU,       /* alpha x below 0 */
    GATED_THRESHOLDED_RELU, /* x above alpha, else 0 */
    GATED_SCALED_TANH,      /* alpha tanh(beta x) */
    GATED_ELU,              /* alpha (exp(x) - 1) below 0 */
    GATED_SELU,
    GATED_CELU,             /* alpha (exp(x / alpha) - 1) below 0 */
    GATED_SOFTSIGN,
    GATED_SOFTPLUS,
    GATED_EXPONENTIAL,
    GATED_SILU,
    GATED_HARD_SILU,
    GATED_GELU,
    GATED_GELU_TANH,        /* the approximation by tanh */
    GATED_MISH,
    GATED_RELU6,
    GATED_HARD_TANH,
    GATED_LOG_SIGMOID,
    GATED_TANH_SHRINK,
    GATED_SOFT_SHRINK,      /* x - alpha sign(x) outside -alpha..alpha, else 0 */
    GATED_HARD_SHRINK,      /* 0 inside -alpha..alpha */
    GATED_SQUAREPLUS        /* (x + sqrt(x^2 + alpha)) / 2 */
} gated_function;

typedef struct {
    gated_function function;
    float alpha, beta;
} gated_activation;

/* What one direction of a layer does beyond PyTorch's cell. */
typedef struct {
    gated_activation activation[3]; /* LSTM f g h, GRU f g, RNN f, in ONNX's letters */
    float clip;                     /* bounds the inputs of activations to -clip..clip; 0 for none */
    int clip_output;                /* LSTM: the input of h as well (ONNX); 0 leaves it alone (ONNX Runtime) */
    int input_forget;               /* LSTM: f = 1 - i, the forget weights are not used */
} gated_options;

/* Gates of a cell, and whether it carries a second state c. */
int gated_cell_gates(gated_cell cell);
int gated_cell_has_c(gated_cell cell);

/* Weights of one direction of one layer, row-major as PyTorch keeps them. Read during gated_model_create only. */
typedef struct {
    const float *weight_ih;  /* [G*H, C] */
    const float *weight_hh;  /* [G*H, P if there is a projection, else H] */
    const float *bias_ih;    /* [G*H], or NULL for zeros */
    const float *bias_hh;    /* [G*H], or NULL for zeros */
    const float *weight_hr;  /* [P, H], or NULL without projection */
    const float *peephole;   /* LSTM: [3*H], of i f o; NULL without */
    const gated_options *options; /* NULL for PyTorch's cell; GATED_RNN and peepholes need it */
} gated_weights;

/* One recurrent layer: a cell, in one or two directions. */
typedef struct {
    gated_cell cell;
    int input_size;           /* C: D * (P or H) of the layer before */
    int hidden_size;          /* H */
    int proj_size;            /* P, 0 for no projection; LSTM only */
    int num_directions;       /* D: 1 or 2 */
    gated_weights weights[2]; /* forward, reverse */
    int reverse;              /* with D = 1: from the last step to the first; y stays in the order of time */
} gated_recurrent;

/* Elements of a model. Between them run sequences of steps, or vectors, which are sequences of one step. F: features. */
typedef enum {
    GATED_STACK,        /* recurrent layers on top of each other */
    GATED_EMBEDDING,    /* row id of weight [count, F]; the first element only. `flag`: steps of id 0 do not count */
    GATED_DENSE,        /* activation(weight x + bias): weight [F, input] */
    GATED_CONV,         /* causal over time: weight [F, count taps, input], `dilation` steps apart, the last on the step */
    GATED_ELEMENTWISE,  /* activation(x) */
    GATED_SCALE,        /* weight * x + bias, each [F] */
    GATED_LAYER_NORM,   /* (x - mean) / sqrt(variance + value), then times weight and plus bias if they are there */
    GATED_SOFTMAX,      /* over the features */
    GATED_LOG_SOFTMAX,
    GATED_MERGE_SUM,    /* of the first and second half of the features */
    GATED_MERGE_MUL,
    GATED_MERGE_AVE,
    GATED_SLICE,        /* F features from number `count` on */
    GATED_MASKING,      /* steps whose features all equal `value` do not count and become 0 */
    GATED_UNMASK,       /* every step counts again */
    GATED_FLIP,         /* the time axis back to front */
    GATED_FLIP_MASK,    /* the same for which steps count only */
    GATED_POOL_LAST,    /* to a vector: the last step that counts, */
    GATED_POOL_FIRST,   /* the first, */
    GATED_POOL_MEAN,    /* their mean, */
    GATED_POOL_MAX,     /* their maximum, */
    GATED_POOL_FINAL,   /* the last, and of its last `count` features the first; all 0 for a row without such steps */
    GATED_REPEAT,       /* a vector to `count` equal steps */
    GATED_RESHAPE       /* the T x input numbers of a row to `count` x F; every step counts */
} gated_kind;

/* y of a stack at steps that do not count. */
typedef enum {
    GATED_ZERO,
    GATED_REPEAT_OUTPUT, /* that of the step before in the order of processing, zero before the first */
    GATED_REPEAT_INITIAL /* the same, but the initial h before the first */
} gated_masked;

/* One element of a model; 0 and NULL where a kind has no use for a field. Read during gated_model_create only. */
typedef struct {
    gated_kind kind;
    int input_size, output_size;  /* features; input_size 1 for ids */
    const gated_recurrent *stack; /* [count] of GATED_STACK */
    int count;
    gated_masked masked;
    const float *weight, *bias;
    gated_activation activation;
    float value;
    int dilation;
    int flag;
} gated_layer;

typedef struct gated_model gated_model;
typedef struct gated_stream gated_stream;

/* Packs the weights of a chain of layers for the chosen instruction set. Free with gated_model_free(NULL is fine). */
gated_status gated_model_create(const gated_layer *layers, int num_layers, gated_model **model);
void gated_model_free(gated_model *model);

/* The same from a .gated file. Nothing of the file is kept; while it is read, nobody may make it shorter. Any file
 * whatever ends in a model or a status: GATED_NO_FILE, GATED_BAD_FILE, GATED_UNSUPPORTED_FILE or those of
 * gated_model_create. Memory is a small multiple of the file's size. */
gated_status gated_model_open(const char *path, gated_model **model);

/* What a model takes and gives. */
typedef struct {
    int input_size;        /* C, features of x; 1 for ids */
    int output_size;       /* F, features of y */
    int takes_ids;         /* x is int32_t ids below this; 0: x is float */
    int gives_vector;      /* y is one step, whatever x has */
    int streamable;        /* gated_stream_create works */
    int64_t input_steps;   /* T that x must have, 1 for a vector; 0 for any */
    int64_t output_steps;  /* T of y; 0 for that of x */
} gated_model_info;

void gated_model_describe(const gated_model *model, gated_model_info *info);

/* Bytes of packed weights. */
size_t gated_model_bytes(const gated_model *model);

/* Floats of the state of `batch` rows. Stack after stack: h [L*D, N, P or H], then for LSTM c [L*D, N, H]; directions
 * forward, reverse. */
size_t gated_state_size(const gated_model *model, int64_t batch);

/* One forward pass. Describe ragged batches by at most one of lengths, mask and batch_sizes; a row's steps beyond its
 * length, or masked, leave its state alone and set y to zero. The reverse direction starts at each row's last live step.
 * x, y and state must not overlap. */
typedef struct {
    int64_t seq_len;              /* T of x, may be 0; 1 for a vector */
    int64_t batch;                /* N, may be 0 */
    const void *x;                /* float x[t*x_time + n*x_row + c]; of a model that begins with an embedding int32_t ids
                                     x[t*x_time + n*x_row] */
    ptrdiff_t x_time, x_row;
    float *y;                     /* y[t*y_time + n*y_row + j], j < F, for all steps of the result */
    ptrdiff_t y_time, y_row;
    float *state;                 /* [gated_state_size()], initial on entry, final on return */
    const int64_t *lengths;       /* [N], 0..T in any order, or NULL */
    const unsigned char *mask;    /* mask[t*mask_time + n*mask_row], 0 = skip, or NULL; strides in bytes */
    ptrdiff_t mask_time, mask_row;
    const int64_t *batch_sizes;   /* [T], not rising, first = N; or NULL. Only for a model of one stack. Then x and y are
                                     packed time-major: step t has batch_sizes[t] rows, x_row and y_row apart; x_time
                                     and y_time are ignored. */
} gated_sequence;

/* Allocates scratch that does not grow with T, except between layers where a reverse direction or GATED_FLIP needs the
 * whole sequence, and for which steps count (a mask: 5 bytes a step and row). GATED_BAD_INDEX leaves y and state as
 * they were. */
gated_status gated_run(const gated_model *model, const gated_sequence *sequence);

/* Live state of `batch` rows with all the scratch it needs; the model must outlive it. Fails with GATED_NOT_STREAMABLE
 * for models with a reverse direction or another layer that needs the whole sequence. The state starts at zero. */
gated_status gated_stream_create(const gated_model *model, int64_t batch, gated_stream **stream);
void gated_stream_free(gated_stream *stream);

/* The stream's own state, laid out as by gated_state_size(), to read and write until the next step or run. */
float *gated_stream_state(gated_stream *stream);

/* Back to zero, for the rows n with rows[n] != 0, or all if rows is NULL: the state, and what pools and convolutions keep. */
void gated_stream_reset(gated_stream *stream, const unsigned char *rows);

/* One tick: x [N, C], or int32_t ids [N], to y [N, F], contiguous; they may overlap. A pool gives what it has of the steps
 * so far. Allocates nothing, locks nothing, makes no system call. Fails with GATED_BAD_INDEX only, and then does nothing. */
gated_status gated_stream_step(gated_stream *stream, const void *x, float *y);

/* `steps` ticks: x[t*x_time + n*x_row + c], y likewise; the bits of that many calls of step. Allocates nothing. */
gated_status gated_stream_run(gated_stream *stream, int64_t steps, const void *x, ptrdiff_t x_time, ptrdiff_t x_row,
                              float *y, ptrdiff_t y_time, ptrdiff_t y_row);

/* Instruction sets of this build, slowest first, the chosen one being the last usable unless the environment variable
 * GATED_C_ISA names another. `index` from 0; NULL past the end. */
typedef struct {
    const char *name;
    int lanes;     /* float32 values in its widest vector */
    int usable;    /* this CPU has it */
    int exact;     /* within the promise of equal bits: it has FMA */
} gated_isa_info;

const gated_isa_info *gated_isa(int index);
gated_status gated_isa_chosen(const gated_isa_info **isa);

/* An activation as the cells compute it on instruction set `isa`: y[i] = f(x[i]). */
gated_status gated_activate(const char *isa, const gated_activation *activation, const float *x, float *y, ptrdiff_t n);

#ifdef __cplusplus
}
#endif

#endif
