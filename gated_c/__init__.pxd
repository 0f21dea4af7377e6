"""`cimport gated_c`: the calls of gated_c.h, line for line, without the GIL; that header is the manual.

An extension that uses them compiles with gated_c.get_include() and links to gated_c.get_library(). It finds that
library once gated_c is imported, so import gated_c before it.
"""
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stddef cimport ptrdiff_t, size_t
from libc.stdint cimport int64_t


cdef extern from "gated_c.h" nogil:
    ctypedef enum gated_status:
        GATED_OK
        GATED_NO_MEMORY
        GATED_BAD_SIZE
        GATED_BAD_LENGTH
        GATED_BAD_INDEX
        GATED_NOT_STREAMABLE
        GATED_NOT_RESETTABLE
        GATED_UNKNOWN_ISA
        GATED_UNUSABLE_ISA
        GATED_NO_FILE
        GATED_BAD_FILE
        GATED_UNSUPPORTED_FILE
        GATED_POOL_FULL
        GATED_UNKNOWN_ID
        GATED_REPEATED_ID
        GATED_BAD_SNAPSHOT
        GATED_FOREIGN_SNAPSHOT

    int GATED_ABI_VERSION
    int gated_abi_version()

    const char *gated_status_string(gated_status status)

    ctypedef enum gated_cell:
        GATED_LSTM
        GATED_GRU
        GATED_RNN_TANH
        GATED_RNN_RELU
        GATED_GRU_RESET_BEFORE
        GATED_RNN

    int gated_cell_gates(gated_cell cell)
    int gated_cell_has_c(gated_cell cell)

    ctypedef enum gated_function:
        GATED_SIGMOID
        GATED_TANH
        GATED_RELU
        GATED_LINEAR
        GATED_AFFINE
        GATED_HARD_SIGMOID
        GATED_LEAKY_RELU
        GATED_THRESHOLDED_RELU
        GATED_SCALED_TANH
        GATED_ELU
        GATED_SELU
        GATED_CELU
        GATED_SOFTSIGN
        GATED_SOFTPLUS
        GATED_EXPONENTIAL
        GATED_SILU
        GATED_HARD_SILU
        GATED_GELU
        GATED_GELU_TANH
        GATED_MISH
        GATED_RELU6
        GATED_HARD_TANH
        GATED_LOG_SIGMOID
        GATED_TANH_SHRINK
        GATED_SOFT_SHRINK
        GATED_HARD_SHRINK
        GATED_SQUAREPLUS

    ctypedef struct gated_activation:
        gated_function function
        float alpha
        float beta

    ctypedef struct gated_options:
        gated_activation activation[3]
        float clip
        int clip_output
        int input_forget

    ctypedef struct gated_weights:
        const float *weight_ih
        const float *weight_hh
        const float *bias_ih
        const float *bias_hh
        const float *weight_hr
        const float *peephole
        const gated_options *options
        const float *initial_h
        const float *initial_c
        float h_limit

    ctypedef struct gated_recurrent:
        gated_cell cell
        int input_size
        int hidden_size
        int proj_size
        int num_directions
        gated_weights weights[2]
        int reverse

    ctypedef enum gated_kind:
        GATED_STACK
        GATED_EMBEDDING
        GATED_DENSE
        GATED_CONV
        GATED_ELEMENTWISE
        GATED_SCALE
        GATED_LAYER_NORM
        GATED_SOFTMAX
        GATED_LOG_SOFTMAX
        GATED_MERGE_SUM
        GATED_MERGE_MUL
        GATED_MERGE_AVE
        GATED_SLICE
        GATED_MASKING
        GATED_UNMASK
        GATED_FLIP
        GATED_FLIP_MASK
        GATED_POOL_LAST
        GATED_POOL_FIRST
        GATED_POOL_MEAN
        GATED_POOL_MAX
        GATED_POOL_FINAL
        GATED_REPEAT
        GATED_RESHAPE

    ctypedef enum gated_masked:
        GATED_ZERO
        GATED_REPEAT_OUTPUT
        GATED_REPEAT_INITIAL

    ctypedef struct gated_layer:
        gated_kind kind
        int input_size
        int output_size
        const gated_recurrent *stack
        int count
        gated_masked masked
        const float *weight
        const float *bias
        gated_activation activation
        float value
        int dilation
        int flag

    ctypedef struct gated_model:
        pass

    ctypedef struct gated_stream:
        pass

    enum:
        GATED_FLUSH_SUBNORMALS
        GATED_BFLOAT16
        GATED_BFLOAT16_DOT
        GATED_INT8
        GATED_INPUTS_FLOAT32
        GATED_INPUTS_BFLOAT16
        GATED_ALL_FLAGS

    gated_status gated_model_create(const gated_layer *layers, int num_layers, unsigned flags, gated_model **model)
    void gated_model_free(gated_model *model)

    ctypedef struct gated_packed:
        const float *data
        size_t floats

    int GATED_PACKING
    int GATED_PACKED_ALIGNMENT

    void gated_model_packed(const gated_model *model, gated_packed *packed)
    gated_status gated_model_create_packed(const gated_layer *layers, int num_layers, unsigned flags,
                                           const gated_packed *packed, gated_model **model)
    gated_status gated_model_open(const char *path, gated_model **model)

    ctypedef struct gated_model_info:
        int input_size
        int output_size
        int takes_ids
        int gives_vector
        int streamable
        int64_t input_steps
        int64_t output_steps

    void gated_model_describe(const gated_model *model, gated_model_info *info)
    size_t gated_model_bytes(const gated_model *model)
    size_t gated_state_size(const gated_model *model, int64_t batch)
    void gated_state_init(const gated_model *model, int64_t batch, float *state)
    size_t gated_trace_c_size(const gated_model *model, int64_t seq_len, int64_t batch)
    size_t gated_trace_gates_size(const gated_model *model, int64_t seq_len, int64_t batch)

    ctypedef struct gated_sequence:
        int threads
        int64_t seq_len
        int64_t batch
        const void *x
        ptrdiff_t x_time
        ptrdiff_t x_row
        float *y
        ptrdiff_t y_time
        ptrdiff_t y_row
        float *state
        const int64_t *lengths
        const unsigned char *mask
        ptrdiff_t mask_time
        ptrdiff_t mask_row
        const int64_t *batch_sizes
        const unsigned char *reset
        ptrdiff_t reset_time
        ptrdiff_t reset_row
        const float *initial
        float *trace_c
        float *trace_gates

    gated_status gated_run(const gated_model *model, const gated_sequence *sequence)
    gated_status gated_stream_create(const gated_model *model, int64_t batch, gated_stream **stream)
    void gated_stream_free(gated_stream *stream)
    float *gated_stream_state(gated_stream *stream)
    void gated_stream_reset(gated_stream *stream, const unsigned char *rows)
    gated_status gated_stream_warm(gated_stream *stream)
    gated_status gated_stream_step(gated_stream *stream, const void *x, float *y)
    gated_status gated_stream_run(gated_stream *stream, int64_t steps, const void *x, ptrdiff_t x_time, ptrdiff_t x_row,
                                  float *y, ptrdiff_t y_time, ptrdiff_t y_row)

    size_t gated_snapshot_size(const gated_model *model)
    gated_status gated_snapshot_check(const gated_model *model, const void *bytes, size_t size)
    gated_status gated_stream_save(gated_stream *stream, int64_t row, void *bytes)
    gated_status gated_stream_restore(gated_stream *stream, int64_t row, const void *bytes)

    ctypedef struct gated_pool:
        pass

    gated_status gated_pool_create(const gated_model *model, int64_t capacity, gated_pool **pool)
    void gated_pool_free(gated_pool *pool)
    gated_status gated_pool_warm(gated_pool *pool)
    gated_status gated_pool_open(gated_pool *pool, int64_t *id)
    gated_status gated_pool_fork(gated_pool *pool, int64_t count, const int64_t *ids, int64_t *forks)
    gated_status gated_pool_close(gated_pool *pool, int64_t count, const int64_t *ids)
    gated_status gated_pool_reset(gated_pool *pool, int64_t count, const int64_t *ids)
    gated_status gated_pool_step(gated_pool *pool, int64_t count, const int64_t *ids, const void *x, float *y)
    int64_t gated_pool_count(const gated_pool *pool)
    int gated_pool_has(const gated_pool *pool, int64_t id)
    int64_t gated_pool_idle(const gated_pool *pool, double seconds, int64_t *ids)
    gated_status gated_pool_save(gated_pool *pool, int64_t id, void *bytes)
    gated_status gated_pool_restore(gated_pool *pool, int64_t id, const void *bytes)

    ctypedef struct gated_isa_info:
        const char *name
        int lanes
        int usable
        int exact

    const gated_isa_info *gated_isa(int index)
    gated_status gated_isa_chosen(const gated_isa_info **isa)
    int gated_threads()
    const char *gated_openmp()
    gated_status gated_activate(const char *isa, const gated_activation *activation, const float *x, float *y,
                                ptrdiff_t n)


cdef inline gated_model *model_of(model) except NULL:
    """The C model of a gated_c.Model: valid while that, or a handle of it, lives."""
    return <gated_model *>PyCapsule_GetPointer(model.handle, "gated_c.gated_model")


cdef inline gated_stream *stream_of(stream) except NULL:
    """The C stream of a gated_c.Stream: valid while that, or a handle of it, lives. Both are one state, and calls from
    C are not checked for use by two threads."""
    return <gated_stream *>PyCapsule_GetPointer(stream.handle, "gated_c.gated_stream")


cdef inline gated_pool *pool_of(pool) except NULL:
    """The C pool of a gated_c.Pool, likewise."""
    return <gated_pool *>PyCapsule_GetPointer(pool.handle, "gated_c.gated_pool")
