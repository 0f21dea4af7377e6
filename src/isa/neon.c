#if !defined(__ARM_NEON) || !defined(__ARM_FEATURE_FMA)
#error "neon.c is being compiled without Advanced SIMD"
#endif
#define TABLE        neon
#define LANES        4
#define ROWS         6
#define MAX_GROUP    5
#define STREAM_GROUP 4
#define HAS_FLOAT32
#define HAS_BFLOAT16
#define HAS_INT8
#include "../kernels/body.h"
