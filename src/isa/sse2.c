/* The x86-64 baseline. Without FMA, so outside the promise of equal bits. */
#ifdef __FMA__
#error "sse2.c is being compiled with FMA"
#endif
#define TABLE        sse2
#define LANES        4
#define ROWS         2
#define MAX_GROUP    2
#define STREAM_GROUP 2
#define HAS_FLOAT32
#define HAS_BFLOAT16
#define HAS_INT8
#include "../kernels/body.h"
