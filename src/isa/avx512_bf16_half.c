/* The same with 256-bit vectors, where avx512_half packs for them. */
#ifndef __AVX512BF16__
#error "avx512_bf16_half.c is being compiled without AVX512-BF16"
#endif
#define TABLE        avx512_bf16_half
#define LANES        8
#define ROWS         6
#define MAX_GROUP    5
#define STREAM_GROUP 2
#define CELLS_OF     avx512_half
#define HAS_BFLOAT16_DOT
#include "../kernels/body.h"
