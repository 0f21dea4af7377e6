/* 256-bit vectors with AVX-512's 32 registers: less padding where H leaves a half vector over. */
#ifndef __AVX512VL__
#error "avx512_half.c is being compiled without AVX-512VL"
#endif
#define TABLE        avx512_half
#define LANES        8
#define ROWS         6
#define MAX_GROUP    5
#define STREAM_GROUP 2
#define HAS_FLOAT32
#define HAS_BFLOAT16
#define HAS_INT8
#include "../kernels/body.h"
