#if !defined(__AVX2__) || !defined(__FMA__) || defined(__AVX512F__)
#error "avx2.c is being compiled without AVX2 and FMA, or with more"
#endif
#define TABLE        avx2
#define LANES        8
#define ROWS         3
#define MAX_GROUP    2
#define STREAM_GROUP 2
#define HAS_FLOAT32
#define HAS_BFLOAT16
#define HAS_INT8
#include "../kernels/body.h"
