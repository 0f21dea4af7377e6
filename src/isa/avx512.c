#ifndef __AVX512F__
#error "avx512.c is being compiled without AVX-512"
#endif
#define TABLE        avx512
#define LANES        16
#define ROWS         6
#define MAX_GROUP    5
#define STREAM_GROUP 1
#define HAS_FLOAT32
#define HAS_BFLOAT16
#define HAS_INT8
#include "../kernels/body.h"
