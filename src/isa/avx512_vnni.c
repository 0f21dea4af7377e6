/* 8-bit integers with the instruction for their products. */
#ifndef __AVX512VNNI__
#error "avx512_vnni.c is being compiled without AVX-512 VNNI"
#endif
#define TABLE        avx512_vnni
#define LANES        16
#define ROWS         6
#define MAX_GROUP    5
#define STREAM_GROUP 1
#define CELLS_OF     avx512
#define HAS_INT8
#include "../kernels/body.h"
