/* gated_c: forward passes of LSTM, GRU and RNN networks on a CPU.
 *
 * Words: T time steps, N rows of a batch, C input features, H hidden units, P projected units, G gates, L layers,
 * D directions. All numbers are float32, all strides count floats, all buffers are the caller's unless a line says so.
 *
 * A model is immutable: any number of threads may use one at once. A stream belongs to one thread at a time.
 * Every function that can fail returns a gated_status and leaves its outputs untouched when it does. None prints, ends the
 * process, or keeps a pointer to what it was given unless a comment says so. Pointers are not NULL unless a comment allows it.
 *
 * "Real-time safe" means: allocates nothing, locks nothing, makes no system call and takes bounded time.
 *
 * The result of a row depends on the model, that row's input and its initial state only: not on the batch around it,
 * nor on how a sequence is cut into calls, nor (with FMA) on the CPU. A NaN stays NaN, with bits of its own. The caller's
 * rounding mode applies, and its flush-to-zero mode to a model without GATED_FLUSH_SUBNORMALS.
 */
#ifndef GATED_C_H
#define GATED_C_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define GATED_API __attribute__((visibility("default")))
#else
#define GATED_API
#endif

/* Rises with every change that breaks programs compiled against an older header; new functions do not. It is part of the
 * shared library's name, libgated_c.so.<version>, so that a program never loads one that it does not fit. */
#define GATED_ABI_VERSION 1

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    GATED_OK = 0,
    GATED_NO_MEMORY,        /* an allocation failed */
    GATED_BAD_SIZE,         /* a size is out of range, or does not fit its neighbours; a description makes no sense */
    GATED_BAD_LENGTH,       /* a length is negative or beyond seq_len, batch_sizes rises, or the model takes another seq_len */
    GATED_BAD_INDEX,        /* an id is negative or beyond its embedding */
    GATED_NOT_STREAMABLE,   /* a reverse direction needs the end of the sequence first */
    GATED_NOT_RESETTABLE,   /* a pool or another layer makes one result of steps before and after a reset */
    GATED_UNKNOWN_ISA,      /* GATED_C_ISA names an instruction set that this build does not have */
    GATED_UNUSABLE_ISA,     /* GATED_C_ISA names an instruction set that this CPU does not have */
    GATED_NO_FILE,          /* a file cannot be opened or is not a regular one; errno says why */
    GATED_BAD_FILE,         /* a file is broken, cut short or altered, or not a .gated file */
    GATED_UNSUPPORTED_FILE, /* a file is of a newer version than this library, or the machine is big-endian */
    GATED_POOL_FULL,        /* every member of the pool is open */
    GATED_UNKNOWN_ID,       /* never a member of this pool, or closed since */
    GATED_REPEATED_ID,      /* twice in one call */
    GATED_BAD_SNAPSHOT,     /* not a snapshot, or damaged */
    GATED_FOREIGN_SNAPSHOT  /* of a model with other layers, sizes or options */
} gated_status;

/* The GATED_ABI_VERSION of the library itself. Real-time safe. */
GATED_API int gated_abi_version(void);

/* A sentence for a status, also for one that does not exist; static storage. Real-time safe. */
GATED_API const char *gated_status_string(gated_status status);

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

/* Gates of a cell, and whether it carries a second state c. Real-time safe. */
GATED_API int gated_cell_gates(gated_cell cell);
GATED_API int gated_cell_has_c(gated_cell cell);

/* Weights of one direction of one layer, row-major as PyTorch keeps them. Read during gated_model_create only. */
typedef struct {
    const float *weight_ih;  /* [G*H, C] */
    const float *weight_hh;  /* [G*H, P if there is a projection, else H] */
    const float *bias_ih;    /* [G*H], or NULL for zeros */
    const float *bias_hh;    /* [G*H], or NULL for zeros */
    const float *weight_hr;  /* [P, H], or NULL without projection */
    const float *peephole;   /* LSTM: [3*H], of i f o; NULL without */
    const gated_options *options; /* NULL for PyTorch's cell; GATED_RNN and peepholes need it */
    const float *initial_h;  /* [P or H], what a sequence starts from unless it is told otherwise; NULL for zeros */
    const float *initial_c;  /* [H], likewise; only of a cell that has a c */
    float h_limit;           /* GATED_INT8: |h| as far as 8-bit integers reach, beyond which it saturates; 0 for what follows
                                from the cell: 1 where h is bounded by it, else the largest |h| of each step */
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
    GATED_REPEAT,       /* a vector to `count` equal steps, all of which count */
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

/* What a model can be told, to be added up. */
enum {
    GATED_FLUSH_SUBNORMALS = 1, /* Numbers below 1.2e-38 become 0 (FTZ and DAZ), for the length of each call: a state that
                                  fades in silence then costs no more than another. x86 and ARM may take a different side
                                  of that border. */
    GATED_BFLOAT16 = 2,         /* The weights of recurrent layers are rounded to bfloat16; all arithmetic is float32. */
    GATED_BFLOAT16_DOT = 4,     /* With GATED_BFLOAT16: so are x and h on their way into products, where the CPU multiplies
                                  bfloat16; its bits are then those of that CPU's instruction. Elsewhere without effect. */
    GATED_INT8 = 8,             /* The weights of recurrent layers are rounded to 8-bit integers, one scale a row; products
                                  are exact integers of those and of x and h, rounded alike. */
    GATED_INPUTS_FLOAT32 = 16,  /* With GATED_INT8: products of x stay float32, */
    GATED_INPUTS_BFLOAT16 = 32, /* or have weights of bfloat16. */
    GATED_ALL_FLAGS = 63
};

/* Packs the weights of a chain layers[num_layers] for the chosen instruction set; they may be freed afterwards. `flags`: of
 * those above, or 0. *model is the caller's, to free with gated_model_free (NULL is fine) after all its streams. Fails with
 * GATED_BAD_SIZE, GATED_NO_MEMORY, GATED_UNKNOWN_ISA or GATED_UNUSABLE_ISA. */
GATED_API gated_status gated_model_create(const gated_layer *layers, int num_layers, unsigned flags, gated_model **model);
GATED_API void gated_model_free(gated_model *model);

/* All weights of a model as the kernels read them, to keep and create the same model again without packing: from equal
 * layers, on the instruction set of the same name, by a library with the same GATED_PACKING. */
typedef struct {
    const float *data;     /* on a multiple of GATED_PACKED_ALIGNMENT bytes */
    size_t floats;
} gated_packed;

enum {
    GATED_PACKING = 2,           /* rises whenever the same weights are packed in another way */
    GATED_PACKED_ALIGNMENT = 64
};

/* Those of a model, valid while it lives. Real-time safe. */
GATED_API void gated_model_packed(const gated_model *model, gated_packed *packed);

/* gated_model_create, with weights that are packed already: they are used where they are, and must outlive the model, the
 * layers' own are not read. Also fails with GATED_BAD_SIZE if there are not as many as these layers have, or they are not
 * aligned. What they are is not checked: others give other results. NULL packs the layers' own. */
GATED_API gated_status gated_model_create_packed(const gated_layer *layers, int num_layers, unsigned flags,
                                                 const gated_packed *packed, gated_model **model);

/* The same from a .gated file. If that holds weights packed for the chosen instruction set (`gated-c convert --packed`), it
 * stays mapped while the model lives, so that all processes share them, and nobody may change it; otherwise nothing of
 * it is kept, and while it is read, nobody may make it shorter. Any file whatever ends in a model or a status: GATED_NO_FILE, GATED_BAD_FILE, GATED_UNSUPPORTED_FILE or those of
 * gated_model_create. Memory is a small multiple of the file's size. */
GATED_API gated_status gated_model_open(const char *path, gated_model **model);

/* What a model takes and gives. Real-time safe. */
typedef struct {
    int input_size;        /* C, features of x; 1 for ids */
    int output_size;       /* F, features of y */
    int takes_ids;         /* x is int32_t ids below this; 0: x is float */
    int gives_vector;      /* y is one step, whatever x has */
    int streamable;        /* gated_stream_create works */
    int64_t input_steps;   /* T that x must have, 1 for a vector; 0 for any */
    int64_t output_steps;  /* T of y; 0 for that of x */
} gated_model_info;

GATED_API void gated_model_describe(const gated_model *model, gated_model_info *info);

/* Bytes of packed weights. Real-time safe. */
GATED_API size_t gated_model_bytes(const gated_model *model);

/* Floats of the state of `batch` rows. Stack after stack: h [L*D, N, P or H], then for LSTM c [L*D, N, H]; directions
 * forward, reverse. Real-time safe. */
GATED_API size_t gated_state_size(const gated_model *model, int64_t batch);

/* Sets a state [gated_state_size()] to the initial one of the model: zeros, or what its weights say. Real-time safe. */
GATED_API void gated_state_init(const gated_model *model, int64_t batch, float *state);

/* Floats of the traces of a sequence: every c and gate of every stack, see gated_sequence. */
GATED_API size_t gated_trace_c_size(const gated_model *model, int64_t seq_len, int64_t batch);
GATED_API size_t gated_trace_gates_size(const gated_model *model, int64_t seq_len, int64_t batch);

/* One forward pass. Describe ragged batches by at most one of lengths, mask and batch_sizes; a row's steps beyond its
 * length, or masked, leave its state alone and set y to zero. The reverse direction starts at each row's last live step.
 * x, y and state must not overlap. */
typedef struct {
    int threads;                  /* at most so many, the caller's one of them; 0: as many as pay for this work */
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
    const int64_t *batch_sizes;   /* [T], not rising, first = N; or NULL. Only for a model of one stack with GATED_ZERO,
                                     else GATED_BAD_SIZE. Then x and y are packed time-major: step t has batch_sizes[t]
                                     rows, x_row and y_row apart; x_time and y_time are ignored. */
    const unsigned char *reset;   /* reset[t*reset_time + n*reset_row], not 0 = a new sequence begins with that step of
                                     that row; or NULL; strides in bytes */
    ptrdiff_t reset_time, reset_row;
    const float *initial;         /* what a reset goes back to, laid out as state; NULL for the model's own */
    float *trace_c;               /* [gated_trace_c_size()] or NULL: every c, of a stack [L*D, T, N, H], stack after stack */
    float *trace_gates;           /* [gated_trace_gates_size()] or NULL: every gate behind its activation, of a stack
                                     [L*D, T, N, G, H]. Both are 0 at steps that do not count. */
} gated_sequence;

/* A reset cuts a row's sequence in two, with the bits of two calls: `state` is that before the first piece and after the
 * last one, in a reverse direction before the last and after the first; all others begin with the initial state. A piece of
 * which no step counts is one too. A reset at step 0 replaces `state`, not in a reverse direction.
 *
 * Allocates scratch that does not grow with T, except between layers where a reverse direction or GATED_FLIP needs the
 * whole sequence, for which steps count (a mask: 5 bytes a step and row) and for resets (16 bytes a step and up to 40
 * each). Fails with GATED_BAD_SIZE, GATED_BAD_LENGTH, GATED_BAD_INDEX, GATED_NOT_RESETTABLE for resets of a model with a
 * pool, a flip, a repeat or a reshape, or with GATED_NO_MEMORY, which alone may leave y and state half done. */
GATED_API gated_status gated_run(const gated_model *model, const gated_sequence *sequence);

/* Live state of `batch` rows with all the scratch it needs; the model must outlive it. Fails with GATED_NOT_STREAMABLE
 * for models with a reverse direction or another layer that needs the whole sequence, GATED_BAD_SIZE or GATED_NO_MEMORY.
 * Starts with gated_state_init(). *stream is the caller's, to free with gated_stream_free (NULL is fine). */
GATED_API gated_status gated_stream_create(const gated_model *model, int64_t batch, gated_stream **stream);
GATED_API void gated_stream_free(gated_stream *stream);

/* The stream's own state, laid out as by gated_state_size(), to read and write until the next step or run. Real-time safe. */
GATED_API float *gated_stream_state(gated_stream *stream);

/* Back to the start, for the rows n with rows[n] != 0, or all if rows is NULL: the state to the initial one, what pools and
 * convolutions keep to zero. Real-time safe. */
GATED_API void gated_stream_reset(gated_stream *stream, const unsigned char *rows);

/* Reads all weights and writes all scratch once, so that no later step or run meets a cold page; the state stays as it is.
 * Takes as long as a run of up to 128 steps. Fails with GATED_NO_MEMORY. */
GATED_API gated_status gated_stream_warm(gated_stream *stream);

/* One tick: x [N, C], or int32_t ids [N], to y [N, F], contiguous; they may overlap. A pool gives what it has of the steps
 * so far; y of a step that does not count is zero. Fails with GATED_BAD_INDEX only, and then does nothing. Real-time
 * safe. */
GATED_API gated_status gated_stream_step(gated_stream *stream, const void *x, float *y);

/* `steps` ticks: x[t*x_time + n*x_row + c], or int32_t ids x[t*x_time + n*x_row], to y[t*y_time + n*y_row + j]; the bits of
 * that many calls of step. x and y must not overlap. Fails like step, and with GATED_BAD_SIZE for negative steps. Its time
 * grows with `steps`, otherwise real-time safe. */
GATED_API gated_status gated_stream_run(gated_stream *stream, int64_t steps, const void *x, ptrdiff_t x_time, ptrdiff_t x_row,
                                        float *y, ptrdiff_t y_time, ptrdiff_t y_row);

/* A snapshot: all that one row keeps (state, what pools and convolutions have seen) as gated_snapshot_size() bytes, the same
 * for a row of any stream and a member of any pool; exact, between processes too, if they have the same order of bytes. It
 * fits any model of the same layers, sizes and options, whatever its weights and instruction set. Real-time safe. */
GATED_API size_t gated_snapshot_size(const gated_model *model);

/* GATED_BAD_SNAPSHOT if `size` bytes are not one whole snapshot; GATED_FOREIGN_SNAPSHOT if it does not fit the model, unless
 * that is NULL. Real-time safe. */
GATED_API gated_status gated_snapshot_check(const gated_model *model, const void *bytes, size_t size);

/* A row of a stream to and from the caller's bytes [gated_snapshot_size()]. GATED_BAD_SIZE for a row out of range; restore
 * also fails as gated_snapshot_check does. Real-time safe. */
GATED_API gated_status gated_stream_save(gated_stream *stream, int64_t row, void *bytes);
GATED_API gated_status gated_stream_restore(gated_stream *stream, int64_t row, const void *bytes);

/* Streams of one row that come and go: any of them tick at any time, in any order, in one pass over the weights. An id is
 * positive, belongs to one member of one pool, and is unknown once that is closed. A pool belongs to one thread at a time.
 * A negative `count` is GATED_BAD_SIZE; with 0 the arrays may be NULL. */
typedef struct gated_pool gated_pool;

/* Memory for `capacity` members and their scratch; the model must outlive it. Fails as gated_stream_create does. *pool is
 * the caller's, to free with gated_pool_free (NULL is fine). */
GATED_API gated_status gated_pool_create(const gated_model *model, int64_t capacity, gated_pool **pool);
GATED_API void gated_pool_free(gated_pool *pool);

/* As gated_stream_warm: reads all weights and writes all scratch once, so that no later step meets a cold page; all members
 * stay as they are. Takes as long as a few ticks of `capacity` members. Fails with GATED_NO_MEMORY. */
GATED_API gated_status gated_pool_warm(gated_pool *pool);

/* A member at its start. GATED_POOL_FULL if `capacity` are open. Real-time safe. */
GATED_API gated_status gated_pool_open(gated_pool *pool, int64_t *id);

/* Members that go on from where others are: ids [count], which may repeat, to forks [count], which may be ids. All or none:
 * GATED_UNKNOWN_ID, GATED_POOL_FULL. Real-time safe. */
GATED_API gated_status gated_pool_fork(gated_pool *pool, int64_t count, const int64_t *ids, int64_t *forks);

/* Closes, or sends back to the start, all of ids [count] or none: GATED_UNKNOWN_ID, GATED_REPEATED_ID. Real-time safe. */
GATED_API gated_status gated_pool_close(gated_pool *pool, int64_t count, const int64_t *ids);
GATED_API gated_status gated_pool_reset(gated_pool *pool, int64_t count, const int64_t *ids);

/* One tick of the members ids [count]: x [count, C], or int32_t ids of an embedding [count], to y [count, F], contiguous;
 * they may overlap. Each has the bits of a stream of its own. GATED_UNKNOWN_ID, GATED_REPEATED_ID and GATED_BAD_INDEX
 * change nothing. Real-time safe. */
GATED_API gated_status gated_pool_step(gated_pool *pool, int64_t count, const int64_t *ids, const void *x, float *y);

/* How many members are open; whether one is. Real-time safe. */
GATED_API int64_t gated_pool_count(const gated_pool *pool);
GATED_API int gated_pool_has(const gated_pool *pool, int64_t id);

/* Returns how many members have neither ticked nor been opened for so many seconds, to a hundredth or so, and writes them
 * to ids [capacity]. 0 seconds: all that are open. Real-time safe. */
GATED_API int64_t gated_pool_idle(const gated_pool *pool, double seconds, int64_t *ids);

/* A member to and from bytes, as a row of a stream; GATED_UNKNOWN_ID. Real-time safe. */
GATED_API gated_status gated_pool_save(gated_pool *pool, int64_t id, void *bytes);
GATED_API gated_status gated_pool_restore(gated_pool *pool, int64_t id, const void *bytes);

/* Instruction sets of this build, slowest first, the chosen one being the last usable unless the environment variable
 * GATED_C_ISA names another. `index` from 0; NULL past the end. Static storage. */
typedef struct {
    const char *name;
    int lanes;     /* float32 values in its widest vector */
    int usable;    /* this CPU has it */
    int exact;     /* within the promise of equal bits: it has FMA */
} gated_isa_info;

GATED_API const gated_isa_info *gated_isa(int index);
GATED_API gated_status gated_isa_chosen(const gated_isa_info **isa); /* GATED_UNKNOWN_ISA, GATED_UNUSABLE_ISA */

/* Threads that a call with gated_sequence.threads = 0 may have at most: cores that the calling thread may run on, within the
 * CPU quota of its cgroup and OMP_NUM_THREADS; 1 in a process that was forked since the library was loaded. */
GATED_API int gated_threads(void);

/* The runtime of OpenMP that threads come from, as it was found by name, "libgomp.so.1" or LLVM's; NULL if there is none:
 * then every call runs on one thread. Loads it, as the first call that wants threads does, but not in a process that was
 * forked since the library was loaded. Static storage. */
GATED_API const char *gated_openmp(void);

/* An activation as the cells compute it on instruction set `isa`: y[i] = f(x[i]), i < n. Fails like
 * gated_isa_chosen. */
GATED_API gated_status gated_activate(const char *isa, const gated_activation *activation, const float *x, float *y, ptrdiff_t n);

#ifdef __cplusplus
}
#endif

#endif
