/* Products of bfloat16 pairs, for CPUs that have them beyond the level's instructions. */
#ifndef __AVX512BF16__
#error "avx512_bf16.c is being compiled without AVX512-BF16"
#endif
#define TABLE        avx512_bf16
#define LANES        16
#define ROWS         6
#define MAX_GROUP    5
#define STREAM_GROUP 1
#define CELLS_OF     avx512
#define HAS_BFLOAT16_DOT
#include "../kernels/body.h"
